/** Pools with their entry in the address space: a pool without one is not in use, whatever its document says. */
import type { AddressSpaceRecord } from '../datastore/records/address-space.ts'
import type { IPPool } from '../datastore/resources/ippool.ts'
import { kindNamed } from '../datastore/resources/kinds.ts'
import type { Store } from '../datastore/store.ts'
import {
  asEntered,
  isEntryOf,
  isNamesakeOf,
  type PoolEntry,
  readSpace,
  rivalOf,
} from '../ipam/address-space.ts'
import { coveredBy, readUnderlays, type Vital } from '../ipam/covered.ts'
import { listResources } from './resources.ts'

/**
 * Open; Disabled by its document; Closing while it is being deleted; Changed: its document says another range than was
 * entered; Conflict: it overlaps one that came first, or covers a node's address; Pending: no daemon has entered it yet.
 */
export type PoolState = 'Open' | 'Disabled' | 'Closing' | 'Changed' | 'Conflict' | 'Pending'

export interface KnownPool {
  readonly resource: IPPool
  /** The same with the range that was entered: its addresses lie in that. */
  readonly entered: IPPool
  readonly state: PoolState
}

export async function readPools(store: Store, warn: (line: string) => void): Promise<KnownPool[]> {
  const resources = (await listResources(kindNamed('ippool')!, store, warn)) as IPPool[]
  const space = await readSpace(store)
  const isEntered = (pool: IPPool) => space.pools.some(entry => isNamesakeOf(entry, pool))
  const vitals = resources.every(isEntered) ? [] : await readUnderlays(store)
  const entries = new Map(space.pools.map(entry => [entry.uid, entry]))
  return resources.map(resource => ({
    resource,
    entered: asEntered(resource, space),
    state: stateOf(resource, entries.get(resource.metadata.uid ?? ''), space, vitals),
  }))
}

function stateOf(
  resource: IPPool,
  entry: PoolEntry | undefined,
  space: Pick<AddressSpaceRecord, 'pools'>,
  vitals: readonly Vital[],
): PoolState {
  if (entry === undefined || entry.name !== resource.metadata.name) {
    const rival = rivalOf(space, { ...resource.metadata, ...resource.spec })
    return rival === undefined && coveredBy(resource, vitals) === null ? 'Pending' : 'Conflict'
  }
  if (!isEntryOf(entry, resource)) return 'Changed'
  if (entry.state === 'closed') return 'Closing'
  return resource.spec.disabled ? 'Disabled' : 'Open'
}
