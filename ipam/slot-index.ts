/** The slots of all pools as the watch shows them, indexed for choosing what to claim. May lag behind the store. */
import { PREFIX } from '../datastore/keys.ts'
import { Mirror, type MirrorChange, type MirrorEntry } from '../datastore/mirror.ts'
import { recordParser } from '../datastore/record.ts'
import { type SlotRecord, slotRecord } from '../datastore/records/slot.ts'
import type { Store } from '../datastore/store.ts'
import { TwillError } from '../lib/errors.ts'
import type { Log } from '../lib/log.ts'
import { checkSlot, parseSlotKey } from './slot.ts'

interface PoolSlots {
  readonly keys: Set<string>
  /** Keys of slots with a free part. */
  readonly free: Set<string>
}

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

  constructor(
    options: { readonly onChange: (changes: readonly MirrorChange<SlotRecord>[]) => void },
    modules: { store: Store; log: Log },
  ) {
    this.#mirror = new Mirror<SlotRecord>(
      {
        prefix: PREFIX.slots,
        parse: parseSlot,
        onChange: changes => {
          for (const change of changes) this.#index(change)
          options.onChange(changes)
        },
      },
      modules,
    )
  }

  get(key: string): MirrorEntry<SlotRecord> | undefined {
    return this.#mirror.entries.get(key)
  }

  /** There is a record, readable or not. */
  exists(key: string): boolean {
    return this.#mirror.entries.has(key) || this.#mirror.aside.has(key)
  }

  get entries(): ReadonlyMap<string, MirrorEntry<SlotRecord>> {
    return this.#mirror.entries
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

  /** Keys of slots in which somebody asks for addresses. */
  withRequests(): ReadonlySet<string> {
    return this.#asked
  }

  synced(): Promise<void> {
    return this.#mirror.synced()
  }

  close(): Promise<void> {
    return this.#mirror.close()
  }

  #index({ key, after }: MirrorChange<SlotRecord>): void {
    const poolUid = parseSlotKey(key)?.poolUid ?? ''
    const pool = this.#pools.get(poolUid) ?? { keys: new Set<string>(), free: new Set<string>() }
    this.#pools.set(poolUid, pool)
    if (after === null) pool.keys.delete(key)
    else pool.keys.add(key)
    if ((after?.value.requests.length ?? 0) > 0) this.#asked.add(key)
    else this.#asked.delete(key)
    if (after?.value.parts.some(part => part.owner === null)) pool.free.add(key)
    else pool.free.delete(key)
  }
}
