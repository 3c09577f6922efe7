/** Addresses that never go out, as sorted ranges that do not touch. Pure. */
import { type Cidr, type Family, type Ip, type IpRange, lastOf } from '../lib/address.ts'

type Span = { readonly first: bigint; readonly last: bigint }

export class AddressRanges {
  readonly #spans: Readonly<Record<Family, readonly Span[]>>

  /** In any order; they may overlap. */
  constructor(ranges: readonly IpRange[]) {
    this.#spans = { 4: merged(ranges, 4), 6: merged(ranges, 6) }
  }

  has(ip: Ip): boolean {
    const span = this.#spanUpTo(ip)
    return span !== undefined && ip.value <= span.last
  }

  /** Of a prefix that is in here from end to end: the last address of that stretch, which may lie far beyond it; else null. */
  coveredUntil(cidr: Cidr): bigint | null {
    const span = this.#spanUpTo({ family: cidr.family, value: cidr.base })
    return span !== undefined && lastOf(cidr).value <= span.last ? span.last : null
  }

  /** The last span that begins at the address or before. */
  #spanUpTo({ family, value }: Ip): Span | undefined {
    const spans = this.#spans[family]
    let [low, high] = [0, spans.length]
    while (low < high) {
      const middle = (low + high) >> 1
      if ((spans[middle] as Span).first <= value) low = middle + 1
      else high = middle
    }
    return spans[low - 1]
  }
}

function merged(ranges: readonly IpRange[], family: Family): Span[] {
  const spans: { first: bigint; last: bigint }[] = []
  const own = ranges.filter(range => range.family === family)
  for (const { first, last } of own.sort((a, b) => (a.first < b.first ? -1 : 1))) {
    const before = spans.at(-1)
    if (before === undefined || first > before.last + 1n) spans.push({ first, last })
    else if (last > before.last) before.last = last
  }
  return spans
}
