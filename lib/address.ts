/**
 * IP addresses and prefixes as numbers. Text is parsed once, at the edge, by `parseIp` and `parseCidr`; both
 * are strict (no leading zeros, no zone, no host bits in a prefix) and name what they refuse.
 *
 * Trap: an IPv4-mapped IPv6 address (::ffff:10.0.0.1) is IPv6 here and never equals the IPv4 address.
 */
import { isIP } from 'node:net'
import { TwillError } from './errors.ts'

export type Family = 4 | 6

export interface Ip {
  readonly family: Family
  readonly value: bigint
}

/** `base` has no bits set below `prefix`. */
export interface Cidr {
  readonly family: Family
  readonly base: bigint
  readonly prefix: number
}

/** Both ends included. */
export interface IpRange {
  readonly family: Family
  readonly first: bigint
  readonly last: bigint
}

export const bitsOf = (family: Family): 32 | 128 => (family === 4 ? 32 : 128)

function invalid(what: string, text: string, expected: string): TwillError {
  return new TwillError('address.invalid', `${what} ${JSON.stringify(text)}: expected ${expected}`, {
    value: text,
    expected,
  })
}

/** @throws TwillError address.invalid */
export function parseIp(text: string): Ip {
  const family = isIP(text)
  if (family === 4) return { family, value: parseV4(text) }
  if (family === 6 && !text.includes('%')) return { family, value: parseV6(text) }
  throw invalid('address', text, 'an IPv4 or IPv6 address such as 10.0.0.1 or fd00::1')
}

function parseV4(text: string): bigint {
  return BigInt(text.split('.').reduce((value, octet) => value * 256 + Number(octet), 0))
}

function parseV6(text: string): bigint {
  const lastColon = text.lastIndexOf(':')
  const dotted = text.includes('.') ? parseV4(text.slice(lastColon + 1)) : null
  const hex =
    dotted === null
      ? text
      : `${text.slice(0, lastColon + 1)}${(dotted >> 16n).toString(16)}:${(dotted & 0xffffn).toString(16)}`
  const [head = '', tail] = hex.split('::')
  const left = head === '' ? [] : head.split(':')
  const right = tail === undefined || tail === '' ? [] : tail.split(':')
  const groups =
    tail === undefined ? left : [...left, ...Array(8 - left.length - right.length).fill('0'), ...right]
  return groups.reduce((value, group) => (value << 16n) | BigInt(`0x${group}`), 0n)
}

/** RFC 5952 text for IPv6, dotted quad for IPv4. */
export function formatIp(ip: Ip): string {
  return ip.family === 4 ? formatV4(Number(ip.value)) : formatV6(ip.value)
}

function formatV4(value: number): string {
  return `${value >>> 24}.${(value >>> 16) & 255}.${(value >>> 8) & 255}.${value & 255}`
}

function formatV6(value: bigint): string {
  if (value >> 32n === 0xffffn) return `::ffff:${formatV4(Number(value & 0xffffffffn))}`
  const groups = Array.from({ length: 8 }, (_, i) => Number((value >> BigInt(112 - 16 * i)) & 0xffffn))
  const run = longestZeroRun(groups)
  const hex = (part: number[]) => part.map(group => group.toString(16)).join(':')
  if (run.length < 2) return hex(groups)
  return `${hex(groups.slice(0, run.start))}::${hex(groups.slice(run.start + run.length))}`
}

function longestZeroRun(groups: number[]): { start: number; length: number } {
  let best = { start: 0, length: 0 }
  for (let start = 0; start < groups.length; start++) {
    let end = start
    while (end < groups.length && groups[end] === 0) end++
    if (end - start > best.length) best = { start, length: end - start }
    if (end > start) start = end
  }
  return best
}

