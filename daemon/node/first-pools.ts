/** Pools of the configuration, written once the cluster's are known, and only if the store has no pool at all. */
import type { Store } from '../../datastore/store.ts'
import { ensureFirstPools } from '../../ipam/pools.ts'
import type { Clock, Random } from '../../lib/clock.ts'
import { messageOf } from '../../lib/errors.ts'
import type { Log } from '../../lib/log.ts'
import type { Config } from '../config.ts'
import type { Cluster } from './cluster.ts'

export interface FirstPoolsModules {
  readonly store: Store
  readonly cluster: Pick<Cluster, 'synced' | 'pools'>
  readonly clock: Clock
  readonly random: Random
  readonly log: Log
}

const RETRY_MS = 1_000

export function ensureFirstPoolsLater(firstPools: Config['firstPools'], modules: FirstPoolsModules): void {
  const { cluster, clock, log } = modules
  const attempt = async (): Promise<void> => {
    await cluster.synced()
    if (cluster.pools().length > 0 || firstPools.length === 0) return
    await ensureFirstPools(firstPools, modules)
  }
  const again = (error: unknown): Promise<void> => {
    log.warn({ error: messageOf(error) }, 'the first pools could not be created; trying again')
    return clock.sleep(RETRY_MS).then(attempt).catch(again)
  }
  attempt().catch(again)
}
