/**
 * What the store shows as this machine's although it may not go on under its name (ADDRESSES.md rule 15). While a part
 * bears our UID, fenced or not, nobody else has it. Changes nothing, and needs no journal.
 *
 * Trap: what cannot be read may be ours, so it counts as ours; while a restored store is marked (rule 16) that is
 * everything, since nodes are still writing what the backup lacks.
 */
import { livenessKey, PREFIX } from '../datastore/keys.ts'
import { recordParser } from '../datastore/record.ts'
import { livenessRecord } from '../datastore/records/liveness.ts'
import type { KeyValue, Store } from '../datastore/store.ts'
import { type Cidr, parseCidr } from '../lib/address.ts'
import { TwillError } from '../lib/errors.ts'
import { readSpace } from './address-space.ts'
import { sameHardware } from './hardware.ts'
import { parseSlotKey } from './slot.ts'
import { parseSlot } from './slot-index.ts'

export interface Machine {
  /** null: the journal is lost. */
  readonly journaledUid: string | null
  /** hardwareText. */
  readonly hardware: string
}

const parseLiveness = recordParser(livenessRecord)

/** @throws store.*; document.invalid; ipam.not-confirmed (retryable) while the store is marked as restored */
export async function stillOwned(machine: Machine, store: Store): Promise<Cidr[]> {
  if ((await readSpace(store)).restored !== null)
    throw new TwillError(
      'ipam.not-confirmed',
      'the datastore was restored from an older snapshot: what it lacks may still be entered again',
      {},
      { retryable: true },
    )
  const uids = await uidsOf(machine, store)
  const { entries } = await store.list(PREFIX.slots)
  return entries.flatMap(entry => ownedIn(entry, uids))
}

/** Not the journaled one if other hardware lives under it: ours is the copy (rule 14). */
async function uidsOf({ journaledUid, hardware }: Machine, store: Store): Promise<ReadonlySet<string>> {
  const parse = ({ key, value }: KeyValue) => parseLiveness(value, key)
  if (journaledUid === null) {
    const all = (await store.list(PREFIX.liveness)).entries.map(parse)
    return new Set(all.filter(each => sameHardware(each.hardware, hardware)).map(({ uid }) => uid))
  }
  const { entry } = await store.get(livenessKey(journaledUid))
  const isOurs = entry === null || sameHardware(parse(entry).hardware, hardware)
  return new Set(isOurs ? [journaledUid] : [])
}

function ownedIn({ key, value }: KeyValue, uids: ReadonlySet<string>): Cidr[] {
  const place = parseSlotKey(key)
  if (place === null) return []
  try {
    const { parts } = parseSlot(value, key)
    return parts.filter(({ owner }) => owner !== null && uids.has(owner)).map(({ cidr }) => parseCidr(cidr))
  } catch {
    return [place.slot]
  }
}
