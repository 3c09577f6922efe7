/**
 * Compares our parts of a slot with its record: which are ours no longer, which stand there that we know nothing of,
 * and how the record cuts the ones that stay. Changes the slot in memory; the caller journals and reports.
 */
import type { Part, SlotRecord } from '../datastore/records/slot.ts'
import { type Cidr, covers, formatCidr, parseCidr } from '../lib/address.ts'
import type { Instant } from './journal-records.ts'
import { isInDoubt, newPart, type OwnedPart, type OwnSlot } from './own-slots.ts'
import { alignParts, remainder } from './part-pieces.ts'
import { partsOf } from './slot.ts'
import { laterOf } from './term.ts'
import { behindOf } from './went-back.ts'

export interface Sight {
  readonly record: SlotRecord
  readonly modRevision: number
  /** When the linearisable read or the write of our own was sent; null: a watch showed it, which confirms nothing. */
  readonly at: Instant | null
}

interface Shown {
  readonly cidr: Cidr
  readonly generation: number
  readonly fenced: boolean
}

export interface Examined {
  readonly lost: readonly OwnedPart[]
  readonly unknown: readonly OwnedPart[]
  /** The record is too old to show them (rule 16): they stay, and confirm nothing. */
  readonly behind: readonly OwnedPart[]
}

/** Nothing is unknown while the slot is in doubt: what stands there may be what was asked for. */
export function examine(
  slot: OwnSlot,
  { record, modRevision, at }: Sight,
  options: { readonly nodeUid: string; readonly nowMs: number },
): Examined {
  slot.seen = { value: record, modRevision }
  const shown = partsOf(record, options.nodeUid).map(shownOf)
  const { parts, lost: absent } = alignParts(slot.parts, shown)
  const behind = behindOf(absent, record, options.nodeUid)
  const lost = absent.filter(part => !behind.includes(part))
  const unknown = isInDoubt(slot) ? [] : unknownParts(slot, parts, shown, options.nowMs)
  slot.parts = [...parts, ...behind, ...unknown]
  for (const part of slot.parts)
    part.fenced = shown.some(({ cidr, fenced }) => fenced && covers(cidr, part.cidr))
  if (unknown.length > 0) slot.ledgerUnread = true
  // Without a part of ours there is nothing that it could tell, and what comes is of another generation.
  if (slot.parts.length === 0) slot.ledgerUnread = false
  if (at !== null && behind.length === 0) slot.confirmed = laterOf(slot.confirmed, at)
  return { lost, unknown, behind }
}

const shownOf = ({ cidr, generation, fence }: Part): Shown => ({
  cidr: parseCidr(cidr),
  generation,
  fenced: fence !== null,
})

/** They bear our UID, and neither memory nor journal knows them (rule 16). */
function unknownParts(
  slot: OwnSlot,
  known: readonly OwnedPart[],
  shown: readonly Shown[],
  nowMs: number,
): OwnedPart[] {
  return shown.flatMap(({ cidr, generation }) => {
    const ours = known.filter(part => part.generation === generation).map(part => part.cidr)
    return remainder(cidr, ours).map(hole => {
      const part = newPart(slot, formatCidr(hole), generation, nowMs)
      part.unknownSinceMs = nowMs
      return part
    })
  })
}
