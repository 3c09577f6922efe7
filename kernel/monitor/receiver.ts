/**
 * recvmsg with its control message, which says from which namespace a notification came.
 *
 *   struct msghdr: pointer name · u32 · pad · pointer iov · u64 count · pointer control · u64 length · i32 flags
 *   struct iovec: pointer base · u64 length          struct cmsghdr: u64 length · i32 level · i32 type · data
 *
 * Invariant: the three structures and the data live in one buffer that is never moved (64-bit machines only).
 */
import { NETLINK_LISTEN_ALL_NSID, SOL_NETLINK } from '../netlink/constants.ts'
import type { Libc } from '../netlink/libc.ts'

const MSG_DONTWAIT = 0x40
const IOVEC = 64
const CONTROL = 128
const CONTROL_BYTES = 128
const DATA = 256
const DATA_BYTES = 65536

export type Received =
  | { readonly bytes: Buffer; readonly size: number; readonly netnsId: number | null }
  | { readonly errno: number }

export class MessageReceiver {
  readonly #libc: Libc
  readonly #memory: Buffer
  readonly #data: Buffer
  readonly #address: bigint

  constructor(_options: object, modules: { libc: Libc }) {
    this.#libc = modules.libc
    this.#memory = Buffer.allocUnsafeSlow(DATA + DATA_BYTES)
    this.#data = this.#memory.subarray(DATA)
    this.#address = modules.libc.addressOf(this.#memory)
  }

  /** Never waits: errno EAGAIN says that there is nothing. The bytes are overwritten by the next call. */
  receive(fd: number): Received {
    this.#prepare()
    const size = this.#libc.recvmsg(fd, this.#memory, MSG_DONTWAIT)
    if (size < 0) return { errno: this.#libc.errno() }
    return { bytes: this.#data, size, netnsId: this.#netnsId() }
  }

  #prepare(): void {
    const memory = this.#memory
    memory.fill(0, 0, DATA)
    memory.writeBigUInt64LE(this.#address + BigInt(IOVEC), 16)
    memory.writeBigUInt64LE(1n, 24)
    memory.writeBigUInt64LE(this.#address + BigInt(CONTROL), 32)
    memory.writeBigUInt64LE(BigInt(CONTROL_BYTES), 40)
    memory.writeBigUInt64LE(this.#address + BigInt(DATA), IOVEC)
    memory.writeBigUInt64LE(BigInt(DATA_BYTES), IOVEC + 8)
  }

  /** null: our own namespace, or one without a number here. */
  #netnsId(): number | null {
    const memory = this.#memory
    if (memory.readBigUInt64LE(40) < 20n) return null
    const isNetnsId =
      memory.readInt32LE(CONTROL + 8) === SOL_NETLINK &&
      memory.readInt32LE(CONTROL + 12) === NETLINK_LISTEN_ALL_NSID
    return isNetnsId ? memory.readInt32LE(CONTROL + 16) : null
  }
}
