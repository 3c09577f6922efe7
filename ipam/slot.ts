/**
 * The slot protocol as pure steps: each takes a slot's record and yields the next one, or null when the record
 * does not allow the step. Whoever takes a step writes its result by compare-and-swap of the slot's key.
 *
 * Invariants (ADDRESSES.md rules 1 and 2): parts cover the slot without overlap, in order; a part's generation
 * is raised when it changes owner and only then; only free parts merge; the counter never falls.
 */

import { PREFIX } from '../datastore/keys.ts'
import type { Fence, Part, SlotRecord } from '../datastore/records/slot.ts'
import {
  bitsOf,
  type Cidr,
  contains,
  covers,
  formatCidr,
  type Ip,
  parseCidr,
  parseIp,
  sizeOf,
} from '../lib/address.ts'
import { TwillError } from '../lib/errors.ts'

export type Step = SlotRecord | null

/** A slot that nobody has claimed yet: one free part. It has no record in the store. */
export function emptySlot(slot: Cidr): SlotRecord {
  return { v: 1, generation: 1, parts: [freeOf(slot, 1, {})], requests: [] }
}

function freeOf(cidr: Cidr, generation: number, cooling: Part['cooling']): Part {
  return { cidr: formatCidr(cidr), owner: null, generation, claim: null, fence: null, cooling }
}

export interface Claim {
  readonly owner: string
  /** Journaled id (rule 3). */
  readonly claim: string
}

/** The owner of `claim` takes `cidr`, which must be free, whole or inside a larger free part. */
export function claimPart(record: SlotRecord, cidr: string, claim: Claim): Step {
  return change(record, cidr, part => part.owner === null, { ...claim, cooling: null })
}

export interface Gift {
  readonly from: string
  /** Of the part given from: an older one must not be. */
  readonly generation: number
  /** null: becomes free. */
  readonly to: Claim | null
  /** Address → seconds of cool-down left (rule 5). */
  readonly cooling: Part['cooling']
}

/** The owner gives `cidr`, all of its part or a piece, to another; the rest stays his, split around it. */
export function givePart(record: SlotRecord, cidr: string, gift: Gift): Step {
  if (gift.to?.owner === gift.from) return null
  const mine = (part: Part) => part.owner === gift.from && part.generation === gift.generation
  const next = change(record, cidr, mine, {
    owner: gift.to?.owner ?? null,
    claim: gift.to?.claim ?? null,
    cooling: gift.cooling,
  })
  return next === null || gift.to !== null ? next : mergeFree(next)
}

/** Marks every part of the owner (rule 9). null when each bears this fence already or there is none. */
export function fenceParts(record: SlotRecord, owner: string, fence: Fence): Step {
  return mapParts(record, part =>
    part.owner === owner && part.fence?.id !== fence.id ? { ...part, fence } : part,
  )
}

/** The owner is back (rule 11). null when nothing of his is fenced. */
export function liftFences(record: SlotRecord, owner: string): Step {
  return mapParts(record, part =>
    part.owner === owner && part.fence !== null ? { ...part, fence: null } : part,
  )
}

/** Frees every part under these fences (rule 10: seen for allowance plus margin). null when there is none. */
export function freeFenced(record: SlotRecord, fenceIds: ReadonlySet<string>): Step {
  const fenced = record.parts.filter(part => part.fence !== null && fenceIds.has(part.fence.id))
  if (fenced.length === 0) return null
  const next = fenced.reduce<SlotRecord>(
    (before, part) => change(before, part.cidr, () => true, freed) as SlotRecord,
    record,
  )
  return mergeFree(next)
}

const freed = { owner: null, claim: null, cooling: {} }

/** Buddies that are both free become one, until none are left. Same record when nothing merges. */
export function mergeFree(record: SlotRecord): SlotRecord {
  for (let i = 0; i + 1 < record.parts.length; i++) {
    const merged = mergedBuddies(record.parts[i] as Part, record.parts[i + 1] as Part)
    if (merged !== null) return mergeFree({ ...record, parts: record.parts.toSpliced(i, 2, merged) })
  }
  return record
}

function mergedBuddies(low: Part, high: Part): Part | null {
  if (low.owner !== null || high.owner !== null) return null
  const [a, b] = [parseCidr(low.cidr), parseCidr(high.cidr)]
  if (a.prefix !== b.prefix || a.prefix === 0) return null
  const parent = { ...a, prefix: a.prefix - 1 }
  if (b.base !== a.base + sizeOf(a) || a.base % sizeOf(parent) !== 0n) return null
  return freeOf(parent, Math.max(low.generation, high.generation), { ...low.cooling, ...high.cooling })
}

