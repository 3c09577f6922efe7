/**
 * The Store in memory, for tests and simulations: the same contract as etcd, with switches for everything that
 * a network and a server can do to a client. One MemoryStore is one node's connection; faults are its own.
 *
 * Trap: with a manual clock and `delayMs`, nothing is answered until that clock moves.
 */
import type { Clock } from '../../lib/clock.ts'
import { TwillError } from '../../lib/errors.ts'
import type { Commit, CommitOutcome, KeyValue, Store, StoreStatus, Watch, WatchMessage } from '../store.ts'
import type { MemoryCluster } from './cluster.ts'
import { MemoryWatch } from './watch.ts'

/**
 * landed: takes effect, the answer is lost. lost: never takes effect. late: takes effect, if it still matches,
 * when the test calls `landLate`.
 */
export type Doubt = 'landed' | 'lost' | 'late'

export interface MemoryStoreOptions {
  /** How long every call and every watch message takes. Default 0: the next microtask. */
  readonly delayMs?: number
}

export class MemoryStore implements Store {
  readonly #cluster: MemoryCluster
  readonly #clock: Clock
  readonly #watches = new Set<MemoryWatch>()
  readonly #doubts: { doubt: Doubt; key: string | null }[] = []
  readonly #late: { readonly commit: Commit; readonly epoch: number }[] = []
  #delayMs: number
  #failure: TwillError | null = null
  #expectedCluster: string | null = null
  #commits = 0
  #lastRevision = 0
  #lastAnswerMs: number | null = null
  #closed = false

  constructor(options: MemoryStoreOptions, modules: { cluster: MemoryCluster; clock: Clock }) {
    this.#delayMs = options.delayMs ?? 0
    this.#cluster = modules.cluster
    this.#clock = modules.clock
  }

  async get(key: string): Promise<{ entry: KeyValue | null; revision: number }> {
    await this.#reach()
    return { entry: this.#cluster.get(key), revision: this.#saw(this.#cluster.revision) }
  }

  async list(prefix: string): Promise<{ entries: KeyValue[]; revision: number }> {
    await this.#reach()
    return { entries: this.#cluster.list(prefix), revision: this.#saw(this.#cluster.revision) }
  }

  async commit(commit: Commit): Promise<CommitOutcome> {
    await this.#reach()
    this.#commits++
    const index = this.#doubts.findIndex(({ key }) => key === null || key === commit.key)
    const doubt = index < 0 ? undefined : this.#doubts.splice(index, 1)[0]?.doubt
    if (doubt === 'late') this.#late.push({ commit, epoch: this.#cluster.epoch })
    const outcome = doubt === 'late' || doubt === 'lost' ? null : this.#cluster.commit(commit)
    if (outcome === null || doubt === 'landed')
      throw new TwillError(
        'store.in-doubt',
        `commit of ${commit.key}: no answer came`,
        { key: commit.key },
        { retryable: true },
      )
    this.#saw(outcome.revision)
    return outcome
  }

  watch(prefix: string, listener: (message: WatchMessage) => void): Watch {
    const watch = new MemoryWatch(
      {
        prefix,
        delayMs: () => this.#delayMs,
        failure: () => this.#failed()?.message ?? null,
        ended: () => this.#watches.delete(watch),
      },
      { cluster: this.#cluster, clock: this.#clock },
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
  }

  status(): StoreStatus {
    const failure = this.#failed()
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

  /** The next commit (of this key, or of any) is in doubt. Calls add up. */
  doubtNext(doubt: Doubt, key: string | null = null): void {
    this.#doubts.push({ doubt, key })
  }

  /** What `doubtNext` has left over happens no more. */
  clearDoubts(): void {
    this.#doubts.length = 0
  }

  /**
   * Commits that were sent, given up on and still under way now arrive. Returns what became of each. None comes from
   * before a restore, which breaks every connection.
   */
  landLate(): CommitOutcome[] {
    const { epoch } = this.#cluster
    const arriving = this.#late.splice(0).filter(late => late.epoch === epoch)
    return arriving.map(({ commit }) => this.#cluster.commit(commit))
  }

  /** Cut off, watches included, until called with false. Watches then go on where they were. */
  setUnavailable(unavailable: boolean): void {
    this.failWith(
      unavailable
        ? new TwillError('store.unavailable', 'the store is switched off', {}, { retryable: true })
        : null,
    )
  }

  /** Every call rejects with this error, until null. */
  failWith(error: TwillError | null): void {
    this.#failure = error
    for (const watch of this.#watches) watch.pump()
  }

  setDelay(ms: number): void {
    this.#delayMs = ms
  }

  async #reach(): Promise<void> {
    if (this.#delayMs > 0) await this.#clock.sleep(this.#delayMs)
    else await Promise.resolve()
    if (this.#closed)
      throw new TwillError('store.unavailable', 'the store is closed', {}, { retryable: false })
    const failure = this.#failed()
    if (failure !== null) throw failure
  }

  #failed(): TwillError | null {
    return this.#failure ?? this.#cluster.foreignTo(this.#expectedCluster)
  }

  #saw(revision: number): number {
    this.#lastRevision = Math.max(this.#lastRevision, revision)
    this.#lastAnswerMs = this.#clock.realtimeMs()
    return revision
  }
}
