/**
 * One watch: list, then follow, for ever. `#position` is the revision up to which everything was delivered;
 * a new stream starts right after it. It comes from the last *event* (or list, or progress notice), never from
 * the header of a message with events: in a catch-up that one runs ahead by thousands.
 *
 * Each new stream is looked at before its events are believed: a read of the record `cluster` tells whether
 * this is our cluster still, and whether its revision went back (an older snapshot was restored).
 */
import type { IEvent, IWatchResponse } from 'etcd3'
import type { Clock, Random } from '../../lib/clock.ts'
import { messageOf } from '../../lib/errors.ts'
import type { Log } from '../../lib/log.ts'
import { Delivery } from '../delivery.ts'
import type { Health } from '../health.ts'
import { CLUSTER_KEY } from '../keys.ts'
import type { StoreEvent, Watch, WatchMessage } from '../store.ts'
import type { Calls } from './calls.ts'
import type { Connection } from './connection.ts'
import { unavailable, watchRefused } from './failure.ts'
import { decode, prefixEnd } from './keys.ts'
import type { ResolvedEtcdOptions } from './options.ts'
import type { Subscription, WatchHub } from './watch-stream.ts'

export interface EtcdWatchModules {
  readonly calls: Calls
  readonly hub: WatchHub
  readonly connection: Connection
  readonly health: Health
  readonly clock: Clock
  readonly random: Random
  readonly log: Log
}

export class EtcdWatch implements Watch {
  readonly #prefix: string
  readonly #options: ResolvedEtcdOptions
  readonly #modules: EtcdWatchModules
  readonly #delivery: Delivery
  readonly #closing = new AbortController()
  readonly #done: Promise<void>
  #position: number | null = null
  #term = 0
  #failures = 0
  #subscription: Subscription | null = null

  constructor(
    options: { prefix: string; etcd: ResolvedEtcdOptions },
    modules: EtcdWatchModules,
    listener: (message: WatchMessage) => void,
  ) {
    this.#prefix = options.prefix
    this.#options = options.etcd
    this.#modules = modules
    const { prefix } = options
    this.#delivery = new Delivery({ prefix, listener, ended: this.#closing.signal }, modules)
    this.#done = this.#run()
  }

  async close(): Promise<void> {
    this.#closing.abort()
    this.#subscription?.feed.fail(unavailable('closed', this.#modules.connection.endpoint))
    await this.#done
  }

  async #run(): Promise<void> {
    // The caller has its Watch before the first message.
    await Promise.resolve()
    while (!this.#closing.signal.aborted) {
      try {
        if (this.#position === null) await this.#snapshot()
        await this.#follow()
      } catch (error) {
        await this.#pause(error)
      }
    }
  }

  async #pause(error: unknown): Promise<void> {
    if (this.#closing.signal.aborted) return
    this.#modules.health.lost(error)
    this.#delivery.connection(false, messageOf(error))
    const { first, last } = this.#options.backoffMs
    const limit = Math.min(last, first * 2 ** this.#failures++)
    await this.#modules.clock.sleep(limit * (0.5 + this.#modules.random.fraction() / 2), this.#closing.signal)
  }

  async #snapshot(): Promise<void> {
    const { entries, revision } = await this.#modules.calls.list(this.#prefix)
    this.#position = revision
    this.#delivery.connection(true, null)
    this.#delivery.tell({ type: 'snapshot', entries, revision })
  }

  /** Returns when only a fresh list can tell the state; `#position` is null then. */
  async #follow(): Promise<void> {
    const stream = await this.#modules.hub.stream()
    const key = Buffer.from(this.#options.prefix + this.#prefix)
    const startRevision = (this.#position as number) + 1
    const subscription = stream.subscribe({ key, rangeEnd: prefixEnd(key), startRevision })
    this.#subscription = subscription
    try {
      await this.#consume(subscription)
    } catch (error) {
      if (this.#closing.signal.aborted) return
      if (this.#options.auth !== undefined) {
        // Its token may have expired, which is said in several ways: all watches go on with a new one.
        this.#modules.connection.renew(stream.link)
        stream.fail(error)
      } else if (stream.ended) this.#modules.connection.failed(stream.link)
      throw error
    } finally {
      subscription.cancel()
      this.#subscription = null
    }
  }

  async #consume({ feed }: Subscription): Promise<void> {
    let fragments: IEvent[] = []
    while (!this.#closing.signal.aborted) {
      const response = await feed.next()
      if (response.canceled) return this.#canceled(response)
      if (response.created) {
        if (!(await this.#recognise())) return
        continue
      }
      fragments.push(...response.events)
      if (response.fragment) continue
      this.#advance(fragments, Number(response.header.revision))
      fragments = []
    }
  }

  #canceled(response: IWatchResponse): void {
    if (Number(response.compact_revision) === 0) {
      const { connection } = this.#modules
      throw watchRefused(response.cancel_reason, connection.endpoint)
    }
    this.#modules.log.info(
      { prefix: this.#prefix, position: this.#position },
      'history compacted: listing anew',
    )
    this.#position = null
  }

  /** False: the store went back; `#position` is null then. @throws store.foreign-cluster */
  async #recognise(): Promise<boolean> {
    const { revision, term } = await this.#modules.calls.get(CLUSTER_KEY)
    const position = this.#position as number
    if (revision < position || term < this.#term) {
      this.#modules.log.warn({ prefix: this.#prefix, position, revision }, 'store went back: listing anew')
      this.#position = null
      this.#term = 0
      return false
    }
    this.#term = term
    this.#failures = 0
    this.#delivery.connection(true, null)
    return true
  }

  #advance(received: readonly IEvent[], headerRevision: number): void {
    const position = this.#position as number
    if (received.length === 0) {
      this.#position = Math.max(position, headerRevision)
      return
    }
    const events = received.map(event => this.#decode(event)).filter(event => event.modRevision > position)
    const last = events.at(-1)
    if (last === undefined) return
    this.#position = last.modRevision
    this.#delivery.tell({ type: 'events', events, revision: last.modRevision })
  }

  #decode(event: IEvent): StoreEvent {
    const entry = decode(event.kv, this.#options.prefix)
    return event.type === 'Delete' ? { ...entry, value: null } : entry
  }
}
