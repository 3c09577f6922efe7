/**
 * Which free part a node claims next. Every node begins at a place of its own, by hash, so that nodes that claim
 * at the same time do not meet and a node that comes back finds its last slots first; slots that are free as a
 * whole come before pieces, larger pieces before smaller ones. What is withheld from end to end is passed over, many
 * slots at a time: half of an IPv6 pool may be. So are, further on, slots that have a record: all but a few may.
 */
import { createHash } from 'node:crypto'
import { slotKey } from '../datastore/keys.ts'
import type { SlotRecord } from '../datastore/records/slot.ts'
import {
  addressAt,
  bitsOf,
  type Cidr,
  cidrOf,
  covers,
  formatCidr,
  formatIp,
  lastOf,
  parseCidr,
  sizeOf,
} from '../lib/address.ts'
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
  /** Slots that had a record a while ago. One that has got its record since may be missing. */
  recorded(poolUid: string): AddressRanges
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
  /** Also parts of which every address still cools; after all others, the one that has cooled most first. */
  readonly cooling: boolean
}

/** So many slots each node tries one after the other: enough unless the pool is nearly used up. */
const NEAR = 64n

/** Best first, cut to what is wanted. */
export function* chooseFree(
  pool: ClaimablePool,
  nodeUid: string,
  view: SlotView,
  { wholeOnly, atMost, cooling }: ClaimWanted,
): Generator<Candidate> {
  const free = wholeOnly ? wholeSlots(pool, nodeUid, view) : chooseSlots(pool, nodeUid, view)
  const late: { readonly candidate: Candidate; readonly leftS: number }[] = []
  for (const found of free) {
    const candidate = cutTo(found, atMost, pool.withheld)
    const leftS = coolsForS(candidate, pool.withheld)
    if (leftS === 0) yield candidate
    else if (cooling) late.push({ candidate, leftS })
  }
  late.sort((a, b) => a.leftS - b.leftS)
  for (const { candidate } of late) yield candidate
}

/** The first piece of that size of which something goes out. */
function cutTo(candidate: Candidate, atMost: number, withheld: AddressRanges): Candidate {
  if (!Number.isFinite(atMost)) return candidate
  const cidr = parseCidr(candidate.cidr)
  const prefix = Math.max(cidr.prefix, bitsOf(cidr.family) - Math.floor(Math.log2(atMost)))
  const until = withheld.coveredUntil({ ...cidr, prefix })
  const first = until === null || until >= lastOf(cidr).value ? cidr.base : until + 1n
  return { ...candidate, cidr: formatCidr(cidrOf({ family: cidr.family, value: first }, prefix)) }
}

/**
 * Seconds until the first address of it may go out, counted from when it became free, of which nobody here knows when
 * that was. 0: one may go out now.
 */
function coolsForS({ cidr: text, record }: Candidate, withheld: AddressRanges): number {
  const cidr = parseCidr(text)
  const around = record?.parts.find(
    part => Object.keys(part.cooling).length > 0 && covers(parseCidr(part.cidr), cidr),
  )
  if (around === undefined) return 0
  let leastS = Number.POSITIVE_INFINITY
  for (let offset = 0; offset < sizeOf(cidr); offset++) {
    const ip = addressAt(cidr, offset)
    if (withheld.has(ip)) continue
    const leftS = around.cooling[formatIp(ip)] ?? 0
    if (leftS === 0) return 0
    leastS = Math.min(leastS, leftS)
  }
  return leastS
}

/** Best first. Lazy: the caller stops at the first that it gets. */
export function* chooseSlots(pool: ClaimablePool, nodeUid: string, view: SlotView): Generator<Candidate> {
  yield* wholeSlots(pool, nodeUid, view)
  for (const piece of pieces(pool, view))
    if (pool.withheld.coveredUntil(parseCidr(piece.cidr)) === null) yield piece
}

