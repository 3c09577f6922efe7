/**
 * Synchronous netlink: a datagram of one or more requests goes out, the kernel does the work inside `send`, and
 * the answers are read back. Serves NETLINK_ROUTE and NETLINK_NETFILTER.
 *
 * Invariant: after `execute` or `dump` returned, nothing of that request is left unread in the socket; after a
 * transport error (time-out, overflow) answers of the old request are told from new ones by sequence number.
 * Trap: only the last request of a datagram is asked for an acknowledgement (one `recv` instead of many). The
 * kernel processes in order and reports every failure unasked, so silence before that acknowledgement is success.
 * An nfnetlink batch ends in a message that old kernels never acknowledge: pass { ack: 'as-written' } and set
 * NLM_F_ACK on the last message inside the batch.
 */
import { TwillError } from '../../lib/errors.ts'
import { readAttributes, readString } from './attributes.ts'
import {
  AF_NETLINK,
  NETLINK_ADD_MEMBERSHIP,
  NETLINK_CAP_ACK,
  NETLINK_EXT_ACK,
  NETLINK_GET_STRICT_CHK,
  NFNL_MSG_BATCH_BEGIN,
  NLM_F_ACK,
  NLM_F_ACK_TLVS,
  NLM_F_CAPPED,
  NLM_F_DUMP,
  NLM_F_DUMP_INTR,
  NLMSG_DONE,
  NLMSG_ERROR,
  NLMSG_NOOP,
  NLMSGERR_ATTR_MSG,
  SO_RCVBUFFORCE,
  SO_RCVTIMEO,
  SOL_NETLINK,
  SOL_SOCKET,
} from './constants.ts'
import type { Datagram } from './datagram.ts'
import { errnoName, kernelFailed, type Libc } from './libc.ts'

const SOCK_RAW_CLOEXEC = 3 | 0o2000000
const MSG_TRUNC = 0x20
const DUMP_ATTEMPTS = 8
const EINTR = 4

export interface NetlinkSocketOptions {
  readonly protocol: number
  /** Receive buffer in bytes; it bounds how many failures of one datagram can be reported. */
  readonly receiveBufferBytes?: number
  /** How long the kernel may keep us waiting for an answer. */
  readonly timeoutMs?: number
  /** Where answers are received, at least 32 KiB; shared between sockets of one thread, which never overlap. */
  readonly receiveInto?: Buffer
}

/** A message from the kernel. `bytes[start, end)` is its body after struct nlmsghdr. */
export interface NetlinkMessage {
  readonly type: number
  readonly flags: number
  readonly sequence: number
  readonly port: number
  readonly bytes: Buffer
  readonly start: number
  readonly end: number
}

/** What became of one request of a datagram. */
export interface Outcome {
  /** 0 is success. */
  readonly errno: number
  /** The kernel's extended acknowledgement, '' when it gave none. */
  readonly message: string
  /** What it answered besides: echoes (NLM_F_ECHO), a GET's result. Copied, free to keep. */
  readonly replies: readonly NetlinkMessage[]
}

export class NetlinkSocket {
  readonly fd: number
  /** Our address: the kernel puts it into notifications of what we change. */
  readonly portId: number
  readonly #libc: Libc
  readonly #received: Buffer
  #sequence = 1

  /** @throws TwillError kernel.failed */
  constructor(options: NetlinkSocketOptions, modules: { libc: Libc }) {
    this.#libc = modules.libc
    this.#received = options.receiveInto ?? Buffer.allocUnsafeSlow(65536)
    this.fd = this.#check('socket', this.#libc.socket(AF_NETLINK, SOCK_RAW_CLOEXEC, options.protocol))
    try {
      this.portId = this.#configure(options)
    } catch (error) {
      this.close()
      throw error
    }
  }

