/**
 * Who holds which address of this node's parts: in memory alone, nothing here waits. Whether a part may be used
 * at all is decided by the predicate it is given (term, fence, doubt, pool).
 *
 * Parts are filled in the order they came, so that later ones stay empty and can be given back; within a part
 * the address freed longest ago goes first. Cooling addresses are taken only when asked for.
 */
import { addressAt, type Cidr, contains, formatIp, type Ip, parseIp } from '../lib/address.ts'
import type { AddressRanges } from './address-ranges.ts'
import type { HeldAddress, Holder } from './ipam.ts'
import { slotId } from './journal-records.ts'
import { newSlot, type OwnedPart, type OwnSlot, partOf } from './own-slots.ts'

export interface Holding {
  readonly holder: Holder
  addresses: HeldAddress[]
  /** The caller has journaled it: it belongs in the ledger. */
  recorded: boolean
}

export interface Released {
  readonly holding: Holding
  readonly freed: readonly { readonly part: OwnedPart; readonly address: HeldAddress }[]
}

export interface AllocatorOptions {
  readonly coolDownMs: number
  readonly usable: (part: OwnedPart) => boolean
  /** Ranges of a pool that never go out; the same object while nothing has changed. */
  readonly withheld: (poolUid: string) => AddressRanges
  /** BOOTTIME. */
  readonly nowMs: () => number
}

export class Allocator {
  readonly #options: AllocatorOptions
  readonly #slots = new Map<string, OwnSlot>()
  readonly #byKey = new Map<string, OwnSlot>()
  /** The same by pool, then by id. */
  readonly #slotsOf = new Map<string, Map<string, OwnSlot>>()
  readonly #holdings = new Map<string, Holding>()

  constructor(options: AllocatorOptions) {
    this.#options = options
  }

  get slots(): ReadonlyMap<string, OwnSlot> {
    return this.#slots
  }

  get holdings(): ReadonlyMap<string, Holding> {
    return this.#holdings
  }

  /** For ever: one object stands for a slot, also while nothing of it is ours. */
  addSlot(slot: OwnSlot): void {
    this.#slots.set(slot.id, slot)
    this.#byKey.set(slot.key, slot)
    const ofPool = this.#slotsOf.get(slot.poolUid) ?? new Map<string, OwnSlot>()
    this.#slotsOf.set(slot.poolUid, ofPool.set(slot.id, slot))
  }

  /** By its key in the store; undefined: there is no object for it yet. */
  slotOf(key: string): OwnSlot | undefined {
    return this.#byKey.get(key)
  }

  /** The object that stands for this slot, made if there is none yet. */
  slotAt(poolUid: string, cidr: Cidr): OwnSlot {
    const fresh = newSlot(poolUid, cidr)
    const known = this.#slots.get(fresh.id)
    if (known === undefined) this.addSlot(fresh)
    return known ?? fresh
  }

  /** The part of ours that has this address of the pool, usable or not. */
  partWith(poolUid: string, ip: Ip): OwnedPart | null {
    for (const part of this.partsOf(poolUid)) if (contains(part.cidr, ip)) return part
    return null
  }

  /** Takes this very address, cooling or not. null: another holds it. Whether the part is usable is not asked here. */
  takeNamed(holder: Holder, part: OwnedPart, ip: Ip): HeldAddress | null {
    const offset = Number(ip.value - part.cidr.base)
    if (part.addresses.holderOf(offset) !== null) return null
    part.addresses.takeAt(offset, holder.id)
    return this.#held(holder, part, offset)
  }

  /** Takes an address of this pool that has cooled for the holder, or null when no usable part has one. */
  takeReady(holder: Holder, poolUid: string): HeldAddress | null {
    return this.#takeFrom(holder, this.#firstReady(poolUid))
  }

  /** Of all these pools the one that was freed longest ago, or null when no usable part has a free address. */
  takeCooling(holder: Holder, poolUids: readonly string[]): HeldAddress | null {
    return this.#takeFrom(holder, this.#oldestCooling(poolUids))
  }

