/**
 * Writes netlink requests, several to a datagram, into one preallocated buffer.
 *
 *   struct nlmsghdr (linux/netlink.h): u32 length · u16 type · u16 flags · u32 sequence · u32 port
 *   then a fixed header of the message type, then attributes: u16 length · u16 type · payload · padding to 4
 *
 * Invariant: numbers are in the host's order, and Twill runs on little-endian machines only (amd64, arm64); what
 * the network orders big-endian has `Be` in its name. Trap: `reset` before reuse; bytes of a former request
 * stay behind otherwise, so everything here writes every byte including padding.
 */
import type { Ip } from '../../lib/address.ts'
import { NLA_F_NESTED, NLM_F_REQUEST } from './constants.ts'

export class Datagram {
  readonly bytes: Buffer
  length = 0
  /** Offset of each message's header. */
  readonly messages: number[] = []
  #open: number[] = []

  /** @param capacity bytes; the kernel takes up to the socket's send buffer (208 KiB by default) */
  constructor(capacity = 65536) {
    this.bytes = Buffer.alloc(capacity)
  }

  reset(): this {
    this.length = 0
    this.messages.length = 0
    this.#open.length = 0
    return this
  }

  /** Begins a message; the one before it is complete. NLM_F_REQUEST is added. */
  begin(type: number, flags: number): this {
    this.messages.push(this.length)
    const at = this.#reserve(16)
    this.bytes.writeUInt32LE(16, at)
    this.bytes.writeUInt16LE(type, at + 4)
    this.bytes.writeUInt16LE(flags | NLM_F_REQUEST, at + 6)
    this.bytes.writeUInt32LE(0, at + 8)
    this.bytes.writeUInt32LE(0, at + 12)
    return this
  }

  /** Adds flags to the last message. */
  addFlags(flags: number): this {
    const at = this.#current() + 6
    this.bytes.writeUInt16LE(this.bytes.readUInt16LE(at) | flags, at)
    return this
  }

  /** Where the datagram stands, for `rewind`. */
  mark(): { length: number; messages: number } {
    return { length: this.length, messages: this.messages.length }
  }

  /** Takes back what was written since the mark. */
  rewind(mark: { length: number; messages: number }): void {
    this.length = mark.length
    this.messages.length = mark.messages
    this.#open.length = 0
  }

  // ------------------------------------------------ fixed header fields, in order
  u8(value: number): this {
    this.bytes[this.#reserve(1)] = value
    return this.#grown()
  }
  u16(value: number): this {
    this.bytes.writeUInt16LE(value, this.#reserve(2))
    return this.#grown()
  }
  u32(value: number): this {
    this.bytes.writeUInt32LE(value >>> 0, this.#reserve(4))
    return this.#grown()
  }

  // ------------------------------------------------ attributes
  attr(type: number, payload: Uint8Array): this {
    this.bytes.set(payload, this.#attribute(type, payload.length))
    return this.#grown()
  }
  attrEmpty(type: number): this {
    this.#attribute(type, 0)
    return this.#grown()
  }
  attrU8(type: number, value: number): this {
    this.bytes[this.#attribute(type, 1)] = value
    return this.#grown()
  }
  attrU16(type: number, value: number): this {
    this.bytes.writeUInt16LE(value, this.#attribute(type, 2))
    return this.#grown()
  }
  attrU16Be(type: number, value: number): this {
    this.bytes.writeUInt16BE(value, this.#attribute(type, 2))
    return this.#grown()
  }
  attrU32(type: number, value: number): this {
    this.bytes.writeUInt32LE(value >>> 0, this.#attribute(type, 4))
    return this.#grown()
  }
  attrU32Be(type: number, value: number): this {
    this.bytes.writeUInt32BE(value >>> 0, this.#attribute(type, 4))
    return this.#grown()
  }
  /** NUL-terminated. */
  attrString(type: number, value: string): this {
    const size = Buffer.byteLength(value)
    const at = this.#attribute(type, size + 1)
    this.bytes.write(value, at)
    this.bytes[at + size] = 0
    return this.#grown()
  }
  /** Six octets, from text such as 02:00:00:00:00:01. */
  attrMac(type: number, mac: string): this {
    const at = this.#attribute(type, 6)
    for (let i = 0; i < 6; i++) this.bytes[at + i] = Number.parseInt(mac.slice(3 * i, 3 * i + 2), 16)
    return this.#grown()
  }
  /** 4 or 16 octets in network order. */
  attrIp(type: number, ip: Ip): this {
    if (ip.family === 4) return this.attrU32Be(type, Number(ip.value))
    const at = this.#attribute(type, 16)
    this.bytes.writeBigUInt64BE(ip.value >> 64n, at)
    this.bytes.writeBigUInt64BE(ip.value & 0xffff_ffff_ffff_ffffn, at + 8)
    return this.#grown()
  }

  /** Opens a nested attribute; `end` closes the innermost. */
  nest(type: number): this {
    this.#open.push(this.length)
    this.#attribute(type | NLA_F_NESTED, 0)
    return this.#grown()
  }
  /** IFLA_INFO_DATA's VETH_INFO_PEER and its like nest without saying so in the type's flag. */
  nestPlain(type: number): this {
    this.#open.push(this.length)
    this.#attribute(type, 0)
    return this.#grown()
  }
  end(): this {
    const start = this.#open.pop()
    if (start === undefined) throw new RangeError('no nested attribute is open')
    this.bytes.writeUInt16LE(this.length - start, start)
    return this
  }

  #current(): number {
    const at = this.messages.at(-1)
    if (at === undefined) throw new RangeError('no message is begun')
    return at
  }

  #grown(): this {
    const at = this.#current()
    this.bytes.writeUInt32LE(this.length - at, at)
    return this
  }

  /** Writes an attribute's header and its padding; answers where its payload begins. */
  #attribute(type: number, size: number): number {
    const padded = (size + 3) & ~3
    const at = this.#reserve(4 + padded)
    this.bytes.writeUInt16LE(4 + size, at)
    this.bytes.writeUInt16LE(type, at + 2)
    for (let i = size; i < padded; i++) this.bytes[at + 4 + i] = 0
    return at + 4
  }

  #reserve(size: number): number {
    const at = this.length
    if (at + size > this.bytes.length) throw new RangeError(`datagram over ${this.bytes.length} bytes`)
    this.length = at + size
    return at
  }
}
