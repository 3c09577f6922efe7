/**
 * Set elements as the kernel keeps them: each field of a concatenation in its own registers.
 *
 *   "twlab" . 10.0.0.1 . 02:00:00:00:00:01
 *   ifname: 16 bytes, zero-filled · address: 4 or 16 bytes, network order · MAC: 6 bytes and 2 of padding
 *
 * The fields come from the set's key type, six bits for each (libnftables' TYPE_BITS), first field uppermost.
 * Only plain sets of these types are encoded here; anything else (intervals, raw payload) is nft's business.
 */
import { parseIp, parseMac } from '../../lib/address.ts'
import { TwillError } from '../../lib/errors.ts'

type Field = 'ipv4_addr' | 'ipv6_addr' | 'ether_addr' | 'ifname'

/** libnftables' enum datatypes. */
const FIELDS: ReadonlyMap<number, Field> = new Map([
  [7, 'ipv4_addr'],
  [8, 'ipv6_addr'],
  [9, 'ether_addr'],
  [41, 'ifname'],
])
const SIZES: Readonly<Record<Field, number>> = { ipv4_addr: 4, ipv6_addr: 16, ether_addr: 8, ifname: 16 }

export interface KeyLayout {
  readonly fields: readonly Field[]
  readonly length: number
}

/** null when a field is of a type not encoded here, or the lengths disagree. */
export function keyLayout(keyType: number, keyLength: number): KeyLayout | null {
  const fields: Field[] = []
  for (let rest = keyType; rest > 0; rest >>>= 6) {
    const field = FIELDS.get(rest & 63)
    if (field === undefined) return null
    fields.unshift(field)
  }
  const sizes = fields.map(field => SIZES[field])
  const length = sizes.reduce((sum, size) => sum + size, 0)
  // A MAC alone is no concatenation and is not padded.
  return length === keyLength && fields.length > 0 ? { fields, length } : null
}

/** @throws TwillError internal when the element does not fit the layout, address.invalid for a bad address */
export function encodeKey(layout: KeyLayout, element: string): Buffer {
  const parts = element.split(' . ')
  if (parts.length !== layout.fields.length)
    throw new TwillError('internal', `set element ${element}: expected ${layout.fields.join(' . ')}`)
  const key = Buffer.alloc(layout.length)
  let at = 0
  layout.fields.forEach((field, i) => {
    write(key, at, field, parts[i] as string)
    at += SIZES[field]
  })
  return key
}

function write(key: Buffer, at: number, field: Field, text: string): void {
  if (field === 'ifname') writeName(key, at, text)
  else if (field === 'ether_addr') key.write(parseMac(text).replaceAll(':', ''), at, 'hex')
  else writeAddress(key, at, field === 'ipv4_addr' ? 4 : 6, text)
}

function writeName(key: Buffer, at: number, text: string): void {
  const name = /^"(.*)"$/.exec(text)?.[1] ?? text
  if (name === '' || Buffer.byteLength(name) > 15)
    throw new TwillError('internal', `set element ${text}: expected an interface name of 1 to 15 bytes`)
  key.write(name, at)
}

function writeAddress(key: Buffer, at: number, family: 4 | 6, text: string): void {
  const ip = parseIp(text)
  if (ip.family !== family)
    throw new TwillError('internal', `set element ${text}: expected an IPv${family} address`)
  if (family === 4) key.writeUInt32BE(Number(ip.value), at)
  else {
    key.writeBigUInt64BE(ip.value >> 64n, at)
    key.writeBigUInt64BE(ip.value & 0xffff_ffff_ffff_ffffn, at + 8)
  }
}
