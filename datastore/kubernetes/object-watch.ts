/**
 * One watch of one collection: list, then follow, for ever. The position is the resourceVersion of the last event or
 * bookmark; a new watch starts right after it, and a list is asked for anew only where the server has forgotten that past,
 * or was restored to an older state.
 *
 * Whether this is still our cluster is looked at whenever a watch begins, before its events are believed.
 */

import { Backoff } from '../../lib/backoff.ts'
import type { Clock, Random } from '../../lib/clock.ts'
import { isTwillError } from '../../lib/errors.ts'
import type { Log } from '../../lib/log.ts'
import { Delivery } from '../delivery.ts'
import type { Health } from '../health.ts'
import type { StoreEvent, Watch, WatchMessage } from '../store.ts'
import type { KubernetesClient, ObjectEvent } from './client.ts'
import { type Collection, revisionOf } from './collection.ts'
import type { ObjectCalls } from './object-calls.ts'
import { readFailure } from './store-failure.ts'

export interface ObjectWatchModules {
  readonly client: KubernetesClient
  readonly calls: ObjectCalls
  readonly health: Health
  readonly clock: Clock
  readonly random: Random
  readonly log: Log
}

/** The server ends a watch after between once and twice this time. */
const WATCH_SECONDS = 300
/** A watch that stood for so long is no failure when it ends. */
const STOOD_MS = 5_000

export class ObjectWatch implements Watch {
  readonly #collection: Collection
  readonly #prefix: string
  readonly #modules: ObjectWatchModules
  readonly #delivery: Delivery
  readonly #closing = new AbortController()
  readonly #backoff: Backoff
  readonly #done: Promise<void>
  #position: number | null = null

  constructor(
    options: { readonly collection: Collection; readonly prefix: string },
    modules: ObjectWatchModules,
    listener: (message: WatchMessage) => void,
  ) {
    this.#collection = options.collection
    this.#prefix = options.prefix
    this.#modules = modules
    const { prefix } = options
    this.#delivery = new Delivery({ prefix, listener, ended: this.#closing.signal }, modules)
    this.#backoff = new Backoff(modules)
    this.#done = this.#run()
  }

  async close(): Promise<void> {
    this.#closing.abort()
    await this.#done
  }

  async #run(): Promise<void> {
    // The caller has its Watch before the first message.
    await Promise.resolve()
    while (!this.#closing.signal.aborted) {
      try {
        if (this.#position !== null && (await this.#wentBack(this.#position))) this.#position = null
        if (this.#position === null) await this.#snapshot()
        await this.#follow(this.#position as number)
      } catch (error) {
        await this.#pause(error)
      }
    }
  }

  /**
   * To an older state of itself: its server would take the position for one of the future, and say nothing until then.
   * @throws store.foreign-cluster
   */
  async #wentBack(position: number): Promise<boolean> {
    const revision = await this.#modules.calls.newest(this.#collection, this.#closing.signal)
    if (revision >= position) return false
    const { prefix } = this.#collection
    this.#modules.log.warn({ prefix, position, revision }, 'the store went back: listing anew')
    return true
  }

  async #snapshot(): Promise<void> {
    const { calls } = this.#modules
    const { signal } = this.#closing
    const { entries, revision } = await calls.listOf(this.#collection, this.#prefix, signal)
    this.#position = revision
    this.#delivery.connection(true, null)
    this.#delivery.tell({ type: 'snapshot', entries, revision })
  }

  /** Returns when the server ends it, which it does now and then. */
  async #follow(position: number): Promise<void> {
    const { client, clock, random } = this.#modules
    const begun = clock.boottimeMs()
    const query = {
      ...this.#collection.selectorFor(this.#prefix),
      resourceVersion: position,
      timeoutSeconds: Math.round(WATCH_SECONDS * (1 + random.fraction())),
      allowWatchBookmarks: true,
    }
    const onOpen = () => this.#delivery.connection(true, null)
    await client.watch(
      this.#collection.path,
      query,
      event => this.#receive(event),
      this.#closing.signal,
      onOpen,
    )
    if (clock.boottimeMs() - begun >= STOOD_MS) this.#backoff.reset()
    else await clock.sleep(this.#backoff.next(null), this.#closing.signal)
  }

  #receive({ type, object }: ObjectEvent): void {
    if (this.#closing.signal.aborted) return
    this.#backoff.reset()
    const event = type === 'BOOKMARK' ? null : this.#eventOf(type, object)
    this.#position = revisionOf(object)
    if (event !== null) this.#delivery.tell({ type: 'events', events: [event], revision: event.modRevision })
  }

  #eventOf(type: ObjectEvent['type'], object: ObjectEvent['object']): StoreEvent | null {
    const record = this.#collection.recordIn(object)
    if (record === null || !record.key.startsWith(this.#prefix)) return null
    const value = type === 'DELETED' ? null : record.value
    return { key: record.key, value, modRevision: revisionOf(object) }
  }

  async #pause(error: unknown): Promise<void> {
    if (this.#closing.signal.aborted) return
    if (isTwillError(error, 'kubernetes.gone')) {
      const { prefix } = this.#collection
      this.#modules.log.info({ prefix, position: this.#position }, 'history forgotten: listing anew')
      this.#position = null
    } else {
      const failure = readFailure(error)
      this.#modules.health.lost(failure)
      this.#delivery.connection(false, failure.message)
    }
    await this.#modules.clock.sleep(this.#backoff.next(error), this.#closing.signal)
  }
}
