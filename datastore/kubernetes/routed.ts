/**
 * The datastore of a node in a Kubernetes cluster: what operators say (resources/) is the API server's, whichever store
 * holds Twill's own records. Its status is that of the records: it is they on which a node depends.
 */
import { PREFIX } from '../keys.ts'
import { KINDS } from '../resources/kinds.ts'
import type { Commit, CommitOutcome, KeyValue, Store, StoreStatus, Watch, WatchMessage } from '../store.ts'
import type { NamespaceRecord } from './cluster-objects.ts'
import type { Collection, StoredRecord } from './collection.ts'
import { WATCHED_PATHS } from './facts.ts'
import { type FollowedNamespaces, FollowedWatch } from './followed-watch.ts'
import { ObjectStore, type ObjectStoreModules, type ObjectStoreOptions } from './object-store.ts'
import { collectionsOf } from './resources.ts'

export class RoutedStore implements Store {
  readonly #records: Store
  readonly #resources: Store
  readonly #onClosed: () => void

  /** Closes both. */
  constructor(modules: {
    readonly records: Store
    readonly resources: Store
    readonly onClosed: () => void
  }) {
    this.#onClosed = modules.onClosed
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
    this.#onClosed()
  }

  #storeOf(key: string): Store {
    return key.startsWith(PREFIX.resources) ? this.#resources : this.#records
  }
}

export interface ResourceStoreModules extends ObjectStoreModules {
  /** What this node follows already; null: nothing. */
  readonly facts?: FollowedNamespaces | null
}

/** Operator resources at the API server. The client stays open when the store is closed. */
export function resourceStore({ facts = null, ...modules }: ResourceStoreModules): ObjectStore {
  const collections = (known: { readonly lastRevision: () => number }) => collectionsOf(KINDS, known, modules)
  if (facts === null) return new ObjectStore({ hasIdentity: false, collections }, modules)
  const followed: ObjectStoreOptions['followed'] = (collection, prefix, listener) => {
    if (collection.path !== WATCHED_PATHS.namespaces) return null
    const recordOf = (metadata: NamespaceRecord) => namespaceDocument(collection, metadata)
    return new FollowedWatch({ prefix, recordOf }, { ...modules, facts }, listener)
  }
  return new ObjectStore({ hasIdentity: false, collections, followed }, modules)
}

/** Of a Namespace everything but its version is kept. */
const namespaceDocument = (collection: Collection, metadata: NamespaceRecord): StoredRecord =>
  collection.recordIn({ metadata: { ...metadata, resourceVersion: '' } }) as StoredRecord