  #takeFrom(holder: Holder, part: OwnedPart | null): HeldAddress | null {
    const offset = part?.addresses.take(holder.id) ?? null
    if (part === null || offset === null) return null
    return this.#held(holder, part, offset)
  }

  #held(holder: Holder, part: OwnedPart, offset: number): HeldAddress {
    const held = heldAddress(part, offset)
    this.#holdingOf(holder).addresses.push(held)
    return held
  }

  /** Enters what the journal or the ledger says is held. False when the part is not ours or another holds it. */
  hold(holder: Holder, held: HeldAddress, recorded: boolean): boolean {
    const ip = parseIp(held.address)
    const part = partOf(this.#slots.get(slotId(held.poolUid, held.slot)), held, ip)
    const holding = this.#holdingOf(holder)
    holding.recorded = recorded
    if (
      !holding.addresses.some(({ address, poolUid }) => address === held.address && poolUid === held.poolUid)
    )
      holding.addresses.push(held)
    return part?.addresses.takeAt(Number(ip.value - part.cidr.base), holder.id) ?? false
  }

  /** `id` is an addressId; one that is held, or not ours, is left alone. Call in order of time. */
  setFreed(id: string, atMs: number): void {
    const [poolUid = '', address = ''] = id.split(' ')
    const ip = parseIp(address)
    for (const part of this.partsOf(poolUid))
      if (contains(part.cidr, ip)) part.addresses.setFreed(Number(ip.value - part.cidr.base), atMs)
  }

  /** Undoes takes that were answered to nobody. */
  putBack(holderId: string): void {
    this.#remove(holderId, (part, offset) => part.addresses.putBack(offset))
  }

  /** null: unknown holder. */
  release(holderId: string): Released | null {
    const nowMs = this.#options.nowMs()
    return this.#remove(holderId, (part, offset) => part.addresses.release(offset, nowMs))
  }

  record(holderId: string): Holding | null {
    const holding = this.#holdings.get(holderId) ?? null
    if (holding !== null) holding.recorded = true
    return holding
  }

  /** Free addresses of the pool that may go out now without being taken from their cool-down, up to `limit`. */
  ready(poolUid: string, limit: number): number {
    let count = 0
    for (const part of this.partsWithRoom(poolUid)) {
      if (count >= limit) break
      if (this.#options.usable(part))
        count += part.addresses.countFreedBy(this.#cooledSinceMs(), limit - count)
    }
    return count
  }

  *partsOf(poolUid: string): Generator<OwnedPart> {
    const withheld = this.#options.withheld(poolUid)
    for (const slot of this.#slotsOf.get(poolUid)?.values() ?? [])
      for (const part of slot.parts) {
        part.addresses.withhold(withheld)
        yield part
      }
  }

  /** Without those that are held to the last address: most of them, where every allocation looks for one. */
  *partsWithRoom(poolUid: string): Generator<OwnedPart> {
    const withheld = this.#options.withheld(poolUid)
    for (const slot of this.#slotsOf.get(poolUid)?.values() ?? [])
      for (const part of slot.parts) {
        if (part.addresses.held === part.addresses.size) continue
        part.addresses.withhold(withheld)
        if (part.addresses.free > 0) yield part
      }
  }

  /** Does anybody hold an address of it here? */
  isUsed(poolUid: string): boolean {
    for (const part of this.partsOf(poolUid)) if (part.addresses.held > 0) return true
    return false
  }

  /** Addresses free, cooling or not, in parts that this node knows to be its own, counted up to `limit`. */
  free(poolUids: readonly string[], limit: number): number {
    let free = 0
    for (const poolUid of poolUids)
      for (const part of this.partsWithRoom(poolUid)) {
        // One that is unknown is not usable before everybody else's term is over: until then there must be others.
        if (part.unknownSinceMs === null) free += part.addresses.free
        if (free >= limit) return limit
      }
    return free
  }

  /** Holders with an address in this part. */
  holdersIn(part: OwnedPart): string[] {
    return [...part.addresses.holders()].map(({ holder }) => holder)
  }

  /** It has free addresses, and each of them cools. */
  onlyCools({ addresses }: OwnedPart): boolean {
    const oldestMs = addresses.oldestFreedMs
    return oldestMs !== null && oldestMs > this.#cooledSinceMs()
  }

  #firstReady(poolUid: string): OwnedPart | null {
    const sinceMs = this.#cooledSinceMs()
    for (const part of this.partsWithRoom(poolUid)) {
      const oldestMs = part.addresses.oldestFreedMs
      if (oldestMs !== null && oldestMs <= sinceMs && this.#options.usable(part)) return part
    }
    return null
  }

  #oldestCooling(poolUids: readonly string[]): OwnedPart | null {
    const age = (part: OwnedPart) => part.addresses.oldestFreedMs ?? Number.POSITIVE_INFINITY
    let oldest: OwnedPart | null = null
    for (const part of poolUids.flatMap(uid => [...this.partsWithRoom(uid)]))
      if (this.#options.usable(part)) if (oldest === null || age(part) < age(oldest)) oldest = part
    return oldest
  }

  #cooledSinceMs(): number {
    return this.#options.nowMs() - this.#options.coolDownMs
  }

  #holdingOf(holder: Holder): Holding {
    const known = this.#holdings.get(holder.id)
    if (known !== undefined) return known
    const holding: Holding = { holder, addresses: [], recorded: false }
    this.#holdings.set(holder.id, holding)
    return holding
  }

  #remove(holderId: string, free: (part: OwnedPart, offset: number) => void): Released | null {
    const holding = this.#holdings.get(holderId)
    if (holding === undefined) return null
    this.#holdings.delete(holderId)
    const freed: { part: OwnedPart; address: HeldAddress }[] = []
    for (const address of holding.addresses) {
      const ip = parseIp(address.address)
      const part = partOf(this.#slots.get(slotId(address.poolUid, address.slot)), address, ip)
      const offset = part === null ? 0 : Number(ip.value - part.cidr.base)
      if (part === null || part.addresses.holderOf(offset) !== holderId) continue
      free(part, offset)
      freed.push({ part, address })
    }
    return { holding, freed }
  }
}

export function heldAddress(part: OwnedPart, offset: number): HeldAddress {
  return {
    family: part.cidr.family,
    address: formatIp(addressAt(part.cidr, offset)),
    poolUid: part.slot.poolUid,
    slot: part.slot.text,
    generation: part.generation,
  }
}
