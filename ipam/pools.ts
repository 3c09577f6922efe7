/**
 * The life of a pool until its removal (pool-removal.ts). Its CIDR is entered in `address-space` before the pool can
 * be used: so that overlapping pools are never both in use, whoever writes what at the same instant.
 *
 * A pool resource that was written around these functions is entered by the first daemon that sees it
 * (`admitPool`), or stays out as a conflict.
 */
import { isDeepStrictEqual } from 'node:util'
import type { z } from 'zod'
import { ADDRESS_SPACE_KEY, PREFIX, resourceKey } from '../datastore/keys.ts'
import type { AddressSpaceRecord } from '../datastore/records/address-space.ts'
import {
  gatewayOf,
  type IPPool,
  ipPool,
  type ipPoolSpec,
  isForIpam,
  slotPrefixOf,
} from '../datastore/resources/ippool.ts'
import { API_VERSION } from '../datastore/resources/metadata.ts'
import type { Store } from '../datastore/store.ts'
import { formatCidr, parseCidr } from '../lib/address.ts'
import type { Clock, Random } from '../lib/clock.ts'
import { TwillError } from '../lib/errors.ts'
import {
  asEntered,
  changedError,
  emptySpace,
  entryOf,
  entryWithout,
  hasEntry,
  isEntryOf,
  overlapError,
  type PoolEntry,
  parseSpace,
  readSpace,
  withEntry,
} from './address-space.ts'
import { changeRecord, KEEP } from './change-record.ts'
import { readUnderlays, refuseCovering, type Vital } from './covered.ts'

export interface PoolModules {
  readonly store: Store
  readonly random: Random
  readonly clock: Clock
}

export interface FirstPool {
  readonly name: string
  /** As written; defaults are filled in here. */
  readonly spec: z.input<typeof ipPoolSpec>
}

/** What stands in the store for a pool: the resource that was given, with uid and creation time. */
export type StoredPool = IPPool & { metadata: { uid: string } }

const PLURAL = 'ippools'
export const poolKey = (name: string) => resourceKey(PLURAL, name)

export const parsePool = (text: string, key: string): IPPool => {
  const result = ipPool.safeParse(JSON.parse(text))
  if (result.success) return result.data
  const [issue] = result.error.issues
  throw new TwillError('document.invalid', `${key}: ${issue?.path.join('.')}: ${issue?.message}`, { key })
}

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
 * @throws ipam.pool-overlap {pool, cidr, other, otherCidr}; ipam.pool-covers; resource.in-use when the name is taken;
 *   store.unavailable, store.in-doubt (retryable: a second call finishes what the first began)
 */
