/**
 * A watch of the Namespaces below resources/ by those that this node follows already, so that it does not ask for them twice.
 * Revisions are its own count: nothing is ever written here, so nobody compares them.
 *
 * It tells nothing of the connection: what is wrong with what a node follows is told there (`KubernetesFacts.status`).
 */
import type { Log } from '../../lib/log.ts'
import { Delivery } from '../delivery.ts'
import type { StoreEvent, Watch, WatchMessage } from '../store.ts'
import type { NamespaceRecord } from './cluster-objects.ts'
import type { KubernetesFacts } from './facts.ts'
import type { ReflectorChange } from './reflector.ts'

/** Of KubernetesFacts. */
export type FollowedNamespaces = Pick<KubernetesFacts, 'namespaces' | 'subscribe'>

export interface FollowedWatchOptions {
  readonly prefix: string
  /** The record of one, under its key. */
  readonly recordOf: (namespace: NamespaceRecord) => { readonly key: string; readonly value: string }
}

export class FollowedWatch implements Watch {
  readonly #options: FollowedWatchOptions
  readonly #delivery: Delivery
  readonly #closing = new AbortController()
  #revision = 0
  #unsubscribe: (() => void) | null = null

  constructor(
    options: FollowedWatchOptions,
    { facts, log }: { readonly facts: FollowedNamespaces; readonly log: Log },
    listener: (message: WatchMessage) => void,
  ) {
    this.#options = options
    const { prefix } = options
    const health = { answered: () => {} }
    this.#delivery = new Delivery({ prefix, listener, ended: this.#closing.signal }, { log, health })
    facts.namespaces.synced().then(() => this.#begin(facts))
  }

  async close(): Promise<void> {
    this.#closing.abort()
    this.#unsubscribe?.()
  }

  #begin(facts: FollowedNamespaces): void {
    if (this.#closing.signal.aborted) return
    this.#delivery.connection(true, null)
    const present = [...facts.namespaces.entries.values()].flatMap(each => this.#entryOf(each))
    this.#delivery.tell({ type: 'snapshot', entries: present, revision: this.#revision })
    // Which tells of all that is there: nothing comes between, and it is in the snapshot.
    let isTold = false
    this.#unsubscribe = facts.subscribe({ namespaces: changes => isTold && this.#tell(changes) })
    isTold = true
  }

  #tell(changes: readonly ReflectorChange<NamespaceRecord>[]): void {
    const events = changes.flatMap(({ before, after }): StoreEvent[] =>
      after === null
        ? this.#entryOf(before as NamespaceRecord).map(({ key, modRevision }) => ({
            key,
            value: null,
            modRevision,
          }))
        : this.#entryOf(after),
    )
    if (events.length > 0) this.#delivery.tell({ type: 'events', events, revision: this.#revision })
  }

  #entryOf(namespace: NamespaceRecord) {
    const { key, value } = this.#options.recordOf(namespace)
    return key.startsWith(this.#options.prefix) ? [{ key, value, modRevision: ++this.#revision }] : []
  }
}
