/**
 * Who owns and holds how many addresses, from slots and ledgers. Ledger entries of a generation that the slot no
 * longer shows count for nothing (ADDRESSES.md, Records).
 */
import { PREFIX } from '../datastore/keys.ts'
import { recordParser } from '../datastore/record.ts'
import { type LedgerRecord, ledgerRecord } from '../datastore/records/ledger.ts'
import { type Part, type SlotRecord, slotRecord } from '../datastore/records/slot.ts'
import type { Store } from '../datastore/store.ts'
import { parseCidr, sizeOf } from '../lib/address.ts'

export interface Usage {
  /** Parts that belong to a node. */
  readonly parts: number
  /** Addresses in these parts. */
  readonly claimed: bigint
  /** Addresses that pods and tunnels hold. */
  readonly held: number
  readonly owners: ReadonlySet<string>
}

/** The slots of one pool, or of all, with their ledgers, by "<pool uid>/<slot>". */
export interface Occupancy {
  readonly slots: ReadonlyMap<string, SlotRecord>
  readonly ledgers: ReadonlyMap<string, readonly LedgerRecord[]>
}

const parseSlot = recordParser(slotRecord)
const parseLedger = recordParser(ledgerRecord)

/** Slots are small; ledgers grow with pods. What cannot be read is told to `warn` and left out. */
export async function readOccupancy(store: Store, warn: (line: string) => void): Promise<Occupancy> {
  const slots = await readAll(store, PREFIX.slots, parseSlot, warn)
  const ledgers = new Map<string, LedgerRecord[]>()
  for (const [key, ledger] of await readAll(store, PREFIX.ledgers, parseLedger, warn)) {
    const slot = key.split('/').slice(0, 2).join('/')
    ledgers.set(slot, [...(ledgers.get(slot) ?? []), ledger])
  }
  return { slots, ledgers }
}

/** Records under a prefix, by the rest of their key. */
export async function readAll<T>(
  store: Store,
  prefix: string,
  parse: (text: string, key: string) => T,
  warn: (line: string) => void,
): Promise<Map<string, T>> {
  const records = new Map<string, T>()
  for (const { key, value } of (await store.list(prefix)).entries) {
    try {
      records.set(key.slice(prefix.length), parse(value, key))
    } catch (error) {
      warn((error as Error).message)
    }
  }
  return records
}

/** Pure. Of the slots of this pool (null: of all), what this node has (null: any node). */
export function usageOf(occupancy: Occupancy, poolUid: string | null, nodeUid: string | null): Usage {
  let [parts, claimed, held] = [0, 0n, 0]
  const owners = new Set<string>()
  for (const [key, slot] of occupancy.slots) {
    if (poolUid !== null && !key.startsWith(`${poolUid}/`)) continue
    const owned = slot.parts.filter(({ owner }) => owner !== null && (nodeUid === null || owner === nodeUid))
    for (const part of owned) {
      parts++
      claimed += sizeOf(parseCidr(part.cidr))
      owners.add(part.owner as string)
    }
    held += heldIn(owned, occupancy.ledgers.get(key) ?? [])
  }
  return { parts, claimed, held, owners }
}

function heldIn(parts: readonly Part[], ledgers: readonly LedgerRecord[]): number {
  const current = new Set(parts.map(part => `${part.owner} ${part.generation}`))
  return ledgers.reduce((sum, ledger) => {
    const generations = Object.entries(ledger.generations)
    const counted = generations.filter(([generation]) => current.has(`${ledger.owner} ${generation}`))
    return sum + counted.reduce((each, [, holders]) => each + Object.keys(holders).length, 0)
  }, 0)
}
