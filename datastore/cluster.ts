/** The cluster's identity in the store: which cluster this is, and holding the store to it. */
import type { Random } from '../lib/clock.ts'
import { TwillError } from '../lib/errors.ts'
import { CLUSTER_KEY } from './keys.ts'
import { recordParser } from './record.ts'
import { clusterRecord } from './records/cluster.ts'
import type { Store } from './store.ts'

const parse = recordParser(clusterRecord)

/**
 * Binds the store to a cluster and returns its UID. `expected` is the one this node has worked with before;
 * null: the store's, which is given one if it has none.
 *
 * With an expected UID the store is bound at once, also when the promise rejects (with store.unavailable, or
 * store.foreign-cluster until it matches): a daemon may start while the store is away. Without one, call again
 * after a rejection; nothing is bound till then.
 */
export async function bindCluster(
  expected: string | null,
  modules: { store: Store; random: Random },
): Promise<string> {
  const { store, random } = modules
  if (expected !== null) {
    store.expectCluster(expected)
    await store.get(CLUSTER_KEY)
    return expected
  }
  const uid = await identify(store, random)
  store.expectCluster(uid)
  return uid
}

async function identify(store: Store, random: Random): Promise<string> {
  const { entry } = await store.get(CLUSTER_KEY)
  if (entry !== null) return parse(entry.value, CLUSTER_KEY).uid
  const uid = random.uuid()
  const value = JSON.stringify({ v: 1, uid })
  const outcome = await store.commit({ key: CLUSTER_KEY, expected: 0, value })
  if (outcome.committed) return uid
  if (outcome.current !== null) return parse(outcome.current.value, CLUSTER_KEY).uid
  throw new TwillError('store.unavailable', 'the cluster record came and went', {}, { retryable: true })
}