/** @throws TwillError address.invalid, also when host bits are set */
export function parseCidr(text: string): Cidr {
  const slash = text.indexOf('/')
  const expected = 'a prefix such as 10.0.0.0/16 or fd00::/64'
  if (slash < 0 || !/^(0|[1-9]\d{0,2})$/.test(text.slice(slash + 1)) || isIP(text.slice(0, slash)) === 0)
    throw invalid('prefix', text, expected)
  const ip = parseIp(text.slice(0, slash))
  const prefix = Number(text.slice(slash + 1))
  if (prefix > bitsOf(ip.family)) throw invalid('prefix', text, `a length of at most ${bitsOf(ip.family)}`)
  const cidr = cidrOf(ip, prefix)
  if (cidr.base !== ip.value)
    throw invalid('prefix', text, `no bits set beyond the length: ${formatCidr(cidr)}`)
  return cidr
}

/** An address, a prefix, or a range such as 10.0.0.5-10.0.0.9. @throws TwillError address.invalid */
export function parseRange(text: string): IpRange {
  if (text.includes('/')) {
    const cidr = parseCidr(text)
    return { family: cidr.family, first: cidr.base, last: lastOf(cidr).value }
  }
  const [low = '', high = low, ...more] = text.split('-')
  const [first, last] = [parseIp(low), parseIp(high)]
  if (more.length > 0 || first.family !== last.family || first.value > last.value)
    throw invalid('range', text, 'two addresses of one family, the lower first')
  return { family: first.family, first: first.value, last: last.value }
}

export function formatRange({ family, first, last }: IpRange): string {
  const low = formatIp({ family, value: first })
  return first === last ? low : `${low}-${formatIp({ family, value: last })}`
}

/** The prefix of this length that holds the address. */
export function cidrOf(ip: Ip, prefix: number): Cidr {
  const host = BigInt(bitsOf(ip.family) - prefix)
  return { family: ip.family, base: (ip.value >> host) << host, prefix }
}

export const hostCidr = (ip: Ip): Cidr => ({ family: ip.family, base: ip.value, prefix: bitsOf(ip.family) })

export function formatCidr(cidr: Cidr): string {
  return `${formatIp({ family: cidr.family, value: cidr.base })}/${cidr.prefix}`
}

/** How many addresses the prefix holds. */
export function sizeOf(cidr: Cidr): bigint {
  return 1n << BigInt(bitsOf(cidr.family) - cidr.prefix)
}

export function lastOf(cidr: Cidr): Ip {
  return { family: cidr.family, value: cidr.base + sizeOf(cidr) - 1n }
}

export function contains(cidr: Cidr, ip: Ip): boolean {
  if (cidr.family !== ip.family) return false
  const host = BigInt(bitsOf(cidr.family) - cidr.prefix)
  return ip.value >> host === cidr.base >> host
}

/** True when every address of `inner` is in `outer`. */
export function covers(outer: Cidr, inner: Cidr): boolean {
  return inner.prefix >= outer.prefix && contains(outer, { family: inner.family, value: inner.base })
}

export function overlaps(a: Cidr, b: Cidr): boolean {
  return covers(a, b) || covers(b, a)
}

/** The address `offset` places after the prefix's first. @throws TwillError address.invalid when outside */
export function addressAt(cidr: Cidr, offset: number | bigint): Ip {
  const ip: Ip = { family: cidr.family, value: cidr.base + BigInt(offset) }
  if (BigInt(offset) < 0n || !contains(cidr, ip))
    throw invalid('offset', String(offset), `an offset inside ${formatCidr(cidr)}`)
  return ip
}

export function sameCidr(a: Cidr, b: Cidr): boolean {
  return a.family === b.family && a.base === b.base && a.prefix === b.prefix
}

/** Order by family, then base, then prefix: stable for records, diffs and golden files. */
export function compareCidr(a: Cidr, b: Cidr): number {
  if (a.family !== b.family) return a.family - b.family
  if (a.base !== b.base) return a.base < b.base ? -1 : 1
  return a.prefix - b.prefix
}

/** Colon-separated lower-case MAC. @throws TwillError address.invalid */
export function parseMac(text: string): string {
  if (!/^([0-9a-f]{2}:){5}[0-9a-f]{2}$/i.test(text))
    throw invalid('MAC', text, 'six octets such as 02:00:00:00:00:01')
  return text.toLowerCase()
}
