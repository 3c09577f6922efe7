/**
 * Slots whose record somebody deleted. No daemon deletes one while its pool exists, since the counter in it must never fall:
 * it was done by hand. Whoever watched knows the record as it was, and writes it again, by a compare-and-swap that asks for
 * none to be there: the owners of its parts at once (`Ownership.confirm`), else, as here, a few of those that saw it. Until
 * then nobody who saw it claims anything of the slot.
 *
 * Trap: this undoes a deletion that a watch without gaps has shown, and nothing else. A list in which a slot is missing may
 * be of an older state of the store, and that is rule 16.
 */
import type { Mirror } from '../datastore/mirror.ts'
import type { NodeRecord } from '../datastore/records/node.ts'
import type { SlotRecord } from '../datastore/records/slot.ts'
import type { Store } from '../datastore/store.ts'
import type { Clock, Random } from '../lib/clock.ts'
import { messageOf } from '../lib/errors.ts'
import type { Log } from '../lib/log.ts'
import { Periodic } from '../lib/periodic.ts'
import { readSpace } from './address-space.ts'
import { type Changed, changeRecord, KEEP } from './change-record.ts'
import { ACTORS } from './fences.ts'
import { parseSlotKey } from './slot.ts'
import { parseSlot, type SlotIndex } from './slot-index.ts'

/**
 * The record as it was, unless there is one again, which then counts. null: its pool is gone for ever, and its slots with it.
 * @throws store.*
 */
export async function putBack(
  key: string,
  record: SlotRecord,
  { store, log }: { readonly store: Store; readonly log: Log },
): Promise<Changed<SlotRecord> | null> {
  const poolUid = parseSlotKey(key)?.poolUid
  const space = await readSpace(store)
  if (!space.pools.some(({ uid }) => uid === poolUid)) return null
  const changed = await changeRecord<SlotRecord>(store, {
    key,
    parse: parseSlot,
    known: { value: null, modRevision: 0 },
    step: current => (current === null ? record : KEEP),
  })
  if (changed.wrote)
    log.error({ slot: key }, 'somebody deleted the record of a slot: written again as it was')
  return changed
}

export interface DeletedSlotsModules {
  readonly store: Store
  readonly clock: Clock
  readonly random: Random
  readonly log: Log
  readonly nodes: Mirror<NodeRecord>
  readonly slots: Pick<SlotIndex, 'deleted' | 'forget'>
}

export class DeletedSlots {
  readonly #modules: DeletedSlotsModules
  readonly #sweeping: Periodic

  constructor(options: { readonly everyMs: number }, modules: DeletedSlotsModules) {
    this.#modules = modules
    const { clock, random, log } = modules
    this.#sweeping = new Periodic(options, {
      ...{ clock, random },
      work: () => this.#sweep(),
      failed: error => log.debug({ err: messageOf(error) }, 'deleted slots are not written again yet'),
    })
  }

  start(): void {
    this.#sweeping.start()
  }

  stop(): Promise<void> {
    return this.#sweeping.stop()
  }

  async #sweep(): Promise<void> {
    const { random, nodes, slots } = this.#modules
    if (slots.deleted.size === 0 || random.fraction() >= ACTORS / nodes.entries.size) return
    for (const [key, record] of [...slots.deleted]) {
      // One that was put back, or forgotten with its pool, is not there any more.
      if (!slots.deleted.has(key) || (await putBack(key, record, this.#modules)) !== null) continue
      const pool = parseSlotKey(key)?.poolUid
      for (const other of [...slots.deleted.keys()])
        if (parseSlotKey(other)?.poolUid === pool) slots.forget(other)
    }
  }
}
