/**
 * The embedded store's one state: in memory, behind a durable log. Commits that come while others are being
 * written go out together in the next frame.
 *
 * Invariant: nothing is read or watched that is not on disk. So comparisons are made twice: against what will
 * stand once the commits before have been written, and by `MemoryCluster` when they have.
 */
import { messageOf, type TwillError } from '../../lib/errors.ts'
import { faultPoint } from '../../lib/fault.ts'
import type { Log } from '../../lib/log.ts'
import { MemoryCluster } from '../memory/cluster.ts'
import type { Commit, CommitOutcome } from '../store.ts'
import type { Change } from './frames.ts'
import { EmbeddedLog, type LogModules } from './log.ts'

export interface DatabaseOptions {
  /** Of the log; its folder exists and is locked by the caller. */
  readonly path: string
  /** The log is written anew when it is this long, and four times as long as after the last time. Default 1 MiB. */
  readonly compactBytes?: number
}

interface Pending {
  readonly commit: Commit
  /** UID that the record `cluster` must bear; null: any. */
  readonly expectedCluster: string | null
  readonly resolve: (outcome: CommitOutcome) => void
  readonly reject: (error: TwillError) => void
}

/** Events kept for watches that are behind; one further behind is told the whole state. */
const HISTORY_EVENTS = 1_000

export class EmbeddedDatabase {
  readonly state: MemoryCluster
  readonly #log: EmbeddedLog
  readonly #logger: Log
  readonly #compactBytes: number
  #pending: Pending[] = []
  #writing: Promise<void> | null = null
  #compactAt: number
  #failure: TwillError | null = null

  private constructor(log: EmbeddedLog, state: MemoryCluster, compactBytes: number, logger: Log) {
    this.#log = log
    this.state = state
    this.#compactBytes = compactBytes
    this.#compactAt = compactBytes
    this.#logger = logger
  }

  /** @throws store.damaged; store.unavailable */
  static async open(options: DatabaseOptions, modules: LogModules): Promise<EmbeddedDatabase> {
    const { log, state } = await EmbeddedLog.open(options.path, modules)
    const cluster = new MemoryCluster()
    cluster.restore(state)
    return new EmbeddedDatabase(log, cluster, options.compactBytes ?? 1024 * 1024, modules.log)
  }

  /** Why the last commit could not be written; null: it could. */
  get failure(): TwillError | null {
    return this.#failure
  }

  /** @throws store.unavailable, store.in-doubt, store.foreign-cluster */
  commit(commit: Commit, expectedCluster: string | null): Promise<CommitOutcome> {
    return new Promise((resolve, reject) => {
      this.#pending.push({ commit, expectedCluster, resolve, reject })
      this.#writing ??= this.#drain()
    })
  }

  /** After all commits so far. */
  async close(): Promise<void> {
    await this.#writing
    await this.#log.close()
  }

  async #drain(): Promise<void> {
    // Whoever commits in the same turn is in the first frame already.
    await Promise.resolve()
    while (this.#pending.length > 0) {
      const batch = this.#pending
      this.#pending = []
      await this.#write(batch)
      await this.#compactWhenLong()
    }
    this.#writing = null
  }

  async #write(batch: readonly Pending[]): Promise<void> {
    const accepted = batch.filter(pending => this.#isOurs(pending))
    try {
      const changes = plan(this.state, accepted)
      if (changes.length > 0) await this.#append(changes)
    } catch (error) {
      await this.#failed(accepted, error as TwillError)
      return
    }
    for (const { commit, resolve } of accepted) resolve(this.state.commit(commit))
    this.state.compact(HISTORY_EVENTS)
    faultPoint('store.applied')
  }

  #isOurs({ expectedCluster, reject }: Pending): boolean {
    const foreign = this.state.foreignTo(expectedCluster)
    if (foreign !== null) reject(foreign)
    return foreign === null
  }

  async #append(changes: readonly Change[]): Promise<void> {
    if (!this.#log.sound) await this.#log.rewrite(this.state.snapshot())
    await this.#log.append(this.state.revision + 1, changes)
    this.#failure = null
  }

  /** Where many do not fit on a full disk, a deletion alone may. */
  async #failed(batch: readonly Pending[], error: TwillError): Promise<void> {
    if (batch.length > 1 && error.code === 'store.unavailable') {
      for (const pending of batch) await this.#write([pending])
      return
    }
    if (this.#failure === null)
      this.#logger.error({ err: messageOf(error) }, 'the datastore cannot be written')
    this.#failure = error
    for (const { reject } of batch) reject(error)
  }

  async #compactWhenLong(): Promise<void> {
    if (this.#log.length < this.#compactAt) return
    try {
      await this.#log.rewrite(this.state.snapshot())
    } catch (error) {
      this.#logger.warn({ err: messageOf(error) }, 'the datastore could not be compacted; its log goes on')
    }
    this.#compactAt = Math.max(this.#compactBytes, 4 * this.#log.length)
  }
}

/** What these commits change, each compared with what those before it will have left. */
function plan(state: MemoryCluster, batch: readonly Pending[]): Change[] {
  const next = new Map<string, number>()
  const changes: Change[] = []
  for (const { commit } of batch) {
    const { key, expected, value } = commit
    const current = next.get(key) ?? state.get(key)?.modRevision ?? 0
    if (current !== expected || (value === null && current === 0)) continue
    changes.push({ key, value })
    next.set(key, value === null ? 0 : state.revision + changes.length)
  }
  return changes
}
