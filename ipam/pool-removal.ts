/**
 * The end of a pool: closed in `address-space` before it goes, and taken out only when a later list shows no part of
 * it, so that a node that claims at the same instant is either seen or refused.
 */
import { ADDRESS_SPACE_KEY, PREFIX } from '../datastore/keys.ts'
import { recordParser } from '../datastore/record.ts'
import type { AddressSpaceRecord } from '../datastore/records/address-space.ts'
import { ledgerRecord } from '../datastore/records/ledger.ts'
import type { IPPool } from '../datastore/resources/ippool.ts'
import type { Store } from '../datastore/store.ts'
import { TwillError } from '../lib/errors.ts'
import { emptySpace, isOpen, type PoolEntry, parseSpace, readSpace } from './address-space.ts'
import { changeRecord, KEEP } from './change-record.ts'
import { notFound, type PoolModules, parsePool, poolKey } from './pools.ts'
import { parseSlot } from './slot-index.ts'

const parseLedger = recordParser(ledgerRecord)

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
  const found = (await readSpace(store)).pools.find(pool => pool.name === name)
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

/** Living pods, of other plugins too, in the pool's ledgers: entries of generations that slots no longer show count for nothing. */
async function countPods(store: Store, uid: string): Promise<number> {
  const current = await ownedGenerations(store, uid)
  const { entries } = await store.list(`${PREFIX.ledgers}${uid}/`)
  let pods = 0
  for (const entry of entries) {
    const ledger = parseLedger(entry.value, entry.key)
    for (const [generation, holders] of Object.entries(ledger.generations))
      if (current.has(`${ledger.owner} ${generation}`))
        pods += Object.values(holders).filter(holder => holder.kind !== 'tunnel').length
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
