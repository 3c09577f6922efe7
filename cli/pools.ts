/** Pools with their entry in the address space: a pool without one is not in use, whatever its document says. */
import { ADDRESS_SPACE_KEY } from '../datastore/keys.ts'
import { recordParser } from '../datastore/record.ts'
import { addressSpaceRecord } from '../datastore/records/address-space.ts'
import type { IPPool } from '../datastore/resources/ippool.ts'
import { kindNamed } from '../datastore/resources/kinds.ts'
import type { Store } from '../datastore/store.ts'
import { listResources } from './resources.ts'

/** Open; Disabled by its document; Closing while it is being deleted; Conflict: it overlaps one that came first. */
export type PoolState = 'Open' | 'Disabled' | 'Closing' | 'Conflict'

export interface KnownPool {
  readonly resource: IPPool
  readonly state: PoolState
}

const parseSpace = recordParser(addressSpaceRecord)

export async function readPools(store: Store, warn: (line: string) => void): Promise<KnownPool[]> {
  const resources = (await listResources(kindNamed('ippool')!, store, warn)) as IPPool[]
  const { entry } = await store.get(ADDRESS_SPACE_KEY)
  const entries = entry === null ? [] : parseSpace(entry.value, entry.key).pools
  const states = new Map(entries.map(({ uid, state }) => [uid, state]))
  return resources.map(resource => ({ resource, state: stateOf(resource, states) }))
}

function stateOf(resource: IPPool, states: ReadonlyMap<string, 'open' | 'closed'>): PoolState {
  const state = states.get(resource.metadata.uid ?? '')
  if (state === undefined) return 'Conflict'
  if (state === 'closed') return 'Closing'
  return resource.spec.disabled ? 'Disabled' : 'Open'
}