  #configure(options: NetlinkSocketOptions): number {
    this.#option(SOL_SOCKET, SO_RCVBUFFORCE, options.receiveBufferBytes ?? 4 << 20)
    const timeoutMs = options.timeoutMs ?? 10_000
    const timeval = Buffer.alloc(16)
    timeval.writeBigInt64LE(BigInt(Math.floor(timeoutMs / 1000)), 0)
    timeval.writeBigInt64LE(BigInt((timeoutMs % 1000) * 1000), 8)
    this.#check('setsockopt', this.#libc.setsockopt(this.fd, SOL_SOCKET, SO_RCVTIMEO, timeval, 16))
    for (const option of [NETLINK_CAP_ACK, NETLINK_EXT_ACK, NETLINK_GET_STRICT_CHK])
      this.#option(SOL_NETLINK, option, 1)
    // struct sockaddr_nl: u16 family · u16 pad · u32 port (0: the kernel chooses) · u32 groups
    const address = Buffer.alloc(12)
    address.writeUInt16LE(AF_NETLINK, 0)
    this.#check('bind', this.#libc.bind(this.fd, address, 12))
    const size = Buffer.from([12, 0, 0, 0])
    this.#check('getsockname', this.#libc.getsockname(this.fd, address, size))
    return address.readUInt32LE(4)
  }

  /**
   * Sends the datagram and answers for each of its requests. A request's failure is in its outcome, not thrown.
   * @throws TwillError kernel.failed when the transport fails: ETIMEDOUT, ENOBUFS (answers were lost), E2BIG
   */
  execute(request: Datagram, options: { ack: 'last' | 'as-written' } = { ack: 'last' }): Outcome[] {
    if (request.messages.length === 0) return []
    if (options.ack === 'last') request.addFlags(NLM_F_ACK)
    const first = this.#number(request)
    const awaited = first + lastAcknowledged(request)
    const outcomes = request.messages.map(() => ({ errno: 0, message: '', replies: [] as NetlinkMessage[] }))
    this.#send(request)
    for (let done = false; !done; )
      this.#receive(message => {
        const outcome = outcomes[message.sequence - first]
        if (outcome === undefined || message.type === NLMSG_NOOP) return
        if (message.type !== NLMSG_ERROR) {
          if (message.type !== NLMSG_DONE) outcome.replies.push(copyOf(message))
          return
        }
        Object.assign(outcome, readError(message))
        done ||= message.sequence >= awaited || (outcome.errno !== 0 && isBatchBegin(message))
      })
    return outcomes
  }

  /** Executes a datagram whose every request must succeed. @throws TwillError kernel.failed of the first that did not */
  executeAll(operation: string, request: Datagram): Outcome[] {
    const outcomes = this.execute(request)
    for (const outcome of outcomes) if (outcome.errno !== 0) throw failureOf(operation, outcome)
    return outcomes
  }

  /**
   * Dumps by the datagram's only request. `read` sees each message before its bytes are overwritten and answers
   * what to keep, null for nothing. A dump that a change interrupted (NLM_F_DUMP_INTR) is repeated.
   * @throws TwillError kernel.failed; EINTR when a consistent dump could not be had
   */
  dump<T>(operation: string, request: Datagram, read: (message: NetlinkMessage) => T | null): T[] {
    request.addFlags(NLM_F_DUMP)
    for (let attempt = 0; attempt < DUMP_ATTEMPTS; attempt++) {
      const kept = this.#dumpOnce(operation, request, read)
      if (kept !== null) return kept
    }
    throw kernelFailed(operation, EINTR, `the state changed during each of ${DUMP_ATTEMPTS} reads`)
  }

  #dumpOnce<T>(
    operation: string,
    request: Datagram,
    read: (message: NetlinkMessage) => T | null,
  ): T[] | null {
    const sequence = this.#number(request)
    const kept: T[] = []
    let interrupted = false
    let ending: { errno: number; message: string } | null = null
    this.#send(request)
    while (ending === null)
      this.#receive(message => {
        if (message.sequence !== sequence) return
        interrupted ||= (message.flags & NLM_F_DUMP_INTR) !== 0
        if (message.type === NLMSG_ERROR) ending = readError(message)
        else if (message.type === NLMSG_DONE) ending = readDone(message)
        else if (message.type !== NLMSG_NOOP) {
          const value = read(message)
          if (value !== null) kept.push(value)
        }
      })
    const { errno, message } = ending as { errno: number; message: string }
    if (errno !== 0 && errno !== EINTR) throw kernelFailed(operation, errno, message)
    return interrupted || errno === EINTR ? null : kept
  }

  /** Joins a multicast group (RTNLGRP_…, NFNLGRP_…). */
  join(group: number): void {
    this.#option(SOL_NETLINK, NETLINK_ADD_MEMBERSHIP, group)
  }

  setNetlinkOption(option: number, value: number): void {
    this.#option(SOL_NETLINK, option, value)
  }

  close(): void {
    this.#libc.close(this.fd)
  }

  #number(request: Datagram): number {
    const first = this.#sequence
    request.messages.forEach((at, i) => {
      request.bytes.writeUInt32LE(first + i, at + 8)
    })
    this.#sequence = first + request.messages.length
    if (this.#sequence > 0x7fff_0000) this.#sequence = 1
    return first
  }

  #send(request: Datagram): void {
    const sent = this.#libc.send(this.fd, request.bytes, request.length, 0)
    if (sent < 0) throw kernelFailed('netlink send', this.#libc.errno(), '')
  }

  #receive(visit: (message: NetlinkMessage) => void): void {
    const bytes = this.#received
    const size = this.#libc.recv(this.fd, bytes, bytes.length, MSG_TRUNC)
    if (size < 0) this.#receiveFailed(this.#libc.errno())
    else if (size > bytes.length)
      throw kernelFailed('netlink receive', 7, `a message of ${size} bytes is too long`)
    else forEachMessage(bytes, size, visit)
  }

  #receiveFailed(errno: number): void {
    const name = errnoName(errno)
    if (name === 'EINTR') return
    if (name === 'EAGAIN') throw kernelFailed('netlink receive', 110, 'the kernel did not answer in time')
    throw kernelFailed('netlink receive', errno, '')
  }

  #option(level: number, option: number, value: number): void {
    const bytes = Buffer.alloc(4)
    bytes.writeInt32LE(value)
    this.#check('setsockopt', this.#libc.setsockopt(this.fd, level, option, bytes, 4))
  }

  #check(call: string, result: number): number {
    if (result < 0) throw kernelFailed(`netlink ${call}`, this.#libc.errno(), '')
    return result
  }
}

