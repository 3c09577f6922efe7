/**
 * One watch of a MemoryStore: a position in the cluster's history, pumped forward after every change. What it
 * cannot resume (compaction, restore) becomes a snapshot. Messages come after the change, never within it.
 */
import type { Clock } from '../../lib/clock.ts'
import type { Watch, WatchMessage } from '../store.ts'
import type { MemoryCluster } from './cluster.ts'

interface MemoryWatchOptions {
  readonly prefix: string
  readonly delayMs: () => number
  /** Why the store cannot be reached, or null. */
  readonly failure: () => string | null
  readonly ended: () => void
}

export class MemoryWatch implements Watch {
  readonly #options: MemoryWatchOptions
  readonly #cluster: MemoryCluster
  readonly #clock: Clock
  readonly #listener: (message: WatchMessage) => void
  readonly #unobserve: () => void
  #position: { revision: number; epoch: number } | null = null
  /** Something under the prefix has changed since `#position`. */
  #behind = false
  #connected = false
  #told = false
  #scheduled = false
  #closed = false

  constructor(
    options: MemoryWatchOptions,
    modules: { cluster: MemoryCluster; clock: Clock },
    listener: (message: WatchMessage) => void,
  ) {
    this.#options = options
    this.#cluster = modules.cluster
    this.#clock = modules.clock
    this.#listener = listener
    this.#unobserve = this.#cluster.observe(revision => this.#changed(revision), options.prefix)
    this.pump()
  }

  #changed(revision: number | null): void {
    // Up to here nothing under the prefix has: neither history nor its compaction matters.
    if (revision !== null && !this.#behind && this.#position !== null)
      this.#position = { ...this.#position, revision: revision - 1 }
    this.#behind = true
    this.pump()
  }

  /** Brings the listener up to date soon. */
  pump(): void {
    if (this.#scheduled || this.#closed) return
    this.#scheduled = true
    void this.#run()
  }

  async close(): Promise<void> {
    this.#closed = true
    this.#unobserve()
    this.#options.ended()
  }

  async #run(): Promise<void> {
    const delay = this.#options.delayMs()
    if (delay > 0) await this.#clock.sleep(delay)
    else await Promise.resolve()
    this.#scheduled = false
    if (this.#closed) return
    const failure = this.#options.failure()
    this.#tellConnection(failure)
    if (failure === null) this.#advance()
  }

  #tellConnection(failure: string | null): void {
    const connected = failure === null
    if (this.#told && this.#connected === connected) return
    this.#told = true
    this.#connected = connected
    this.#listener({ type: 'connection', connected, reason: failure })
  }

  #advance(): void {
    const { prefix } = this.#options
    const { epoch, revision } = this.#cluster
    const since =
      this.#position === null
        ? null
        : this.#cluster.since(prefix, this.#position.revision, this.#position.epoch)
    this.#position = { epoch, revision }
    this.#behind = false
    if (since === null || !since.resumable)
      this.#listener({ type: 'snapshot', entries: this.#cluster.list(prefix), revision })
    else if (since.events.length > 0)
      this.#listener({ type: 'events', events: since.events, revision: since.revision })
  }
}