function* wholeSlots(pool: ClaimablePool, nodeUid: string, view: SlotView): Generator<Candidate> {
  const count = slotsOf(pool)
  const start = placeOf(nodeUid, pool.uid) % count
  const isFull = BigInt(view.count(pool.uid)) >= count
  const near = isFull ? 0n : NEAR
  for (const slot of around(pool, start, { from: 0n, to: near }, [pool.withheld])) {
    const entry = view.get(slotKey(pool.uid, slot))
    if (entry !== undefined) yield* wholeOf(slot, entry)
    else yield* unrecorded(pool, slot, view)
  }
  for (const { slot, candidate } of wholeFree(pool, start, view))
    if (distance(pool, start, slot) >= near && pool.withheld.coveredUntil(slot) === null) yield candidate
  if (isFull) return
  for (const slot of around(pool, start, { from: near, to: count }, [pool.withheld, view.recorded(pool.uid)]))
    yield* unrecorded(pool, slot, view)
}

/** Slots in the order in which the node at `start` tries them; what one of the ranges covers is passed in one step. */
function* around(
  pool: ClaimablePool,
  start: bigint,
  { from, to }: { readonly from: bigint; readonly to: bigint },
  passed: readonly AddressRanges[],
): Generator<Cidr> {
  const count = slotsOf(pool)
  const end = to < count ? to : count
  for (let i = from; i < end; i++) {
    const slot = slotAt(pool, (start + i) % count)
    const until = passed.map(ranges => ranges.coveredUntil(slot)).find(last => last !== null)
    if (until === undefined) yield slot
    else i += slotsWithin(pool, slot, until as bigint) - 1n
  }
}

function* unrecorded(pool: ClaimablePool, slot: Cidr, view: SlotView): Generator<Candidate> {
  if (!view.exists(slotKey(pool.uid, slot)))
    yield { slot, cidr: formatCidr(slot), record: null, modRevision: 0 }
}

/** Slots that have a record and are free as a whole, in the order in which the node at `start` tries them. */
function wholeFree(
  pool: ClaimablePool,
  start: bigint,
  view: SlotView,
): { readonly slot: Cidr; readonly candidate: Candidate }[] {
  const found = freeSlots(pool, view).flatMap(slot => {
    const entry = view.get(slotKey(pool.uid, slot))
    const [candidate] = entry === undefined ? [] : wholeOf(slot, entry)
    return candidate === undefined ? [] : [{ slot, candidate, steps: distance(pool, start, slot) }]
  })
  return found.sort((a, b) => (a.steps < b.steps ? -1 : 1))
}

function* wholeOf(slot: Cidr, entry: { value: SlotRecord; modRevision: number }): Generator<Candidate> {
  const [part, ...others] = entry.value.parts
  if (part?.owner === null && others.length === 0)
    yield { slot, cidr: part.cidr, record: entry.value, modRevision: entry.modRevision }
}

function* pieces(pool: ClaimablePool, view: SlotView): Generator<Candidate> {
  const found: { readonly candidate: Candidate; readonly prefix: number }[] = []
  for (const slot of freeSlots(pool, view)) {
    const entry = view.get(slotKey(pool.uid, slot))
    if (entry === undefined || entry.value.parts.length < 2) continue
    const { value: record, modRevision } = entry
    for (const { owner, cidr } of record.parts)
      if (owner === null)
        found.push({ candidate: { slot, cidr, record, modRevision }, prefix: parseCidr(cidr).prefix })
  }
  found.sort((a, b) => a.prefix - b.prefix)
  for (const { candidate } of found) yield candidate
}

const freeSlots = (pool: ClaimablePool, view: SlotView): Cidr[] =>
  [...view.withFree(pool.uid)].map(key => parseSlotKey(key)?.slot).filter(slot => slot !== undefined)

const slotsOf = (pool: ClaimablePool): bigint => 1n << BigInt(pool.slotPrefix - pool.cidr.prefix)

/** Steps from `start` to the slot. */
function distance(pool: ClaimablePool, start: bigint, slot: Cidr): bigint {
  const count = slotsOf(pool)
  return (indexOf(pool, slot) - start + count) % count
}

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