/** Walks the messages of a received datagram. */
export function forEachMessage(bytes: Buffer, size: number, visit: (message: NetlinkMessage) => void): void {
  for (let at = 0; at + 16 <= size; ) {
    const length = bytes.readUInt32LE(at)
    if (length < 16 || at + length > size)
      throw new TwillError('internal', `netlink message of length ${length} at ${at} of ${size}`)
    visit({
      type: bytes.readUInt16LE(at + 4),
      flags: bytes.readUInt16LE(at + 6),
      sequence: bytes.readUInt32LE(at + 8),
      port: bytes.readUInt32LE(at + 12),
      bytes,
      start: at + 16,
      end: at + length,
    })
    at += (length + 3) & ~3
  }
}

export function failureOf(operation: string, outcome: Outcome): TwillError {
  return kernelFailed(operation, outcome.errno, outcome.message)
}

function copyOf(message: NetlinkMessage): NetlinkMessage {
  const bytes = Buffer.from(message.bytes.subarray(message.start, message.end))
  return { ...message, bytes, start: 0, end: bytes.length }
}

/** Index of the last request that asks for an acknowledgement. */
function lastAcknowledged(request: Datagram): number {
  for (let i = request.messages.length - 1; i >= 0; i--)
    if (request.bytes.readUInt16LE((request.messages[i] as number) + 6) & NLM_F_ACK) return i
  throw new RangeError('no request of the datagram asks for an acknowledgement')
}

/** struct nlmsgerr: i32 negative errno · the request's header [· its body unless NLM_F_CAPPED] [· attributes] */
function readError(message: NetlinkMessage): { errno: number; message: string } {
  const errno = 0 - message.bytes.readInt32LE(message.start)
  if (!(message.flags & NLM_F_ACK_TLVS)) return { errno, message: '' }
  const echoed = message.flags & NLM_F_CAPPED ? 16 : message.bytes.readUInt32LE(message.start + 4)
  const text = readAttributes(message.bytes, message.start + 4 + ((echoed + 3) & ~3), message.end).get(
    NLMSGERR_ATTR_MSG,
  )
  return { errno, message: text === undefined ? '' : readString(text) }
}

/** NLMSG_DONE: i32 negative errno, then attributes when NLM_F_ACK_TLVS is set. */
function readDone(message: NetlinkMessage): { errno: number; message: string } {
  if (message.end - message.start < 4) return { errno: 0, message: '' }
  const errno = 0 - message.bytes.readInt32LE(message.start)
  if (!(message.flags & NLM_F_ACK_TLVS)) return { errno, message: '' }
  const text = readAttributes(message.bytes, message.start + 4, message.end).get(NLMSGERR_ATTR_MSG)
  return { errno, message: text === undefined ? '' : readString(text) }
}

function isBatchBegin(message: NetlinkMessage): boolean {
  return message.bytes.readUInt16LE(message.start + 8) === NFNL_MSG_BATCH_BEGIN
}
