/** A Store whose records are objects of a Kubernetes API server: what the two halves of it, resources and records, share. */
import type { Clock, Random } from '../../lib/clock.ts'
import type { Log } from '../../lib/log.ts'
import { Health } from '../health.ts'
import { CLUSTER_KEY } from '../keys.ts'
import { OpenWatches } from '../open-watches.ts'
import type { Commit, CommitOutcome, KeyValue, Store, StoreStatus, Watch, WatchMessage } from '../store.ts'
import type { KubernetesClient } from './client.ts'
import { type Collection, collectionsUnder } from './collection.ts'
import { CombinedWatch } from './combined-watch.ts'
import { ANY_CLUSTER, ClusterIdentity } from './identity.ts'
import { ObjectCalls } from './object-calls.ts'
import { ObjectWatch, type ObjectWatchModules } from './object-watch.ts'

export interface ObjectStoreModules {
  readonly client: KubernetesClient
  readonly clock: Clock
  readonly random: Random
  readonly log: Log
}

export interface ObjectStoreOptions {
  readonly collections: (known: {
    readonly lastRevision: () => number
    readonly cluster: () => string | null
  }) => readonly Collection[]
  /** False: it has no record of a cluster; whoever asks knows by other means. */
  readonly hasIdentity: boolean
  /** A watch by what somebody follows already; null: nobody does. */
  readonly followed?: Follow
}

type Follow = (
  collection: Collection,
  prefix: string,
  listener: (message: WatchMessage) => void,
) => Watch | null

export class ObjectStore implements Store {
  readonly #collections: readonly Collection[]
  readonly #modules: ObjectWatchModules
  readonly #identity: ClusterIdentity
  readonly #followed: Follow
  readonly #watches = new OpenWatches()

  constructor(options: ObjectStoreOptions, modules: ObjectStoreModules) {
    this.#followed = options.followed ?? (() => null)
    const health = new Health(modules.clock)
    const identity = new ClusterIdentity(() => calls.getUnrecognised(CLUSTER_KEY))
    this.#collections = options.collections({
      lastRevision: () => health.lastRevision,
      cluster: () => identity.expected,
    })
    const recognition = options.hasIdentity ? identity : ANY_CLUSTER
    const calls = new ObjectCalls({ collections: this.#collections }, { ...modules, health, recognition })
    this.#identity = identity
    this.#modules = { ...modules, calls, health }
  }

  async get(key: string): Promise<{ entry: KeyValue | null; revision: number }> {
    this.#watches.check()
    return await this.#modules.calls.get(key)
  }

  async list(prefix: string): Promise<{ entries: KeyValue[]; revision: number }> {
    this.#watches.check()
    return await this.#modules.calls.list(prefix)
  }

  async commit(commit: Commit): Promise<CommitOutcome> {
    this.#watches.check()
    return await this.#modules.calls.commit(commit)
  }

  watch(prefix: string, listener: (message: WatchMessage) => void): Watch {
    this.#watches.check()
    const open = collectionsUnder(this.#collections, prefix).map(
      collection => (heard: (message: WatchMessage) => void) =>
        this.#followed(collection, prefix, heard) ??
        new ObjectWatch({ collection, prefix }, this.#modules, heard),
    )
    const [single] = open
    const watch = open.length === 1 && single ? single(listener) : new CombinedWatch(open, listener)
    return this.#watches.add(watch)
  }

  expectCluster(uid: string): void {
    this.#identity.expect(uid)
  }

  status(): StoreStatus {
    return this.#watches.status(this.#modules.health.status())
  }

  /** The client stays open: whoever made it closes it. */
  async close(): Promise<void> {
    await this.#watches.close()
  }
}
