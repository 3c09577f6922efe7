/**
 * The life of a pool. Its CIDR is entered in `address-space` before the pool can be used, closed there before it
 * goes, and taken out only when a later list shows no part of it: so that overlapping pools are never both in
 * use, whoever writes what at the same instant.
 *
 * A pool resource that was written around these functions is entered by the first daemon that sees it
 * (`admitPool`), or stays out as a conflict.
 */
import { isDeepStrictEqual } from 'node:util'
import type { z } from 'zod'
import { ADDRESS_SPACE_KEY, PREFIX, resourceKey } from '../datastore/keys.ts'
import { recordParser } from '../datastore/record.ts'
import { type AddressSpaceRecord, addressSpaceRecord } from '../datastore/records/address-space.ts'
import { ledgerRecord } from '../datastore/records/ledger.ts'
import { slotRecord } from '../datastore/records/slot.ts'
import { type IPPool, ipPool, type ipPoolSpec, slotPrefixOf } from '../datastore/resources/ippool.ts'
import { API_VERSION } from '../datastore/resources/metadata.ts'
import type { Store } from '../datastore/store.ts'
import { overlaps, parseCidr, sameCidr } from '../lib/address.ts'
import type { Clock, Random } from '../lib/clock.ts'
import { TwillError } from '../lib/errors.ts'
import { changeRecord, KEEP } from './change-record.ts'

export interface PoolModules {
  readonly store: Store
  readonly random: Random
  readonly clock: Clock
}

export type PoolEntry = AddressSpaceRecord['pools'][number]

export interface FirstPool {
  readonly name: string
  /** As written; defaults are filled in here. */
  readonly spec: z.input<typeof ipPoolSpec>
}

/** What stands in the store for a pool: the resource that was given, with uid and creation time. */
export type StoredPool = IPPool & { metadata: { uid: string } }

const PLURAL = 'ippools'
const parseSpace = recordParser(addressSpaceRecord)
const parseLedger = recordParser(ledgerRecord)
const parseSlot = recordParser(slotRecord)
const poolKey = (name: string) => resourceKey(PLURAL, name)

export const parsePool = (text: string, key: string): IPPool => {
  const result = ipPool.safeParse(JSON.parse(text))
  if (result.success) return result.data
  const [issue] = result.error.issues
  throw new TwillError('document.invalid', `${key}: ${issue?.path.join('.')}: ${issue?.message}`, { key })
}

const emptySpace: AddressSpaceRecord = { v: 1, pools: [], restored: null }

/** Pools in the store, by name. Documents that do not parse are left out. */
export async function listPools(store: Store): Promise<IPPool[]> {
  const { entries } = await store.list(`${PREFIX.resources}${PLURAL}/`)
  return entries.flatMap(entry => {
    try {
      return [parsePool(entry.value, entry.key)]
    } catch {
      return []
    }
  })
}

/**
 * @throws ipam.pool-overlap {pool, cidr, other, otherCidr}; resource.in-use when the name is taken;
 *   store.unavailable, store.in-doubt (retryable: a second call finishes what the first began)
 */
export async function createPool(document: IPPool, modules: PoolModules): Promise<StoredPool> {
  const uid = document.metadata.uid ?? modules.random.uuid()
  const wanted: PoolEntry = { uid, name: document.metadata.name, cidr: document.spec.cidr, state: 'open' }
  const entry = await enter(wanted, modules.store)
  const stored: StoredPool = {
    ...document,
    metadata: {
      ...document.metadata,
      uid: entry.uid,
      creationTimestamp:
        document.metadata.creationTimestamp ?? new Date(modules.clock.realtimeMs()).toISOString(),
    },
  }
  await changeRecord<IPPool>(modules.store, {
    key: poolKey(wanted.name),
    parse: parsePool,
    step: current => {
      if (current === null) return stored
      if (current.metadata.uid === entry.uid && isDeepStrictEqual(current.spec, stored.spec)) return KEEP
      throw taken(wanted.name)
    },
    known: { value: null, modRevision: 0 },
  })
  return stored
}

const taken = (name: string) =>
  new TwillError('resource.in-use', `IPPool ${name} already exists`, { kind: 'IPPool', name })

