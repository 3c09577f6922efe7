/**
 * The end of a pool: closed in `address-space` before it goes, and taken out only when a later list shows no part of
 * it, so that a node that claims at the same instant is either seen or refused; then its slots and ledgers
 * (pool-leftovers.ts). Each step may be repeated: a removal that stopped halfway is finished by the next.
 */
import { ADDRESS_SPACE_KEY, PREFIX } from '../datastore/keys.ts'
import { recordParser } from '../datastore/record.ts'
import type { AddressSpaceRecord } from '../datastore/records/address-space.ts'
import { type LedgerEntry, type LedgerRecord, ledgerRecord } from '../datastore/records/ledger.ts'
import type { IPPool } from '../datastore/resources/ippool.ts'
import type { Store } from '../datastore/store.ts'
import { TwillError } from '../lib/errors.ts'
import { emptySpace, type PoolEntry, parseSpace, readSpace } from './address-space.ts'
import { changeRecord, KEEP } from './change-record.ts'
import { purgePool } from './pool-leftovers.ts'
import { isBeingDeleted, notFound, type PoolModules, parsePool, poolKey } from './pools.ts'
import { parseSlot } from './slot-index.ts'

const parseLedger = recordParser(ledgerRecord)

export interface DeletePoolOptions {
  /** Take no refusal: the pool stays closed and goes once its last address is free. Call again until removed. */
  readonly drain: boolean
  /** How long to wait for nodes to give back parts that nobody uses. Default 10 s. */
  readonly waitMs?: number
  /** Of the one that is meant: another that has its name by now stays. Default: whichever has the name. */
  readonly uid?: string
}

/** A node that has parts of the pool. */
export interface PoolUser {
  readonly uid: string
  readonly parts: number
  /** Who holds addresses of these; the node's own on the overlay too. */
  readonly holders: readonly (Pick<LedgerEntry, 'holder' | 'kind' | 'containerId' | 'pod'> & {
    readonly address: string
  })[]
}

export type PoolDeletion =
  | { readonly removed: true }
  /** `closed` false: it was refused, because pods hold addresses of it. */
  | { readonly removed: false; readonly closed: boolean; readonly users: readonly PoolUser[] }

/** The most that a daemon waits before it writes a ledger, and what the writing takes. */
const LEDGERS_BEHIND_MS = 2_500

const GONE: PoolDeletion = { removed: true }

type Modules = Pick<PoolModules, 'store' | 'clock'>

/**
 * Closes the pool, waits for its parts to come back, removes it. Where it is in use and not to be drained it is as open
 * afterwards as it was before.
 * @throws resource.not-found; resource.in-use: somebody opened it again meanwhile; store.*
 */
export async function deletePool(
  name: string,
  options: DeletePoolOptions,
  modules: Modules,
): Promise<PoolDeletion> {
  const { store } = modules
  const uid = options.uid ?? (await uidOf(store, name)) ?? (await removeUnentered(store, name))
  if (uid === null) return GONE
  const closed = await changeEntry(store, uid, entry => ({ ...entry, state: 'closed' }))
  const users = await usersOf(store, uid)
  const isUsed = hasPods(users)
  if (isUsed && !options.drain) {
    if (closed) await changeEntry(store, uid, opened)
    return { removed: false, closed: !closed, users }
  }
  if (!isUsed) await askNodes(uid, name, modules)
  if (!(await isFreed(uid, name, options.waitMs ?? 10_000, modules))) {
    const left = await usersOf(store, uid)
    // A pod that came just before the pool was closed was in no ledger yet.
    const reopens = closed && !options.drain && hasPods(left)
    if (reopens) await changeEntry(store, uid, opened)
    return { removed: false, closed: !reopens, users: left }
  }
  // From here on it is not taken back: between a look and the deletion of the document it would be.
  await changeEntry(store, uid, entry => {
    if (entry.state === 'open') throw openedAgain(name)
    return { ...entry, leaving: true }
  })
  await changeRecord<Pick<IPPool, 'metadata'>>(store, {
    key: poolKey(name),
    // What is no pool any more goes too.
    parse: text => JSON.parse(text),
    step: current => (current?.metadata.uid === uid ? null : KEEP),
  })
  if (!(await leave(store, uid))) return { removed: false, closed: true, users: await usersOf(store, uid) }
  // What is written between the look and the deletion is left to the daemons.
  await purgePool(store, uid)
  return GONE
}

