/**
 * Which free part a node claims next. Every node begins at a place of its own, by hash, so that nodes that claim
 * at the same time do not meet and a node that comes back finds its last slots first; slots that are free as a
 * whole come before pieces, larger pieces before smaller ones. What is withheld from end to end is passed over, many
 * slots at a time: half of an IPv6 pool may be.
 */
import { createHash } from 'node:crypto'
import { slotKey } from '../datastore/keys.ts'
import type { SlotRecord } from '../datastore/records/slot.ts'
import { bitsOf, type Cidr, formatCidr, parseCidr, sizeOf } from '../lib/address.ts'
import type { AddressRanges } from './address-ranges.ts'
import { parseSlotKey } from './slot.ts'

export interface Candidate {
  readonly slot: Cidr
  /** The free part. */
  readonly cidr: string
  /** null: the slot has no record yet. */
  readonly record: SlotRecord | null
  readonly modRevision: number
}

export interface SlotView {
  get(key: string): { readonly value: SlotRecord; readonly modRevision: number } | undefined
  exists(key: string): boolean
  count(poolUid: string): number
  withFree(poolUid: string): ReadonlySet<string>
}

export interface ClaimablePool {
  readonly uid: string
  readonly cidr: Cidr
  readonly slotPrefix: number
  /** Never handed out. */
  readonly withheld: AddressRanges
}

export interface ClaimWanted {
  /** Only slots that are free as a whole: what is claimed ahead of need leaves pieces to those in need. */
  readonly wholeOnly: boolean
  /** A power of two, or Infinity. */
  readonly atMost: number
}

/** Best first, cut to what is wanted. */
export function* chooseFree(
  pool: ClaimablePool,
  nodeUid: string,
  view: SlotView,
  { wholeOnly, atMost }: ClaimWanted,
): Generator<Candidate> {
  const free = wholeOnly ? wholeSlots(pool, nodeUid, view) : chooseSlots(pool, nodeUid, view)
  for (const candidate of free) {
    const cidr = parseCidr(candidate.cidr)
    const prefix = Math.max(cidr.prefix, bitsOf(cidr.family) - Math.floor(Math.log2(atMost)))
    yield Number.isFinite(atMost) ? { ...candidate, cidr: formatCidr({ ...cidr, prefix }) } : candidate
  }
}

/** Best first. Lazy: the caller stops at the first that it gets. */
export function* chooseSlots(pool: ClaimablePool, nodeUid: string, view: SlotView): Generator<Candidate> {
  yield* wholeSlots(pool, nodeUid, view)
  for (const piece of pieces(pool, view))
    if (pool.withheld.coveredUntil(parseCidr(piece.cidr)) === null) yield piece
}

function* wholeSlots(pool: ClaimablePool, nodeUid: string, view: SlotView): Generator<Candidate> {
  const count = 1n << BigInt(pool.slotPrefix - pool.cidr.prefix)
  const start = placeOf(nodeUid, pool.uid) % count
  // Where every slot has a record, only those known to have a free part need a look.
  if (BigInt(view.count(pool.uid)) >= count) {
    for (const candidate of wholeFree(pool, start, count, view))
      if (pool.withheld.coveredUntil(candidate.slot) === null) yield candidate
    return
  }
  for (let i = 0n; i < count; i++) {
    const slot = slotAt(pool, (start + i) % count)
    const withheldTo = pool.withheld.coveredUntil(slot)
    if (withheldTo !== null) {
      i += slotsWithin(pool, slot, withheldTo) - 1n
      continue
    }
    const key = slotKey(pool.uid, slot)
    const entry = view.get(key)
    if (entry !== undefined) yield* wholeOf(slot, entry)
    else if (!view.exists(key)) yield { slot, cidr: formatCidr(slot), record: null, modRevision: 0 }
  }
}

function* wholeFree(pool: ClaimablePool, start: bigint, count: bigint, view: SlotView): Generator<Candidate> {
  const distance = (slot: Cidr) => (indexOf(pool, slot) - start + count) % count
  const slots = freeSlots(pool, view).filter(
    slot => view.get(slotKey(pool.uid, slot))?.value.parts.length === 1,
  )
  slots.sort((a, b) => (distance(a) < distance(b) ? -1 : 1))
  for (const slot of slots) {
    const entry = view.get(slotKey(pool.uid, slot))
    if (entry !== undefined) yield* wholeOf(slot, entry)
  }
}

function* wholeOf(slot: Cidr, entry: { value: SlotRecord; modRevision: number }): Generator<Candidate> {
  const [part, ...others] = entry.value.parts
  if (part?.owner === null && others.length === 0)
    yield { slot, cidr: part.cidr, record: entry.value, modRevision: entry.modRevision }
}

function* pieces(pool: ClaimablePool, view: SlotView): Generator<Candidate> {
  const found: Candidate[] = []
  for (const slot of freeSlots(pool, view)) {
    const entry = view.get(slotKey(pool.uid, slot))
    if (entry === undefined || entry.value.parts.length < 2) continue
    for (const part of entry.value.parts)
      if (part.owner === null)
        found.push({ slot, cidr: part.cidr, record: entry.value, modRevision: entry.modRevision })
  }
  yield* found.sort((a, b) => parseCidr(a.cidr).prefix - parseCidr(b.cidr).prefix)
}

const freeSlots = (pool: ClaimablePool, view: SlotView): Cidr[] =>
  [...view.withFree(pool.uid)].map(key => parseSlotKey(key)?.slot).filter(slot => slot !== undefined)

function slotAt(pool: ClaimablePool, index: bigint): Cidr {
  const shift = BigInt(bitsOf(pool.cidr.family) - pool.slotPrefix)
  return { family: pool.cidr.family, base: pool.cidr.base + (index << shift), prefix: pool.slotPrefix }
}

/** How many slots of the pool, from this one on, end at the address or before. */
function slotsWithin(pool: ClaimablePool, slot: Cidr, last: bigint): bigint {
  const shift = BigInt(bitsOf(pool.cidr.family) - pool.slotPrefix)
  const end = pool.cidr.base + sizeOf(pool.cidr)
  return ((last + 1n < end ? last + 1n : end) - slot.base) >> shift
}

function indexOf(pool: ClaimablePool, slot: Cidr): bigint {
  return (slot.base - pool.cidr.base) >> BigInt(bitsOf(pool.cidr.family) - pool.slotPrefix)
}

/** Uniform over 64 bits, the same for ever. */
function placeOf(nodeUid: string, poolUid: string): bigint {
  return createHash('sha256').update(`${nodeUid}\0${poolUid}`).digest().readBigUInt64BE(0)
}