/** The pool's entry in the address space: an earlier one of the same name and CIDR, or this one. */
async function enter(wanted: PoolEntry, store: Store): Promise<PoolEntry> {
  const resource = (await store.get(poolKey(wanted.name))).entry
  if (resource !== null && parsePool(resource.value, resource.key).metadata.uid !== wanted.uid)
    throw taken(wanted.name)
  const changed = await changeRecord<AddressSpaceRecord>(store, {
    key: ADDRESS_SPACE_KEY,
    parse: parseSpace,
    step: current => withEntry(current ?? emptySpace, wanted),
  })
  return changed.value?.pools.find(pool => pool.name === wanted.name) as PoolEntry
}

/**
 * Pure. An entry of the same name and CIDR, left by a creation that stopped halfway, is taken over; one of
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

function overlapError(wanted: PoolEntry, other: PoolEntry): TwillError {
  const closing = other.state === 'closed' ? ', which is being removed' : ''
  return new TwillError(
    'ipam.pool-overlap',
    `IPPool ${wanted.name} (${wanted.cidr}) collides with IPPool ${other.name} (${other.cidr})${closing}`,
    { pool: wanted.name, cidr: wanted.cidr, other: other.name, otherCidr: other.cidr },
  )
}

/**
 * Brings the fields that may change to a pool that exists.
 * @throws document.invalid {field} when cidr or blockSize differ; resource.not-found; store.*
 */
export async function updatePool(
  document: IPPool,
  modules: Pick<PoolModules, 'store'>,
): Promise<{ pool: IPPool; changed: boolean }> {
  const { name } = document.metadata
  const changed = await changeRecord<IPPool>(modules.store, {
    key: poolKey(name),
    parse: parsePool,
    step: current => {
      if (current === null) throw notFound(name)
      const next = updated(current, document)
      return JSON.stringify(next) === JSON.stringify(current) ? KEEP : next
    },
  })
  return { pool: changed.value as IPPool, changed: changed.wrote }
}

const notFound = (name: string) =>
  new TwillError('resource.not-found', `IPPool ${name} does not exist`, { kind: 'IPPool', name })

function updated(current: IPPool, document: IPPool): IPPool {
  const { name } = document.metadata
  const immutable = (field: string, was: unknown, wanted: unknown) =>
    new TwillError(
      'document.invalid',
      `IPPool ${name}: spec.${field} is ${was} and immutable, not ${wanted}`,
      {
        field: `spec.${field}`,
        value: wanted,
        expected: was,
      },
    )
  if (!sameCidr(parseCidr(current.spec.cidr), parseCidr(document.spec.cidr)))
    throw immutable('cidr', current.spec.cidr, document.spec.cidr)
  if (slotPrefixOf(current) !== slotPrefixOf(document))
    throw immutable('blockSize', slotPrefixOf(current), slotPrefixOf(document))
  const { uid, creationTimestamp } = current.metadata
  return { ...document, metadata: { ...document.metadata, uid, creationTimestamp } }
}

export interface DeletePoolOptions {
  /** Take no refusal: the pool stays closed and goes once its last address is free. Call again until removed. */
  readonly drain: boolean
  /** How long to wait for nodes to give back parts that nobody uses. Default 10 s. */
  readonly waitMs?: number
}

export type PoolDeletion =
  | { readonly removed: true }
  /** Closed; still owned are this many parts, by these node UIDs. */
  | { readonly removed: false; readonly parts: number; readonly owners: readonly string[] }

/**
 * Closes the pool, waits for its parts to come back, removes it.
 * @throws resource.not-found; resource.in-use {pods} while pods hold its addresses, unless drained (the pool is
 *   open again then); store.*
 */
export async function deletePool(
  name: string,
  options: DeletePoolOptions,
  modules: Pick<PoolModules, 'store' | 'clock'>,
): Promise<PoolDeletion> {
  const { store } = modules
  const uid = await uidOf(store, name)
  const closed = await setState(store, uid, 'closed')
  const pods = options.drain ? 0 : await countPods(store, uid)
  if (pods > 0) {
    if (closed) await setState(store, uid, 'open')
    throw new TwillError('resource.in-use', `IPPool ${name} is in use: ${pods} pods hold addresses of it`, {
      kind: 'IPPool',
      name,
      pods,
    })
  }
  const owners = await waitUntilFree(uid, options.waitMs ?? 10_000, modules)
  if (owners.length > 0) return { removed: false, parts: owners.length, owners: [...new Set(owners)] }
  await changeRecord<IPPool>(store, {
    key: poolKey(name),
    parse: parsePool,
    step: current => (current?.metadata.uid === uid ? null : KEEP),
  })
  const left = await leave(store, uid)
  return left.length === 0
    ? { removed: true }
    : { removed: false, parts: left.length, owners: [...new Set(left)] }
}