export async function createPool(document: IPPool, modules: PoolModules): Promise<StoredPool> {
  const uid = document.metadata.uid ?? modules.random.uuid()
  const wanted = entryOf(document, uid)
  refuseCovering(document, await readUnderlays(modules.store))
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
 * Brings the fields that may change to a pool that exists; the others, back to what was entered for it.
 * @throws document.invalid {field} when cidr or blockSize differ; resource.not-found; store.*
 */
export async function updatePool(
  document: IPPool,
  modules: Pick<PoolModules, 'store'>,
): Promise<{ pool: IPPool; changed: boolean }> {
  const { name } = document.metadata
  const space = await readSpace(modules.store)
  const changed = await changeRecord<IPPool>(modules.store, {
    key: poolKey(name),
    parse: parsePool,
    step: current => {
      if (current === null) throw notFound(name)
      const next = updatedPool(asEntered(current, space), document)
      return JSON.stringify(next) === JSON.stringify(current) ? KEEP : next
    },
  })
  return { pool: changed.value as IPPool, changed: changed.wrote }
}

export const notFound = (name: string) =>
  new TwillError('resource.not-found', `IPPool ${name} does not exist`, { kind: 'IPPool', name })

/** What never changes of a pool, in a form that can be compared. */
const IMMUTABLE: readonly (readonly [field: string, of: (pool: IPPool) => unknown])[] = [
  ['cidr', pool => formatCidr(parseCidr(pool.spec.cidr))],
  ['blockSize', slotPrefixOf],
  // Who holds an address under the one use would be without routes, or in the way of another's, under the other.
  ['allowedUses', pool => (isForIpam(pool) ? 'ipam' : 'not ipam')],
  ['gateway', pool => (isForIpam(pool) ? gatewayOf(pool) : null)],
]

/** @throws document.invalid: a field that never changes differs */
export function updatedPool(current: IPPool, document: IPPool): IPPool {
  const { name } = document.metadata
  for (const [field, of] of IMMUTABLE) {
    const [was, wanted] = [of(current), of(document)]
    if (was !== wanted)
      throw new TwillError(
        'document.invalid',
        `IPPool ${name}: spec.${field} is ${was} and immutable, not ${wanted}`,
        { field: `spec.${field}`, value: wanted, expected: was },
      )
  }
  const { uid, creationTimestamp, deletionTimestamp } = current.metadata
  const given = { uid, creationTimestamp, ...(deletionTimestamp && { deletionTimestamp }) }
  return { ...document, metadata: { ...document.metadata, ...given } }
}

/**
 * Creates the configured pools if the cluster has none at all. Every daemon calls it at start with the same
 * configuration; one that stopped halfway is finished by the next.
 * @param vitals what the caller lives by
 * @throws ipam.pool-overlap when the configured pools overlap each other; ipam.pool-covers; document.invalid; store.*
 */
export async function ensureFirstPools(
  pools: readonly FirstPool[],
  modules: PoolModules,
  vitals: readonly Vital[] = [],
): Promise<void> {
  if (pools.length === 0) return
  const documents = pools.map(documentOf)
  const { store, random } = modules
  const existing = await listPools(store)
  const covered = [...(await readUnderlays(store)), ...vitals]
  const changed = await changeRecord<AddressSpaceRecord>(store, {
    key: ADDRESS_SPACE_KEY,
    parse: parseSpace,
    step: current => {
      const space = current ?? emptySpace
      if (space.pools.length > 0 || existing.length > 0) return KEEP
      for (const document of documents) refuseCovering(document, covered)
      return documents.reduce<AddressSpaceRecord>((before, document) => {
        const after = withEntry(before, entryOf(document, random.uuid()))
        return after === KEEP ? before : after
      }, space)
    },
  })
  const names = new Set(existing.map(pool => pool.metadata.name))
  for (const document of documents) {
    const { name } = document.metadata
    const entry = changed.value?.pools.find(pool => pool.name === name)
    if (entry === undefined || names.has(name)) continue
    const pool = { ...document, metadata: { ...document.metadata, uid: entry.uid } }
    if (isEntryOf(entry, pool)) await createFirst(pool, entry.uid, modules)
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

/** Kubernetes was told to delete it, for ever. */
export const isBeingDeleted = ({ metadata }: IPPool): boolean => metadata.deletionTimestamp !== undefined

/**
 * Gives a pool resource that was written straight into the store its uid and its entry.
 * @param vitals what nodes live by, as far as the caller knows
 * @throws ipam.pool-overlap, ipam.pool-changed, ipam.pool-covers: it must not be used; store.*
 */
export async function admitPool(
  pool: IPPool,
  vitals: readonly Vital[],
  modules: Pick<PoolModules, 'store' | 'random'>,
): Promise<void> {
  const { store, random } = modules
  const key = poolKey(pool.metadata.name)
  const space = await readSpace(store)
  if (!hasEntry(pool, space)) refuseCovering(pool, vitals)
  const changed = await changeRecord<IPPool>(store, {
    key,
    parse: parsePool,
    step: current => {
      // A finalizer that keeps it cannot be given to what is being deleted.
      if (current === null || current.metadata.uid !== undefined || isBeingDeleted(current)) return KEEP
      const uid = entryWithout(current, space)?.uid ?? random.uuid()
      return { ...current, metadata: { ...current.metadata, uid } }
    },
  })
  const known = changed.value
  const uid = known?.metadata.uid
  if (known === null || uid === undefined) return
  await changeRecord<AddressSpaceRecord>(store, {
    key: ADDRESS_SPACE_KEY,
    parse: parseSpace,
    step: current => {
      const space = current ?? emptySpace
      const wanted = entryOf(known, uid)
      const entered = space.pools.find(entry => entry.uid === uid)
      if (entered === undefined) return withEntry(space, wanted)
      if (entered.name !== wanted.name) throw overlapError(wanted, entered)
      if (!isEntryOf(entered, known)) throw changedError(known, entered)
      if (entered.blockSize !== undefined) return KEEP
      const { blockSize } = wanted
      return { ...space, pools: space.pools.map(each => (each === entered ? { ...each, blockSize } : each)) }
    },
  })
}
