/** Pools of the configuration, written once the cluster's are known, and only if the store has no pool at all. */
import type { Store } from '../../datastore/store.ts'
import type { Vital } from '../../ipam/covered.ts'
import { ensureFirstPools } from '../../ipam/pools.ts'
import { Backoff } from '../../lib/backoff.ts'
import type { Clock, Random } from '../../lib/clock.ts'
import { isTwillError, messageOf } from '../../lib/errors.ts'
import type { Log } from '../../lib/log.ts'
import type { Config } from '../config.ts'
import type { Cluster } from './cluster.ts'

export interface FirstPoolsModules {
  readonly store: Store
  readonly cluster: Pick<Cluster, 'synced' | 'pools'>
  /** What this node lives by. */
  readonly vitals: () => readonly Vital[]
  /** Why the configuration's are not taken, or null. */
  readonly refused: (why: string | null) => void
  readonly clock: Clock
  readonly random: Random
  readonly log: Log
}

/** Resolves when there are pools, however long the store stays away; never rejects. */
export async function ensureFirstPoolsLater(
  firstPools: Config['firstPools'],
  modules: FirstPoolsModules,
): Promise<void> {
  if (firstPools.length === 0) return
  const { cluster, vitals, refused, clock, log } = modules
  const backoff = new Backoff(modules)
  for (;;)
    try {
      await cluster.synced()
      if (cluster.pools().length === 0) await ensureFirstPools(firstPools, modules, vitals())
      refused(null)
      return
    } catch (error) {
      refused(isTwillError(error) && error.code.startsWith('ipam.') ? error.message : null)
      log.warn({ error: messageOf(error) }, 'the first pools could not be created; trying again')
      await clock.sleep(backoff.next(error))
    }
}
