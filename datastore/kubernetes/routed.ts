/**
 * The datastore of a node in a Kubernetes cluster: what operators say (resources/) is the API server's, whichever store
 * holds Twill's own records. Its status is that of the records: it is they on which a node depends.
 */
import { PREFIX } from '../keys.ts'
import { KINDS } from '../resources/kinds.ts'
import type { Commit, CommitOutcome, KeyValue, Store, StoreStatus, Watch, WatchMessage } from '../store.ts'
import type { KubernetesClient } from './client.ts'
import { ObjectStore, type ObjectStoreModules } from './object-store.ts'
import { collectionsOf } from './resources.ts'

export class RoutedStore implements Store {
  readonly #records: Store
  readonly #resources: Store

  readonly #client: KubernetesClient

  /** Closes all three. */
  constructor(modules: {
    readonly records: Store
    readonly resources: Store
    readonly client: KubernetesClient
  }) {
    this.#client = modules.client
    this.#records = modules.records
    this.#resources = modules.resources
  }

  get(key: string): Promise<{ entry: KeyValue | null; revision: number }> {
    return this.#storeOf(key).get(key)
  }

  list(prefix: string): Promise<{ entries: KeyValue[]; revision: number }> {
    return this.#storeOf(prefix).list(prefix)
  }

  commit(commit: Commit): Promise<CommitOutcome> {
    return this.#storeOf(commit.key).commit(commit)
  }

  watch(prefix: string, listener: (message: WatchMessage) => void): Watch {
    return this.#storeOf(prefix).watch(prefix, listener)
  }

  expectCluster(uid: string): void {
    this.#records.expectCluster(uid)
  }

  status(): StoreStatus {
    return this.#records.status()
  }

  async close(): Promise<void> {
    await Promise.all([this.#records.close(), this.#resources.close()])
    this.#client.close()
  }

  #storeOf(key: string): Store {
    return key.startsWith(PREFIX.resources) ? this.#resources : this.#records
  }
}

/** Operator resources at the API server. The client stays open when the store is closed. */
export const resourceStore = (modules: ObjectStoreModules): ObjectStore =>
  new ObjectStore({ hasIdentity: false, collections: known => collectionsOf(KINDS, known, modules) }, modules)