export function partsOf(record: SlotRecord, owner: string): Part[] {
  return record.parts.filter(part => part.owner === owner)
}

/** Has the node a part of the slot? */
export function isOwnedBy(record: SlotRecord, owner: string): boolean {
  return record.parts.some(part => part.owner === owner)
}

/** The part that has this address, which must lie in the slot. */
export function partAround(record: SlotRecord, ip: Ip): Part {
  return record.parts.find(part => contains(parseCidr(part.cidr), ip)) as Part
}

/** The part that this claim yielded, if it did. */
export function claimedPart(record: SlotRecord, claim: Claim): Part | null {
  return record.parts.find(part => part.owner === claim.owner && part.claim === claim.claim) ?? null
}

interface NewOwner {
  readonly owner: string | null
  readonly claim: string | null
  /** null: keeps what the part says. */
  readonly cooling: Part['cooling'] | null
}

/** `cidr`, carved out of the part around it, changes owner. */
function change(record: SlotRecord, cidr: string, may: (part: Part) => boolean, to: NewOwner): Step {
  const target = parseCidr(cidr)
  const index = record.parts.findIndex(part => covers(parseCidr(part.cidr), target))
  const around = record.parts[index]
  if (around === undefined || !may(around)) return null
  const generation = record.generation + 1
  const pieces = carve(parseCidr(around.cidr), target).map((piece): Part => {
    const text = formatCidr(piece)
    const cooling = coolingIn(piece, around.cooling)
    if (text !== formatCidr(target)) return { ...around, cidr: text, cooling }
    const { owner, claim } = to
    return { cidr: text, owner, generation, claim, fence: null, cooling: to.cooling ?? cooling }
  })
  return { ...record, generation, parts: record.parts.toSpliced(index, 1, ...pieces) }
}

/** `whole` cut into halves until `target` is one of the pieces; in order of address. */
export function carve(whole: Cidr, target: Cidr): Cidr[] {
  if (whole.prefix >= target.prefix) return [whole]
  const low = { ...whole, prefix: whole.prefix + 1 }
  const high = { ...low, base: low.base + sizeOf(low) }
  return covers(low, target) ? [...carve(low, target), high] : [low, ...carve(high, target)]
}

function coolingIn(piece: Cidr, cooling: Part['cooling']): Part['cooling'] {
  const inside = Object.entries(cooling).filter(([text]) => {
    const ip = parseIp(text)
    return covers(piece, { family: ip.family, base: ip.value, prefix: bitsOf(ip.family) })
  })
  return Object.fromEntries(inside)
}

function mapParts(record: SlotRecord, step: (part: Part) => Part): Step {
  const parts = record.parts.map(step)
  return parts.some((part, i) => part !== record.parts[i]) ? { ...record, parts } : null
}

/** The slot of a key under slots/, or null when it is none. */
export function parseSlotKey(key: string): { poolUid: string; slot: Cidr } | null {
  const match = /^([^/]+)\/([^/]+)-(\d+)$/.exec(
    key.startsWith(PREFIX.slots) ? key.slice(PREFIX.slots.length) : '',
  )
  if (match === null) return null
  try {
    return { poolUid: match[1] as string, slot: parseCidr(`${match[2]}/${match[3]}`) }
  } catch {
    return null
  }
}

/** @throws ipam.record-damaged when the parts do not cover the slot exactly, in order */
export function checkSlot(record: SlotRecord, slot: Cidr): void {
  let next = slot.base
  const parts = record.parts.map(part => parseCidr(part.cidr))
  for (const part of parts) {
    if (!covers(slot, part) || part.base !== next)
      throw damaged(slot, `part ${formatCidr(part)} is out of place`)
    next = part.base + sizeOf(part)
  }
  if (next !== slot.base + sizeOf(slot)) throw damaged(slot, 'the parts do not cover it')
  if (record.parts.some(part => part.generation > record.generation))
    throw damaged(slot, 'a part is ahead of the counter')
}

function damaged(slot: Cidr, why: string): TwillError {
  return new TwillError('ipam.record-damaged', `slot ${formatCidr(slot)}: ${why}`, { slot: formatCidr(slot) })
}
