/**
 * The record `address-space` holds every pool's CIDR; its compare-and-swap alone decides which of two overlapping
 * pools exists. Pure functions, but for the reading.
 */
import { ADDRESS_SPACE_KEY } from '../datastore/keys.ts'
import { recordParser } from '../datastore/record.ts'
import { type AddressSpaceRecord, addressSpaceRecord } from '../datastore/records/address-space.ts'
import { type IPPool, slotPrefixOf } from '../datastore/resources/ippool.ts'
import type { Store } from '../datastore/store.ts'
import { overlaps, parseCidr } from '../lib/address.ts'
import { TwillError } from '../lib/errors.ts'
import { KEEP } from './change-record.ts'

export type PoolEntry = AddressSpaceRecord['pools'][number]

export const parseSpace = recordParser(addressSpaceRecord)

export const emptySpace: AddressSpaceRecord = { v: 1, pools: [], restored: null }

/** Without a record: the empty one. @throws store.*, document.invalid */
export async function readSpace(store: Store): Promise<AddressSpaceRecord> {
  const { entry } = await store.get(ADDRESS_SPACE_KEY)
  return entry === null ? emptySpace : parseSpace(entry.value, entry.key)
}

/** What stands here for a pool that is to be used. */
export function entryOf(pool: IPPool, uid: string): PoolEntry {
  const { metadata, spec } = pool
  return { uid, name: metadata.name, cidr: spec.cidr, blockSize: slotPrefixOf(pool), state: 'open' }
}

/**
 * An entry of the same name, CIDR and block size, left by a creation that stopped halfway, is taken over; another
 * is not, since its resource may be just about to appear.
 * @throws ipam.pool-overlap
 */
export function withEntry(space: AddressSpaceRecord, wanted: PoolEntry): AddressSpaceRecord | typeof KEEP {
  const same = space.pools.find(pool => pool.name === wanted.name)
  if (same !== undefined && same.state === 'open' && isSameRange(same, wanted)) return KEEP
  const other = rivalOf(space, wanted)
  if (other !== undefined) throw overlapError(wanted, other)
  return { ...space, pools: [...space.pools, wanted] }
}

/** Who has the name, or else any part of the range. */
export const rivalOf = (
  { pools }: Pick<AddressSpaceRecord, 'pools'>,
  wanted: Pick<PoolEntry, 'name' | 'cidr'>,
): PoolEntry | undefined =>
  pools.find(pool => pool.name === wanted.name) ??
  pools.find(pool => overlaps(parseCidr(pool.cidr), parseCidr(wanted.cidr)))

export function overlapError(wanted: PoolEntry, other: PoolEntry): TwillError {
  const closing = other.state === 'closed' ? ', which is being removed' : ''
  const begun = other.name === wanted.name && other.state === 'open' ? ', whose creation was begun' : ''
  return new TwillError(
    'ipam.pool-overlap',
    `IPPool ${rangeText(wanted, other)} collides with IPPool ${rangeText(other, wanted)}${closing}${begun}`,
    { pool: wanted.name, cidr: wanted.cidr, other: other.name, otherCidr: other.cidr },
  )
}

/** Block sizes only where they are what differs. */
function rangeText({ name, cidr, blockSize }: PoolEntry, other: PoolEntry): string {
  const slots = cidr === other.cidr && blockSize !== other.blockSize ? `, blockSize ${blockSize}` : ''
  return `${name} (${cidr}${slots})`
}

/** An entry that does not say its block size is no witness of another. */
const isSameRange = (a: PoolEntry, b: PoolEntry): boolean =>
  a.cidr === b.cidr && (a.blockSize === undefined || b.blockSize === undefined || a.blockSize === b.blockSize)

/** Is this the pool that was entered? A copy under another name, or one whose range was changed since, is not. */
export function isEntryOf(entry: PoolEntry, pool: IPPool): boolean {
  return isNamesakeOf(entry, pool) && isSameRange(entry, entryOf(pool, entry.uid))
}

/** By UID and name. */
export const isNamesakeOf = ({ uid, name }: PoolEntry, { metadata }: IPPool): boolean =>
  uid === metadata.uid && name === metadata.name

type Entries = Pick<AddressSpaceRecord, 'pools'>

/**
 * Whose a document without a UID is: of a creation that stopped halfway, of one that was taken away from over it, or whose
 * annotation `kubectl replace` took away.
 */
export const entryWithout = (pool: IPPool, { pools }: Entries): PoolEntry | undefined =>
  pools.find(
    ({ leaving, ...entry }) =>
      !leaving && isEntryOf(entry, { ...pool, metadata: { ...pool.metadata, uid: entry.uid } }),
  )

/** Was it entered, whatever range its document says by now? */
export function hasEntry(document: IPPool, space: Entries): boolean {
  const pool = withEnteredUid(document, space)
  return space.pools.some(entry => isNamesakeOf(entry, pool))
}

/** With the UID that it is about to be given back: until then its pods live, and are routed to. */
function withEnteredUid(pool: IPPool, space: Entries): IPPool {
  const uid = pool.metadata.uid ?? entryWithout(pool, space)?.uid
  return uid === pool.metadata.uid ? pool : { ...pool, metadata: { ...pool.metadata, uid } }
}

/**
 * The pool with the UID and the range that were entered for it, whatever its document says by now: addresses that were
 * handed out lie in that. A pool without an entry is as it is.
 */
export function asEntered(document: IPPool, space: Entries | null): IPPool {
  const pool = space === null ? document : withEnteredUid(document, space)
  const entry = space?.pools.find(each => isNamesakeOf(each, pool))
  if (entry === undefined || isEntryOf(entry, pool)) return pool
  const blockSize = entry.blockSize ?? slotPrefixOf(pool)
  return { ...pool, spec: { ...pool.spec, cidr: entry.cidr, blockSize } }
}

/** Somebody has changed what never changes, straight in the datastore. */
export function changedError(pool: IPPool, entry: PoolEntry): TwillError {
  const now = entryOf(pool, entry.uid)
  const changes = (['cidr', 'blockSize'] as const)
    .filter(field => entry[field] !== undefined && entry[field] !== now[field])
    .map(field => `${field} is ${now[field]} and was entered as ${entry[field]}`)
  return new TwillError(
    'ipam.pool-changed',
    `IPPool ${entry.name} was changed in the datastore: ${changes.join(', ')}: nothing is handed out from it until it is applied as it was`,
    { pool: entry.name, uid: entry.uid },
  )
}

/** May parts of this pool be claimed, by what `address-space` says? */
export function isOpen(space: AddressSpaceRecord | null, poolUid: string): boolean {
  return space?.pools.some(pool => pool.uid === poolUid && pool.state === 'open') ?? false
}
