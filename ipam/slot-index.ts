/** The slots of all pools as the watch shows them, indexed for choosing what to claim. May lag behind the store. */
import { PREFIX } from '../datastore/keys.ts'
import type { Mirror, MirrorChange, MirrorEntry, MirrorListener } from '../datastore/mirror.ts'
import { recordParser } from '../datastore/record.ts'
import { type Part, type SlotRecord, slotRecord } from '../datastore/records/slot.ts'
import { type IpRange, lastOf } from '../lib/address.ts'
import { TwillError } from '../lib/errors.ts'
import { AddressRanges } from './address-ranges.ts'
import { checkSlot, parseSlotKey } from './slot.ts'

interface PoolSlots {
  readonly keys: Set<string>
  /** Keys of slots with a free part. */
  readonly free: Set<string>
  /** As they were when there were `count` keys; null: one has gone since. */
  recorded: { readonly ranges: AddressRanges; readonly count: number } | null
}

/** Records that may come before `recorded` is made anew: who looks for a slot without one tries as many in vain. */
const RECORDED_BEHIND = 64

const parseRecord = recordParser(slotRecord)

/** Text of a slot's record → record whose parts cover the slot. @throws document.invalid, ipam.record-damaged */
export function parseSlot(text: string, key: string): SlotRecord {
  const place = parseSlotKey(key)
  if (place === null) throw new TwillError('ipam.record-damaged', `${key} names no slot`, { key })
  const record = parseRecord(text, key)
  checkSlot(record, place.slot)
  return record
}

export class SlotIndex {
  readonly #mirror: Mirror<SlotRecord>
  readonly #pools = new Map<string, PoolSlots>()
  readonly #asked = new Set<string>()
  readonly #fenced = new Set<string>()
  readonly #deleted = new Map<string, SlotRecord>()
  readonly #unsubscribe: () => void

  constructor(
    options: { readonly onChange: MirrorListener<SlotRecord> },
    modules: { readonly slots: Mirror<SlotRecord> },
  ) {
    this.#mirror = modules.slots
    this.#unsubscribe = this.#mirror.subscribe(changes => {
      for (const change of changes) this.#index(change)
      options.onChange(changes)
    })
  }

  get(key: string): MirrorEntry<SlotRecord> | undefined {
    return this.#mirror.entries.get(key)
  }

  /** There is a record, readable or not, or there must be: somebody deleted it. */
  exists(key: string): boolean {
    return this.#mirror.entries.has(key) || this.#mirror.aside.has(key) || this.#deleted.has(key)
  }

  /** By key, what records were that a watch without gaps has shown deleted, until there is one again. */
  get deleted(): ReadonlyMap<string, SlotRecord> {
    return this.#deleted
  }

  /** It was right to delete it. */
  forget(key: string): void {
    this.#deleted.delete(key)
  }

  get entries(): ReadonlyMap<string, MirrorEntry<SlotRecord>> {
    return this.#mirror.entries
  }

  /** Of pools that have slots with a readable record. */
  *poolUids(): Generator<string> {
    for (const [uid, { keys }] of this.#pools) if (keys.size > 0) yield uid
  }

  /** Slots of the pool that have a readable record. */
  count(poolUid: string): number {
    return this.#pools.get(poolUid)?.keys.size ?? 0
  }

  /** Keys of the pool's slots that have a free part. */
  withFree(poolUid: string): ReadonlySet<string> {
    return this.#pools.get(poolUid)?.free ?? new Set()
  }

  /** Keys of the pool's slots that have a readable record. */
  keysOf(poolUid: string): ReadonlySet<string> {
    return this.#pools.get(poolUid)?.keys ?? new Set()
  }

  recorded(poolUid: string): AddressRanges {
    const pool = this.#pools.get(poolUid)
    if (pool === undefined) return NO_RANGES
    if (pool.recorded === null || pool.keys.size - pool.recorded.count > RECORDED_BEHIND)
      pool.recorded = { ranges: rangesOf(pool.keys), count: pool.keys.size }
    return pool.recorded.ranges
  }

  /** Keys of slots with a fenced part. */
  withFences(): ReadonlySet<string> {
    return this.#fenced
  }

  /** Keys of slots in which somebody asks for addresses. */
  withRequests(): ReadonlySet<string> {
    return this.#asked
  }

  synced(): Promise<void> {
    return this.#mirror.synced()
  }

  close(): void {
    this.#unsubscribe()
  }

  #index({ key, before, after, gapless }: MirrorChange<SlotRecord>): void {
    if (after !== null) this.#deleted.delete(key)
    else if (gapless && before !== null) this.#deleted.set(key, before.value)
    const pool = this.#poolOf(key)
    const { parts, requests } = after?.value ?? { parts: [], requests: [] }
    if (after === null) pool.recorded = null
    enter(pool.keys, key, after !== null)
    enter(pool.free, key, parts.some(isFree))
    enter(this.#fenced, key, parts.some(isFenced))
    enter(this.#asked, key, requests.length > 0)
  }

  #poolOf(key: string): PoolSlots {
    const uid = key.slice(PREFIX.slots.length, key.indexOf('/', PREFIX.slots.length))
    const known = this.#pools.get(uid)
    if (known !== undefined) return known
    const fresh: PoolSlots = { keys: new Set(), free: new Set(), recorded: null }
    this.#pools.set(uid, fresh)
    return fresh
  }
}

const isFree = (part: Part): boolean => part.owner === null
const isFenced = (part: Part): boolean => part.fence !== null

function enter(keys: Set<string>, key: string, isIn: boolean): void {
  if (isIn) keys.add(key)
  else keys.delete(key)
}

const NO_RANGES = new AddressRanges([])

function rangesOf(keys: Iterable<string>): AddressRanges {
  const ranges: IpRange[] = []
  for (const key of keys) {
    const slot = parseSlotKey(key)?.slot
    if (slot !== undefined) ranges.push({ family: slot.family, first: slot.base, last: lastOf(slot).value })
  }
  return new AddressRanges(ranges)
}
