/** A Store whose records are objects of a Kubernetes API server: what the two halves of it, resources and records, share. */
import type { Clock, Random } from '../../lib/clock.ts'
import { TwillError } from '../../lib/errors.ts'
import type { Log } from '../../lib/log.ts'
import { Health } from '../health.ts'
import { CLUSTER_KEY } from '../keys.ts'
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
}

export class ObjectStore implements Store {
  readonly #collections: readonly Collection[]
  readonly #modules: ObjectWatchModules
  readonly #identity: ClusterIdentity
  readonly #watches = new Set<Watch>()
  #closed = false

  constructor(options: ObjectStoreOptions, modules: ObjectStoreModules) {
    const health = new Health()
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
    this.#checkOpen()
    return await this.#modules.calls.get(key)
  }

  async list(prefix: string): Promise<{ entries: KeyValue[]; revision: number }> {
    this.#checkOpen()
    return await this.#modules.calls.list(prefix)
  }

  async commit(commit: Commit): Promise<CommitOutcome> {
    this.#checkOpen()
    return await this.#modules.calls.commit(commit)
  }

  watch(prefix: string, listener: (message: WatchMessage) => void): Watch {
    this.#checkOpen()
    const open = collectionsUnder(this.#collections, prefix).map(
      collection => (heard: (message: WatchMessage) => void) =>
        new ObjectWatch({ collection, prefix }, this.#modules, heard),
    )
    const [single] = open
    const watch = open.length === 1 && single ? single(listener) : new CombinedWatch(open, listener)
    this.#watches.add(watch)
    return {
      close: async () => {
        this.#watches.delete(watch)
        await watch.close()
      },
    }
  }

  expectCluster(uid: string): void {
    this.#identity.expect(uid)
  }

  status(): StoreStatus {
    const status = this.#modules.health.status()
    return this.#closed ? { ...status, connected: false, reason: 'closed' } : status
  }

  /** The client stays open: whoever made it closes it. */
  async close(): Promise<void> {
    this.#closed = true
    const watches = [...this.#watches]
    this.#watches.clear()
    await Promise.all(watches.map(watch => watch.close()))
  }

  #checkOpen(): void {
    if (this.#closed) throw new TwillError('store.unavailable', 'the store is closed')
  }
}