/** Of the resource, or of an entry whose resource is missing: the rest of a creation or removal that stopped. */
async function uidOf(store: Store, name: string): Promise<string> {
  const resource = (await store.get(poolKey(name))).entry
  const uid = resource === null ? undefined : parsePool(resource.value, resource.key).metadata.uid
  if (uid !== undefined) return uid
  const { entry } = await store.get(ADDRESS_SPACE_KEY)
  const pools = entry === null ? [] : parseSpace(entry.value, entry.key).pools
  const found = pools.find(pool => pool.name === name)
  if (found === undefined) throw notFound(name)
  return found.uid
}

async function setState(store: Store, uid: string, state: PoolEntry['state']): Promise<boolean> {
  return changeSpace(store, pools => pools.map(pool => (pool.uid === uid ? { ...pool, state } : pool)))
}

/**
 * Takes the entry out, guarded by the revision read before the list that shows no part: whoever opens the pool
 * again in between makes this start over. Returns the owners of parts that turned up, or none.
 */
async function leave(store: Store, uid: string): Promise<string[]> {
  for (;;) {
    await setState(store, uid, 'closed')
    const { entry } = await store.get(ADDRESS_SPACE_KEY)
    const space = entry === null ? emptySpace : parseSpace(entry.value, entry.key)
    if (entry === null || !space.pools.some(pool => pool.uid === uid)) return []
    const owners = await ownersOf(store, uid)
    if (owners.length > 0) return owners
    if (isOpen(space, uid)) continue
    const value = JSON.stringify({ ...space, pools: space.pools.filter(pool => pool.uid !== uid) })
    const outcome = await store.commit({ key: ADDRESS_SPACE_KEY, expected: entry.modRevision, value })
    if (outcome.committed) return []
  }
}

async function changeSpace(store: Store, step: (pools: PoolEntry[]) => PoolEntry[]): Promise<boolean> {
  const changed = await changeRecord<AddressSpaceRecord>(store, {
    key: ADDRESS_SPACE_KEY,
    parse: parseSpace,
    step: current => {
      const space = current ?? emptySpace
      const pools = step(space.pools)
      return JSON.stringify(pools) === JSON.stringify(space.pools) ? KEEP : { ...space, pools }
    },
  })
  return changed.wrote
}

/** Living pods in the pool's ledgers: entries of generations that slots no longer show count for nothing. */
async function countPods(store: Store, uid: string): Promise<number> {
  const current = await ownedGenerations(store, uid)
  const { entries } = await store.list(`${PREFIX.ledgers}${uid}/`)
  let pods = 0
  for (const entry of entries) {
    const ledger = parseLedger(entry.value, entry.key)
    for (const [generation, holders] of Object.entries(ledger.generations))
      if (current.has(`${ledger.owner} ${generation}`))
        pods += Object.values(holders).filter(holder => holder.kind === 'pod').length
  }
  return pods
}

async function ownedGenerations(store: Store, uid: string): Promise<Set<string>> {
  return new Set((await ownedParts(store, uid)).map(part => `${part.owner} ${part.generation}`))
}

async function ownedParts(store: Store, uid: string) {
  const { entries } = await store.list(`${PREFIX.slots}${uid}/`)
  return entries.flatMap(entry => parseSlot(entry.value, entry.key).parts.filter(part => part.owner !== null))
}

/** One for each part. */
async function ownersOf(store: Store, uid: string): Promise<string[]> {
  return (await ownedParts(store, uid)).map(part => part.owner as string)
}

/** Owners of the parts that are still taken, one for each part, when none is or the time is up. */
async function waitUntilFree(
  uid: string,
  waitMs: number,
  { store, clock }: Pick<PoolModules, 'store' | 'clock'>,
): Promise<string[]> {
  const endMs = clock.boottimeMs() + waitMs
  for (;;) {
    const owners = await ownersOf(store, uid)
    if (owners.length === 0 || clock.boottimeMs() >= endMs) return owners
    await clock.sleep(200)
  }
}

