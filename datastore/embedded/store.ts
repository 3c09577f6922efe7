/** The Store of one node, embedded in its daemon: one client of an EmbeddedDatabase. */
import type { Clock } from '../../lib/clock.ts'
import { TwillError } from '../../lib/errors.ts'
import { MemoryWatch } from '../memory/watch.ts'
import type { Commit, CommitOutcome, KeyValue, Store, StoreStatus, Watch, WatchMessage } from '../store.ts'
import type { EmbeddedDatabase } from './database.ts'

export class EmbeddedStore implements Store {
  readonly #database: EmbeddedDatabase
  readonly #clock: Clock
  readonly #watches = new Set<MemoryWatch>()
  #expectedCluster: string | null = null
  #commits = 0
  #lastRevision = 0
  #lastAnswerMs: number | null = null
  #closed = false

  constructor(modules: { database: EmbeddedDatabase; clock: Clock }) {
    this.#database = modules.database
    this.#clock = modules.clock
  }

  async get(key: string): Promise<{ entry: KeyValue | null; revision: number }> {
    const { state } = this.#checked()
    return { entry: state.get(key), revision: this.#saw(state.revision) }
  }

  async list(prefix: string): Promise<{ entries: KeyValue[]; revision: number }> {
    const { state } = this.#checked()
    return { entries: state.list(prefix), revision: this.#saw(state.revision) }
  }

  async commit(commit: Commit): Promise<CommitOutcome> {
    const database = this.#checked()
    this.#commits++
    const outcome = await database.commit(commit, this.#expectedCluster)
    this.#saw(outcome.revision)
    return outcome
  }

  watch(prefix: string, listener: (message: WatchMessage) => void): Watch {
    this.#checkOpen()
    const watch = new MemoryWatch(
      {
        prefix,
        delayMs: () => 0,
        failure: () => this.#foreign()?.message ?? null,
        ended: () => this.#watches.delete(watch),
      },
      { cluster: this.#database.state, clock: this.#clock },
      message => {
        if (message.type !== 'connection') this.#saw(message.revision)
        listener(message)
      },
    )
    this.#watches.add(watch)
    return watch
  }

  expectCluster(uid: string): void {
    this.#expectedCluster = uid
    for (const watch of this.#watches) watch.pump()
  }

  /** Not connected: the last commit could not be written, or the log is of another cluster. */
  status(): StoreStatus {
    const failure = this.#database.failure ?? this.#foreign()
    return {
      connected: failure === null && !this.#closed,
      reason: this.#closed ? 'closed' : (failure?.message ?? null),
      commits: this.#commits,
      lastRevision: this.#lastRevision,
      lastAnswerMs: this.#lastAnswerMs,
    }
  }

  async close(): Promise<void> {
    this.#closed = true
    await Promise.all([...this.#watches].map(watch => watch.close()))
  }

  #checked(): EmbeddedDatabase {
    this.#checkOpen()
    const foreign = this.#foreign()
    if (foreign !== null) throw foreign
    return this.#database
  }

  #checkOpen(): void {
    if (this.#closed) throw new TwillError('store.unavailable', 'the store is closed')
  }

  #foreign(): TwillError | null {
    return this.#database.state.foreignTo(this.#expectedCluster)
  }

  #saw(revision: number): number {
    this.#lastRevision = Math.max(this.#lastRevision, revision)
    this.#lastAnswerMs = this.#clock.realtimeMs()
    return revision
  }
}
