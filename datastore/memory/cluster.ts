/**
 * The state behind one or more in-memory stores: keys, revisions, history. Every node of a simulation opens a
 * MemoryStore on the same cluster; the embedded store keeps one behind its log.
 *
 * Invariant: as in etcd, each change raises the revision by one, and history reaches back to the last
 * compaction only.
 */
import { TwillError } from '../../lib/errors.ts'
import { CLUSTER_KEY } from '../keys.ts'
import type { Commit, CommitOutcome, KeyValue, StoreEvent } from '../store.ts'

export interface MemorySnapshot {
  readonly revision: number
  readonly entries: ReadonlyMap<string, KeyValue>
}

export type Since =
  | { readonly resumable: true; readonly events: StoreEvent[]; readonly revision: number }
  /** Compacted, or another epoch: only a fresh list tells the state. */
  | { readonly resumable: false }

export class MemoryCluster {
  #entries = new Map<string, KeyValue>()
  #history: StoreEvent[] = []
  #revision = 1
  #compacted = 1
  #epoch = 0
  readonly #observers = new Set<() => void>()

  get revision(): number {
    return this.#revision
  }

  /** Raised by every `restore`. */
  get epoch(): number {
    return this.#epoch
  }

  get(key: string): KeyValue | null {
    return this.#entries.get(key) ?? null
  }

  list(prefix: string): KeyValue[] {
    return [...this.#entries.values()]
      .filter(entry => entry.key.startsWith(prefix))
      .sort((a, b) => Buffer.compare(Buffer.from(a.key), Buffer.from(b.key)))
  }

  commit({ key, expected, value }: Commit): CommitOutcome {
    const current = this.get(key)
    if ((current?.modRevision ?? 0) !== expected)
      return { committed: false, current, revision: this.#revision }
    // Deleting what is not there changes nothing, in etcd too.
    if (value !== null || current !== null) this.#change(key, value)
    return { committed: true, revision: this.#revision }
  }

  #change(key: string, value: string | null): void {
    const modRevision = ++this.#revision
    if (value === null) this.#entries.delete(key)
    else this.#entries.set(key, { key, value, modRevision })
    this.#history.push({ key, value, modRevision })
    this.#notify()
  }

  /** Changes under the prefix after `revision`, seen in `epoch`. */
  since(prefix: string, revision: number, epoch: number): Since {
    if (epoch !== this.#epoch || revision < this.#compacted) return { resumable: false }
    const events = this.#history.filter(event => event.modRevision > revision && event.key.startsWith(prefix))
    return { resumable: true, events, revision: this.#revision }
  }

  /** Forgets the history up to now, but for the last `keep` events (at times twice as many). */
  compact(keep = 0): void {
    if (keep > 0 && this.#history.length <= 2 * keep) return
    const forgotten = this.#history.length - keep
    this.#compacted = this.#history[forgotten - 1]?.modRevision ?? this.#compacted
    this.#history = this.#history.slice(forgotten)
  }

  /** Why this is not the cluster with that UID; null: it is, or any will do. */
  foreignTo(expected: string | null): TwillError | null {
    if (expected === null) return null
    const found = this.get(CLUSTER_KEY)?.value ?? 'no cluster record'
    if (found === JSON.stringify({ v: 1, uid: expected })) return null
    const message = `this node belongs to cluster ${expected}; the store has ${found}`
    return new TwillError('store.foreign-cluster', message, { expected, found }, { retryable: true })
  }

  snapshot(): MemorySnapshot {
    return { revision: this.#revision, entries: new Map(this.#entries) }
  }

  /** Goes back to an older state and its revision, as an operator who restores a backup does. */
  restore(snapshot: MemorySnapshot): void {
    this.#entries = new Map(snapshot.entries)
    this.#revision = snapshot.revision
    this.#epoch++
    this.#history = []
    this.#compacted = this.#revision
    this.#notify()
  }

  /** Calls back after every change. Returns the end of it. */
  observe(callback: () => void): () => void {
    this.#observers.add(callback)
    return () => this.#observers.delete(callback)
  }

  #notify(): void {
    for (const observer of this.#observers) observer()
  }
}
