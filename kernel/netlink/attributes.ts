/**
 * Reads attributes (struct nlattr: u16 length · u16 type · payload · padding to 4) without copying: what is
 * handed out are views into the buffer, valid as long as that is.
 *
 * Trap: the two upper bits of the type are flags (nested, network order), masked here.
 */
import type { Ip } from '../../lib/address.ts'

const NLA_TYPE_MASK = 0x3fff

/** Calls `visit` for each attribute of bytes[start, end). A malformed tail ends the walk. */
export function forEachAttribute(
  bytes: Buffer,
  start: number,
  end: number,
  visit: (type: number, payload: Buffer) => void,
): void {
  for (let at = start; at + 4 <= end; ) {
    const size = bytes.readUInt16LE(at)
    if (size < 4 || at + size > end) return
    visit(bytes.readUInt16LE(at + 2) & NLA_TYPE_MASK, bytes.subarray(at + 4, at + size))
    at += (size + 3) & ~3
  }
}

/** The attributes of a nested payload or of a message body after its fixed header, by type; the last one wins. */
export function readAttributes(bytes: Buffer, start = 0, end = bytes.length): Map<number, Buffer> {
  const found = new Map<number, Buffer>()
  forEachAttribute(bytes, start, end, (type, payload) => found.set(type, payload))
  return found
}

/** Text up to the first NUL. */
export function readString(payload: Buffer): string {
  const nul = payload.indexOf(0)
  return payload.toString('utf8', 0, nul < 0 ? payload.length : nul)
}

export function readMac(payload: Buffer): string {
  const hex = payload.toString('hex', 0, 6)
  return `${hex.slice(0, 2)}:${hex.slice(2, 4)}:${hex.slice(4, 6)}:${hex.slice(6, 8)}:${hex.slice(8, 10)}:${hex.slice(10, 12)}`
}

/** By length: 4 octets are IPv4, 16 are IPv6, network order. */
export function readIp(payload: Buffer): Ip {
  if (payload.length === 4) return { family: 4, value: BigInt(payload.readUInt32BE(0)) }
  return { family: 6, value: (payload.readBigUInt64BE(0) << 64n) | payload.readBigUInt64BE(8) }
}
