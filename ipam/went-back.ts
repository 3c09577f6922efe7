/**
 * A slot whose record is of an older state of the store (ADDRESSES.md rule 16): how it is told from one that others
 * have changed, and how a part is entered again. Pure.
 *
 * A part that somebody else got has a higher generation than it had with us, since every change of owner raises it
 * above the slot's counter. A record that shows our addresses under an older generation, or under the same one as
 * another's, is thus of an earlier time (or of a time that went on from there).
 */
import type { Part, SlotRecord } from '../datastore/records/slot.ts'
import { type Cidr, covers, formatCidr, overlaps, parseCidr } from '../lib/address.ts'
import { carve } from './slot.ts'

export interface KnownPart {
  readonly cidr: Cidr
  readonly generation: number
}

/** Does the record, in which `part` of `owner` does not stand, come from before it was his? */
export function isBehind(record: SlotRecord, owner: string, part: KnownPart): boolean {
  const over = partsOver(record, part.cidr)
  return over.every(other => other.generation <= part.generation) && !over.every(mineFor(owner, part))
}

/** Those of our parts that the record is too old to show. */
export function behindOf<T extends KnownPart>(parts: readonly T[], record: SlotRecord, owner: string): T[] {
  return parts.filter(part => isBehind(record, owner, part))
}

/**
 * The record with `part` in it, the parts around it cut; what others are left with keeps its generation.
 * null: not possible, its addresses belong to somebody with the same or a higher generation, or, without `inTerm`,
 * to anybody: who may have lost it before has to wait until those whose term runs are back.
 */
export function enterPart(
  record: SlotRecord,
  owner: string,
  part: KnownPart,
  inTerm: boolean,
): SlotRecord | null {
  const mine = mineFor(owner, part)
  const yields = (other: Part) =>
    mine(other) ||
    (other.generation < part.generation && (other.owner === null || other.owner === owner || inTerm))
  if (!partsOver(record, part.cidr).every(yields)) return null
  const entered: Part = {
    cidr: formatCidr(part.cidr),
    owner,
    generation: part.generation,
    claim: null,
    fence: null,
    cooling: {},
  }
  const parts = record.parts.flatMap(other => {
    const cidr = parseCidr(other.cidr)
    if (!overlaps(cidr, part.cidr)) return [other]
    if (cidr.prefix >= part.cidr.prefix) return cidr.base === part.cidr.base ? [entered] : []
    return carve(cidr, part.cidr).map(piece =>
      covers(part.cidr, piece) ? entered : { ...other, cidr: formatCidr(piece), cooling: {} },
    )
  })
  return { ...record, generation: Math.max(record.generation, part.generation), parts }
}

const partsOver = (record: SlotRecord, cidr: Cidr): Part[] =>
  record.parts.filter(other => overlaps(parseCidr(other.cidr), cidr))

/** Ours in the same generation: only cut in another way. */
const mineFor =
  (owner: string, { generation }: KnownPart) =>
  (other: Part): boolean =>
    other.owner === owner && other.generation === generation
