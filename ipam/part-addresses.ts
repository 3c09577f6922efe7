/**
 * Which addresses of one part are held and in which order the free ones go out: the one freed longest ago
 * first. An address never used counts as freed before all others, so a fresh part is walked through in order,
 * and addresses that still cool are last, the oldest of them first.
 *
 * Addresses are offsets from the part's base, as plain numbers; times are BOOTTIME milliseconds. Every address
 * of a part is used, .0 and .255 too (pods have /32 and /128, no subnet and hence no network or broadcast address),
 * but for those that are withheld.
 */
import { addressAt, type Cidr, sizeOf } from '../lib/address.ts'
import type { AddressRanges } from './address-ranges.ts'

export const NEVER = Number.NEGATIVE_INFINITY

export class PartAddresses {
  readonly size: number
  readonly #holders: (string | undefined)[]
  readonly #freedMs: Float64Array
  /** Free offsets as a ring; `size` is its sentinel. */
  readonly #next: Uint16Array
  readonly #previous: Uint16Array
  readonly #cidr: Cidr
  #held = 0
  #withheldRanges: AddressRanges | null = null
  readonly #withheld = new Set<number>()
  /** Withheld and held by nobody: not in the ring. */
  #withheldFree = 0

  /** At most 4096 addresses: the largest slot. `freedMs`: when all of them were last freed, as far as is known. */
  constructor(cidr: Cidr, freedMs = NEVER) {
    this.size = Number(sizeOf(cidr))
    this.#cidr = cidr
    this.#holders = new Array(this.size)
    this.#freedMs = new Float64Array(this.size).fill(freedMs)
    this.#next = new Uint16Array(this.size + 1)
    this.#previous = new Uint16Array(this.size + 1)
    for (let i = 0; i <= this.size; i++) {
      this.#next[i] = i === this.size ? 0 : i + 1
      this.#previous[i] = i === 0 ? this.size : i - 1
    }
  }

