/**
 * Slots as routes see them: which prefixes belong to which node UID. Fenced parts still belong to their owner:
 * a fence stops him from handing out addresses, his pods go on running.
 */
import { PREFIX } from '../datastore/keys.ts'
import type { SlotRecord } from '../datastore/records/slot.ts'
import { type IPPool, isForIpam, travelOf } from '../datastore/resources/ippool.ts'
import { type Cidr, parseCidr } from '../lib/address.ts'

export interface OwnedPart {
  readonly cidr: Cidr
  readonly owner: string
  readonly poolUid: string
  /** Travels through VXLAN. */
  readonly overlay: boolean
}

/**
 * Until routes without encapsulation within a subnet exist, CrossSubnet travels as Always: right everywhere,
 * only slower between neighbours.
 */
export const isOverlay = (pool: IPPool): boolean => travelOf(pool).encapsulation !== 'Never' && isRouted(pool)

/**
 * Addresses of a pool for ipam belong to other plugins' interfaces: a blackhole for a slot of it would beat a
 * bridge's connected route to the whole (ADDRESSES.md rule 18).
 */
export const isRouted = (pool: IPPool): boolean => !isForIpam(pool)

/** Pools by the UID that stands in slot keys; a pool without UID is not in the store yet. */
function poolsByUid(pools: readonly IPPool[]): ReadonlyMap<string, IPPool> {
  return new Map(pools.flatMap(pool => (pool.metadata.uid === undefined ? [] : [[pool.metadata.uid, pool]])))
}

const poolUidOf = (slotKey: string): string => slotKey.slice(PREFIX.slots.length).split('/')[0] ?? ''

/**
 * Every part that has an owner, in order of slot key. Slots of a pool that is gone or not routed are left out:
 * nobody routes a range that no pool declares.
 * @param slots by key relative to the store's prefix (slots/<pool uid>/<base>-<prefix>)
 */
export function ownedParts(
  slots: ReadonlyMap<string, SlotRecord>,
  pools: readonly IPPool[],
): readonly OwnedPart[] {
  const byUid = poolsByUid(pools.filter(isRouted))
  return [...slots.keys()].sort().flatMap(key => {
    const poolUid = poolUidOf(key)
    const pool = byUid.get(poolUid)
    if (pool === undefined) return []
    const overlay = isOverlay(pool)
    return slots.get(key)!.parts.flatMap(({ cidr: text, owner }) => {
      const cidr = owner === null ? null : parsed(text)
      return owner === null || cidr === null ? [] : [{ cidr, owner, poolUid, overlay }]
    })
  })
}

/** A damaged part leads nowhere (its range falls to the pool's unreachable route); the others go on. */
function parsed(text: string): Cidr | null {
  try {
    return parseCidr(text)
  } catch {
    return null
  }
}

export function partsByOwner(parts: readonly OwnedPart[]): ReadonlyMap<string, readonly OwnedPart[]> {
  const byOwner = new Map<string, OwnedPart[]>()
  for (const part of parts) {
    const owned = byOwner.get(part.owner)
    if (owned === undefined) byOwner.set(part.owner, [part])
    else owned.push(part)
  }
  return byOwner
}