/**
 * What nodes themselves hold of it they give up, other nodes' pods or not: so not before every ledger must show the pods
 * that came just before the pool was closed.
 */
async function askNodes(uid: string, name: string, modules: Modules): Promise<void> {
  const { store } = modules
  if ((await isFreed(uid, name, LEDGERS_BEHIND_MS, modules)) || hasPods(await usersOf(store, uid))) return
  await changeEntry(store, uid, entry => (entry.state === 'closed' ? { ...entry, emptied: true } : entry))
}

/**
 * Takes back a deletion that waits: the pool hands out addresses again. False: it was open.
 * @throws resource.not-found: no such pool, or nothing is left of it but its entry; resource.in-use: its deletion has
 *   gone so far that it can only be finished, or is Kubernetes'; store.*
 */
export async function keepPool(name: string, { store }: Pick<Modules, 'store'>): Promise<boolean> {
  const { entry } = await store.get(poolKey(name))
  const pool = entry === null ? null : parsePool(entry.value, entry.key)
  const uid = pool?.metadata.uid
  if (pool === null || uid === undefined) throw notFound(name)
  if (isBeingDeleted(pool)) throw toldToKubernetes(name)
  const wasClosed = await changeEntry(store, uid, each => {
    if (each.leaving) throw tooLate(name)
    return opened(each)
  })
  const isThere = (await store.get(poolKey(name))).entry !== null
  if (!isThere || !(await readSpace(store)).pools.some(pool => pool.uid === uid)) throw notFound(name)
  return wasClosed
}

const toldToKubernetes = (name: string) =>
  new TwillError(
    'resource.in-use',
    `IPPool ${name}: Kubernetes was told to delete it, which nobody can take back: it goes when it is empty; apply it again then`,
    { kind: 'IPPool', name },
  )

const tooLate = (name: string) =>
  new TwillError(
    'resource.in-use',
    `IPPool ${name}: its deletion has gone too far to be taken back: delete it again to finish it`,
    { kind: 'IPPool', name },
  )

const openedAgain = (name: string) =>
  new TwillError('resource.in-use', `IPPool ${name} was opened again meanwhile: it stays`, {
    kind: 'IPPool',
    name,
  })

const opened = ({ emptied: _, ...entry }: PoolEntry): PoolEntry => ({ ...entry, state: 'open' })

const hasPods = (users: readonly PoolUser[]): boolean => users.some(({ holders }) => holders.some(isPod))

const isPod = ({ kind }: Pick<LedgerEntry, 'kind'>): boolean => kind !== 'tunnel'

/**
 * Of the resource, or of an entry whose resource is missing: the rest of a creation or removal that stopped. null: the
 * resource has neither: it was written past Twill, and nobody has entered it.
 */
async function uidOf(store: Store, name: string): Promise<string | null> {
  const resource = (await store.get(poolKey(name))).entry
  const uid = resource === null ? undefined : parsePool(resource.value, resource.key).metadata.uid
  if (uid !== undefined) return uid
  const found = await entryNamed(store, name)
  if (found === undefined && resource === null) throw notFound(name)
  return found?.uid ?? null
}

/** Nothing was handed out from it. @returns the UID of a daemon that entered it meanwhile */
async function removeUnentered(store: Store, name: string): Promise<string | null> {
  await changeRecord<IPPool>(store, {
    key: poolKey(name),
    parse: parsePool,
    step: current => (current !== null && current.metadata.uid === undefined ? null : KEEP),
  })
  return (await entryNamed(store, name))?.uid ?? null
}

