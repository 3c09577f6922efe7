/**
 * The record `address-space` holds every pool's CIDR; its compare-and-swap alone decides which of two overlapping
 * pools exists. Pure functions.
 */
import { recordParser } from '../datastore/record.ts'
import { type AddressSpaceRecord, addressSpaceRecord } from '../datastore/records/address-space.ts'
import type { IPPool } from '../datastore/resources/ippool.ts'
import { overlaps, parseCidr } from '../lib/address.ts'
import { TwillError } from '../lib/errors.ts'
import { KEEP } from './change-record.ts'

export type PoolEntry = AddressSpaceRecord['pools'][number]

export const parseSpace = recordParser(addressSpaceRecord)

export const emptySpace: AddressSpaceRecord = { v: 1, pools: [], restored: null }

/**
 * An entry of the same name and CIDR, left by a creation that stopped halfway, is taken over; one of
 * another CIDR is not, since its resource may be just about to appear.
 * @throws ipam.pool-overlap
 */
export function withEntry(space: AddressSpaceRecord, wanted: PoolEntry): AddressSpaceRecord | typeof KEEP {
  const same = space.pools.find(pool => pool.name === wanted.name)
  if (same?.cidr === wanted.cidr && same.state === 'open') return KEEP
  const other = same ?? space.pools.find(pool => overlaps(parseCidr(pool.cidr), parseCidr(wanted.cidr)))
  if (other !== undefined) throw overlapError(wanted, other)
  return { ...space, pools: [...space.pools, wanted] }
}

export function overlapError(wanted: PoolEntry, other: PoolEntry): TwillError {
  const closing = other.state === 'closed' ? ', which is being removed' : ''
  return new TwillError(
    'ipam.pool-overlap',
    `IPPool ${wanted.name} (${wanted.cidr}) collides with IPPool ${other.name} (${other.cidr})${closing}`,
    { pool: wanted.name, cidr: wanted.cidr, other: other.name, otherCidr: other.cidr },
  )
}

/** Is this the pool that was entered? A copy under another name, or with another CIDR, is not. */
export function isEntryOf(entry: PoolEntry, pool: IPPool): boolean {
  const { uid, name } = pool.metadata
  return entry.uid === uid && entry.name === name && entry.cidr === pool.spec.cidr
}

/** May parts of this pool be claimed, by what `address-space` says? */
export function isOpen(space: AddressSpaceRecord | null, poolUid: string): boolean {
  return space?.pools.some(pool => pool.uid === poolUid && pool.state === 'open') ?? false
}