/**
 * Creates the configured pools if the cluster has none at all. Every daemon calls it at start with the same
 * configuration; one that stopped halfway is finished by the next.
 * @throws ipam.pool-overlap when the configured pools overlap each other; document.invalid; store.*
 */
export async function ensureFirstPools(pools: readonly FirstPool[], modules: PoolModules): Promise<void> {
  if (pools.length === 0) return
  const documents = pools.map(documentOf)
  const { store, random } = modules
  const existing = await listPools(store)
  const changed = await changeRecord<AddressSpaceRecord>(store, {
    key: ADDRESS_SPACE_KEY,
    parse: parseSpace,
    step: current => {
      const space = current ?? emptySpace
      if (space.pools.length > 0 || existing.length > 0) return KEEP
      return documents.reduce<AddressSpaceRecord>((before, { metadata, spec }) => {
        const entry = { uid: random.uuid(), name: metadata.name, cidr: spec.cidr, state: 'open' as const }
        const after = withEntry(before, entry)
        return after === KEEP ? before : after
      }, space)
    },
  })
  const names = new Set(existing.map(pool => pool.metadata.name))
  for (const document of documents) {
    const entry = changed.value?.pools.find(pool => pool.name === document.metadata.name)
    if (entry?.cidr !== document.spec.cidr || names.has(entry.name)) continue
    await createFirst(document, entry.uid, modules)
  }
}

/** Several daemons do this at once for the same entry: what another has just created is as good. */
async function createFirst(document: IPPool, uid: string, modules: PoolModules): Promise<void> {
  const { store, clock } = modules
  const creationTimestamp = new Date(clock.realtimeMs()).toISOString()
  await changeRecord<IPPool>(store, {
    key: poolKey(document.metadata.name),
    parse: parsePool,
    step: current =>
      current === null ? { ...document, metadata: { ...document.metadata, uid, creationTimestamp } } : KEEP,
  })
}

function documentOf({ name, spec }: FirstPool): IPPool {
  const result = ipPool.safeParse({ apiVersion: API_VERSION, kind: 'IPPool', metadata: { name }, spec })
  if (result.success) return result.data
  const [issue] = result.error.issues
  throw new TwillError(
    'document.invalid',
    `first pool ${name}: ${issue?.path.join('.')}: ${issue?.message}`,
    {
      field: issue?.path.join('.'),
    },
  )
}

/**
 * Gives a pool resource that was written straight into the store its uid and its entry.
 * @throws ipam.pool-overlap: it must not be used; store.*
 */
export async function admitPool(pool: IPPool, modules: Pick<PoolModules, 'store' | 'random'>): Promise<void> {
  const { store, random } = modules
  const { name } = pool.metadata
  const changed = await changeRecord<IPPool>(store, {
    key: poolKey(name),
    parse: parsePool,
    step: current => {
      if (current === null || current.metadata.uid !== undefined) return KEEP
      return { ...current, metadata: { ...current.metadata, uid: random.uuid() } }
    },
  })
  const uid = changed.value?.metadata.uid
  if (uid === undefined) return
  await changeRecord<AddressSpaceRecord>(store, {
    key: ADDRESS_SPACE_KEY,
    parse: parseSpace,
    step: current => {
      const space = current ?? emptySpace
      const wanted: PoolEntry = { uid, name, cidr: pool.spec.cidr, state: 'open' }
      const entered = space.pools.find(entry => entry.uid === uid)
      if (entered === undefined) return withEntry(space, wanted)
      if (isEntryOf(entered, pool)) return KEEP
      throw overlapError(wanted, entered)
    },
  })
}

/** Pure: is this the pool that was entered? A copy under another name, or with another CIDR, is not. */
export function isEntryOf(entry: PoolEntry, pool: IPPool): boolean {
  const { uid, name } = pool.metadata
  return entry.uid === uid && entry.name === name && entry.cidr === pool.spec.cidr
}

/** Pure: may parts of this pool be claimed, by what `address-space` says? */
export function isOpen(space: AddressSpaceRecord | null, poolUid: string): boolean {
  return space?.pools.some(pool => pool.uid === poolUid && pool.state === 'open') ?? false
}