const entryNamed = async (store: Store, name: string): Promise<PoolEntry | undefined> =>
  (await readSpace(store)).pools.find(pool => pool.name === name)

/**
 * Takes the entry out, guarded by the revision read before the list that shows no part: whoever opens the pool
 * again in between makes this start over. False: parts turned up.
 */
async function leave(store: Store, uid: string): Promise<boolean> {
  for (;;) {
    await changeEntry(store, uid, entry => ({ ...entry, state: 'closed' }))
    const { entry } = await store.get(ADDRESS_SPACE_KEY)
    const space = entry === null ? emptySpace : parseSpace(entry.value, entry.key)
    const own = space.pools.find(pool => pool.uid === uid)
    if (entry === null || own === undefined) return true
    if ((await ownedParts(store, uid)).length > 0) return false
    if (own.state === 'open') continue
    const value = JSON.stringify({ ...space, pools: space.pools.filter(pool => pool !== own) })
    const outcome = await store.commit({ key: ADDRESS_SPACE_KEY, expected: entry.modRevision, value })
    if (outcome.committed) return true
  }
}

async function changeEntry(
  store: Store,
  uid: string,
  step: (entry: PoolEntry) => PoolEntry,
): Promise<boolean> {
  const changed = await changeRecord<AddressSpaceRecord>(store, {
    key: ADDRESS_SPACE_KEY,
    parse: parseSpace,
    step: current => {
      const space = current ?? emptySpace
      const pools = space.pools.map(pool => (pool.uid === uid ? step(pool) : pool))
      return JSON.stringify(pools) === JSON.stringify(space.pools) ? KEEP : { ...space, pools }
    },
  })
  return changed.wrote
}

/** Ledger entries of generations that slots no longer show count for nothing. */
async function usersOf(store: Store, uid: string): Promise<PoolUser[]> {
  const parts = await ownedParts(store, uid)
  const ledgers = parts.length === 0 ? [] : (await store.list(`${PREFIX.ledgers}${uid}/`)).entries
  const current = new Set(parts.map(part => `${part.owner} ${part.generation}`))
  const holders = new Map<string, PoolUser['holders'][number][]>()
  for (const { key, value } of ledgers) {
    const ledger = parseLedger(value, key)
    const counted = [...(holders.get(ledger.owner) ?? []), ...holdersIn(ledger, current)]
    holders.set(ledger.owner, counted)
  }
  return [...new Set(parts.map(part => part.owner as string))].map(owner => ({
    uid: owner,
    parts: parts.filter(part => part.owner === owner).length,
    holders: holders.get(owner) ?? [],
  }))
}

function holdersIn({ owner, generations }: LedgerRecord, current: ReadonlySet<string>) {
  return Object.entries(generations)
    .filter(([generation]) => current.has(`${owner} ${generation}`))
    .flatMap(([, entries]) =>
      Object.entries(entries).map(([address, { holder, kind, containerId, pod }]) => ({
        address,
        holder,
        kind,
        containerId,
        pod,
      })),
    )
}

async function ownedParts(store: Store, uid: string) {
  const { entries } = await store.list(`${PREFIX.slots}${uid}/`)
  return entries.flatMap(entry => parseSlot(entry.value, entry.key).parts.filter(part => part.owner !== null))
}

/** False: somebody still has parts when the time is up. @throws resource.in-use: somebody opened it again */
async function isFreed(
  uid: string,
  name: string,
  waitMs: number,
  { store, clock }: Modules,
): Promise<boolean> {
  const endMs = clock.boottimeMs() + waitMs
  for (;;) {
    const entry = (await readSpace(store)).pools.find(pool => pool.uid === uid)
    if (entry?.state === 'open') throw openedAgain(name)
    if ((await ownedParts(store, uid)).length === 0) return true
    if (clock.boottimeMs() >= endMs) return false
    await clock.sleep(200)
  }
}