  /**
   * What other parts know of the addresses that this one has too; each stands `shift` places after its offset there.
   * Free ones keep their order, oldest first.
   */
  static from(
    cidr: Cidr,
    sources: readonly { readonly addresses: PartAddresses; readonly shift: number }[],
  ): PartAddresses {
    const next = new PartAddresses(cidr)
    const inside = (offset: number) => offset >= 0 && offset < next.size
    for (const { addresses, shift } of sources)
      for (const { offset, holder } of addresses.holders())
        if (inside(offset + shift)) next.takeAt(offset + shift, holder)
    const free = sources.flatMap(({ addresses, shift }) =>
      [...addresses.#freeOnes()]
        .map(({ offset, freedMs }) => ({ offset: offset + shift, freedMs }))
        .filter(({ offset }) => inside(offset)),
    )
    free.sort((a, b) => (a.freedMs === b.freedMs ? 0 : a.freedMs < b.freedMs ? -1 : 1))
    for (const { offset, freedMs } of free) next.setFreed(offset, freedMs)
    for (const { addresses } of sources.slice(0, 1))
      if (addresses.#withheldRanges !== null) next.withhold(addresses.#withheldRanges)
    return next
  }

  get held(): number {
    return this.#held
  }

  get free(): number {
    return this.size - this.#held - this.#withheldFree
  }

  holderOf(offset: number): string | null {
    return this.#holders[offset] ?? null
  }

  /** When the next address to go out was freed, or null when there is none. */
  get oldestFreedMs(): number | null {
    const first = this.#next[this.size] as number
    return first === this.size ? null : (this.#freedMs[first] as number)
  }

  /** How many free addresses were freed at `sinceMs` or before, counted up to `limit`. */
  countFreedBy(sinceMs: number, limit: number): number {
    let count = 0
    for (
      let i = this.#next[this.size] as number;
      i !== this.size && count < limit;
      i = this.#next[i] as number
    ) {
      if ((this.#freedMs[i] as number) > sinceMs) break
      count++
    }
    return count
  }

  /** The address freed longest ago, or null when none is free. */
  take(holder: string): number | null {
    const first = this.#next[this.size] as number
    if (first === this.size) return null
    this.takeAt(first, holder)
    return first
  }

  /** False when it is held by another. One that is withheld is taken all the same: its holder may be there already. */
  takeAt(offset: number, holder: string): boolean {
    if (this.#holders[offset] !== undefined) return this.#holders[offset] === holder
    this.#unlinkFree(offset)
    this.#holders[offset] = holder
    this.#held++
    return true
  }

  /**
   * Addresses in these ranges do not go out; who holds one keeps it. Ranges given before and not now are lifted.
   * Costs nothing while the caller gives the same object.
   */
  withhold(ranges: AddressRanges): void {
    if (ranges === this.#withheldRanges) return
    this.#withheldRanges = ranges
    for (let offset = 0; offset < this.size; offset++) {
      const wanted = ranges.has(addressAt(this.#cidr, offset))
      if (wanted !== this.#withheld.has(offset)) this.#setWithheld(offset, wanted)
    }
  }

  isWithheld(offset: number): boolean {
    return this.#withheld.has(offset)
  }

  #setWithheld(offset: number, wanted: boolean): void {
    const isFree = this.#holders[offset] === undefined
    if (isFree) this.#unlinkFree(offset)
    if (wanted) this.#withheld.add(offset)
    else this.#withheld.delete(offset)
    if (isFree) this.#linkFree(this.#placeOf(offset), offset)
  }

  /** Before which of the free ones it belongs, by when it was freed: the first of those freed at the same time. */
  #placeOf(offset: number): number {
    const freedMs = this.#freedMs[offset] as number
    let i = this.#next[this.size] as number
    while (i !== this.size && (this.#freedMs[i] as number) < freedMs) i = this.#next[i] as number
    return i
  }

  /** Gone: cools from `atMs`, which is no earlier than any release before. */
  release(offset: number, atMs: number): void {
    if (this.#holders[offset] === undefined) return
    this.#drop(offset)
    this.#freedMs[offset] = atMs
    this.#linkFree(this.size, offset)
  }

  /** Taken but never used: stands where it stood (the first, unless it was asked for by name), with the cool-down it had. */
  putBack(offset: number): void {
    if (this.#holders[offset] === undefined) return
    this.#drop(offset)
    this.#linkFree(this.#placeOf(offset), offset)
  }

  /** A free address is known to have been freed at this time. Call in order of time. */
  setFreed(offset: number, atMs: number): void {
    if (this.#holders[offset] !== undefined) return
    this.#unlinkFree(offset)
    this.#freedMs[offset] = atMs
    this.#linkFree(this.size, offset)
  }

  /** Free addresses freed after `sinceMs`, with when. */
  freedAfter(sinceMs: number): { offset: number; freedMs: number }[] {
    const found: { offset: number; freedMs: number }[] = []
    let i = this.#previous[this.size] as number
    for (; i !== this.size && (this.#freedMs[i] as number) > sinceMs; i = this.#previous[i] as number)
      found.push({ offset: i, freedMs: this.#freedMs[i] as number })
    for (const offset of this.#withheld)
      if (this.#holders[offset] === undefined && (this.#freedMs[offset] as number) > sinceMs)
        found.push({ offset, freedMs: this.#freedMs[offset] as number })
    return found
  }

  /** Nobody holds an address of this range. */
  isEmpty(offset: number, size: number): boolean {
    for (let i = offset; i < offset + size; i++) if (this.#holders[i] !== undefined) return false
    return true
  }

  /** When the address of this range that was freed last was freed; null: one is held, or none may go out. */
  youngestFreedMs(offset: number, size: number): number | null {
    let youngest: number | null = null
    for (let i = offset; i < offset + size; i++) {
      if (this.#holders[i] !== undefined) return null
      if (!this.#withheld.has(i)) youngest = Math.max(youngest ?? NEVER, this.#freedMs[i] as number)
    }
    return youngest
  }

  *#freeOnes(): Generator<{ offset: number; freedMs: number }> {
    for (let i = this.#next[this.size] as number; i !== this.size; i = this.#next[i] as number)
      yield { offset: i, freedMs: this.#freedMs[i] as number }
    for (const i of this.#withheld)
      if (this.#holders[i] === undefined) yield { offset: i, freedMs: this.#freedMs[i] as number }
  }

  *holders(): Generator<{ offset: number; holder: string }> {
    for (let offset = 0; offset < this.size; offset++) {
      const holder = this.#holders[offset]
      if (holder !== undefined) yield { offset, holder }
    }
  }

  #drop(offset: number): void {
    this.#holders[offset] = undefined
    this.#held--
  }

  #unlinkFree(offset: number): void {
    if (this.#withheld.has(offset)) this.#withheldFree--
    else this.#unlink(offset)
  }

  #linkFree(next: number, offset: number): void {
    if (this.#withheld.has(offset)) this.#withheldFree++
    else this.#linkBefore(next, offset)
  }

  #unlink(offset: number): void {
    const [previous, next] = [this.#previous[offset] as number, this.#next[offset] as number]
    this.#next[previous] = next
    this.#previous[next] = previous
  }

  #linkBefore(next: number, offset: number): void {
    const previous = this.#previous[next] as number
    this.#next[previous] = offset
    this.#previous[offset] = previous
    this.#next[offset] = next
    this.#previous[next] = offset
  }
}
