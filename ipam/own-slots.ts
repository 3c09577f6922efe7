/**
 * The slots that this node has parts in, as it knows them itself: the state that the journal carries over a
 * restart. The store's view of the same slots is compared with it by `ownership.ts`.
 */

import { slotKey } from '../datastore/keys.ts'
import type { SlotRecord } from '../datastore/records/slot.ts'
import { type Cidr, contains, formatCidr, type Ip, parseCidr } from '../lib/address.ts'
import type { HeldAddress } from './ipam.ts'
import { type Instant, type JournaledSlot, slotId } from './journal-records.ts'
import { PartAddresses } from './part-addresses.ts'
import { parseSlotKey } from './slot.ts'

export interface OwnedPart {
  readonly slot: OwnSlot
  readonly cidr: Cidr
  readonly text: string
  readonly generation: number
  readonly addresses: PartAddresses
  fenced: boolean
  /** BOOTTIME since which a part stands that bears our UID and that our journal does not know; null: known (rule 16). */
  unknownSinceMs: number | null
}

export interface OwnSlot {
  readonly poolUid: string
  readonly slot: Cidr
  readonly text: string
  readonly id: string
  readonly key: string
  parts: OwnedPart[]
  /** Id of a claim sent and not yet adopted or known to have failed. */
  claiming: string | null
  /** `claiming` is a request that stands in the record, to other owners: whoever waits for them ends it. */
  asking: boolean
  /** Pieces given away by a commit whose outcome is not known. */
  giving: OwnedPart[]
  /** The ledger says what the journal cannot (rule 17): nothing is used before it was read. */
  ledgerUnread: boolean
  /** Sent before the request that last confirmed it. */
  confirmed: Instant | null
  /** The record as last seen by a linearisable read or own write. */
  seen: { value: SlotRecord | null; modRevision: number } | null
}

export function newSlot(poolUid: string, slot: Cidr): OwnSlot {
  const text = formatCidr(slot)
  return {
    poolUid,
    slot,
    text,
    id: slotId(poolUid, text),
    key: slotKey(poolUid, slot),
    parts: [],
    claiming: null,
    asking: false,
    giving: [],
    ledgerUnread: false,
    confirmed: null,
    seen: null,
  }
}

/** null: the key names no slot. */
export function slotFromKey(key: string): OwnSlot | null {
  const place = parseSlotKey(key)
  return place === null ? null : newSlot(place.poolUid, place.slot)
}

/**
 * As the journal left it. A claim or gift under way then is in doubt now.
 * @param freedMs when its free addresses were last freed, if that matters; what was being given cools from `nowMs`
 */
export function slotFromJournal(
  journaled: JournaledSlot,
  confirmed: Instant | null,
  { freedMs, nowMs }: { readonly freedMs: number | undefined; readonly nowMs: number },
): OwnSlot {
  const slot = newSlot(journaled.poolUid, parseCidr(journaled.slot))
  slot.parts = journaled.parts.map(part => newPart(slot, part.cidr, part.generation, freedMs))
  slot.claiming = journaled.claiming
  slot.giving = journaled.giving.map(piece => newPart(slot, piece.cidr, piece.generation, nowMs))
  slot.confirmed = confirmed
  return slot
}

export function newPart(slot: OwnSlot, text: string, generation: number, freedMs?: number): OwnedPart {
  const cidr = parseCidr(text)
  const addresses = new PartAddresses(cidr, freedMs)
  return { slot, cidr, text, generation, addresses, fenced: false, unknownSinceMs: null }
}

/** Something that we asked for may still become true: a part that is unknown here may be that. */
export const isInDoubt = (slot: OwnSlot): boolean => slot.claiming !== null || slot.giving.length > 0

/** A commit of ours may still take effect: only a further successful one tells (rule 4). */
export const mustSettle = (slot: OwnSlot): boolean =>
  slot.giving.length > 0 || (slot.claiming !== null && !slot.asking)

/** What the journal must say of the slot for a restart to know what we know. */
export function journaledSlot(slot: OwnSlot): JournaledSlot {
  return {
    t: 'slot',
    poolUid: slot.poolUid,
    slot: slot.text,
    parts: slot.parts.filter(part => part.unknownSinceMs === null).map(journaledPart),
    claiming: slot.claiming,
    giving: slot.giving.map(journaledPart),
  }
}

const journaledPart = ({ text, generation }: OwnedPart) => ({ cidr: text, generation })

export function partOf(slot: OwnSlot | undefined, held: HeldAddress, ip: Ip): OwnedPart | null {
  return slot?.parts.find(part => part.generation === held.generation && contains(part.cidr, ip)) ?? null
}
