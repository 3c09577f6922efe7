/**
 * The state behind one or more in-memory stores: keys, revisions, history. Every node of a simulation opens a
 * MemoryStore on the same cluster; the embedded store keeps one behind its log.
 *
 * Invariant: as in etcd, each change raises the revision by one, and history reaches back to the last
 * compaction only.
 */
import { TwillError } from '../../lib/errors.ts'
import { CLUSTER_KEY, compareAsBytes } from '../keys.ts'
import type { Commit, CommitOutcome, KeyValue, StoreEvent } from '../store.ts'

export interface MemorySnapshot {
  readonly revision: number
  readonly entries: ReadonlyMap<string, KeyValue>
}

export type Since =
  | { readonly resumable: true; readonly events: StoreEvent[]; readonly revision: number }
  /** Compacted, or another epoch: only a fresh list tells the state. */
  | { readonly resumable: false }

/** Told of a change, with its revision; null: anything may have changed. */
type Observer = (modRevision: number | null) => void

export class MemoryCluster {
  #entries = new Map<string, KeyValue>()
  #history: StoreEvent[] = []
  #revision = 1
  #compacted = 1
  #epoch = 0
  /** By prefix: thousands of watches of other prefixes are not asked about a change. */
  readonly #observers = new Map<string, Set<Observer>>()
  /** Of all entries; null: nobody has listed any yet. */
  #sortedKeys: string[] | null = null
  /** Watches of one prefix that are equally far share the answer, until the next change. */
  readonly #answers = new Map<string, StoreEvent[]>()

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
    this.#sortedKeys ??= sortedAsBytes([...this.#entries.keys()])
    const keys = this.#sortedKeys
    const found: KeyValue[] = []
    for (let i = firstAtLeast(keys, prefix); keys[i]?.startsWith(prefix); i++)
      found.push(this.#entries.get(keys[i] as string) as KeyValue)
    return found
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
    if (value === null || !this.#entries.has(key)) this.#sort(key, value !== null)
    if (value === null) this.#entries.delete(key)
    else this.#entries.set(key, { key, value, modRevision })
    this.#history.push({ key, value, modRevision })
    this.#answers.clear()
    this.#notify(key, modRevision)
  }

  /** A key comes or goes. */
  #sort(key: string, comes: boolean): void {
    const keys = this.#sortedKeys
    if (keys === null) return
    const place = firstAtLeast(keys, key)
    if (comes) keys.splice(place, 0, key)
    else keys.splice(place, 1)
  }

  /** Changes under the prefix after `revision`, seen in `epoch`. */
  since(prefix: string, revision: number, epoch: number): Since {
    if (epoch !== this.#epoch || revision < this.#compacted) return { resumable: false }
    const question = `${revision} ${prefix}`
    const events = this.#answers.get(question) ?? this.#eventsSince(prefix, revision)
    this.#answers.set(question, events)
    return { resumable: true, events, revision: this.#revision }
  }

  #eventsSince(prefix: string, revision: number): StoreEvent[] {
    // Each change raises the revision by one: the last so many events are those after it.
    const count = Math.min(this.#history.length, this.#revision - revision)
    const later = count <= 0 ? [] : this.#history.slice(-count)
    return later.filter(event => event.key.startsWith(prefix))
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
    this.#sortedKeys = null
    this.#answers.clear()
    this.#notifyAll()
  }

  /** Calls back after every change under the prefix. Returns the end of it. */
  observe(callback: Observer, prefix = ''): () => void {
    const observers = this.#observers.get(prefix) ?? new Set()
    this.#observers.set(prefix, observers.add(callback))
    return () => {
      observers.delete(callback)
      if (observers.size === 0 && this.#observers.get(prefix) === observers) this.#observers.delete(prefix)
    }
  }

  #notify(key: string, modRevision: number): void {
    // Which cluster this is concerns everybody.
    if (key === CLUSTER_KEY) this.#notifyAll()
    else
      for (let length = 0; length <= key.length; length++)
        for (const observer of this.#observers.get(key.slice(0, length)) ?? []) observer(modRevision)
  }

  #notifyAll(): void {
    for (const observers of this.#observers.values()) for (const observer of observers) observer(null)
  }
}

/** By their UTF-8 bytes, as etcd has them. */
function sortedAsBytes(keys: string[]): string[] {
  return keys.sort((a, b) => compareAsBytes(a, b))
}

function firstAtLeast(keys: readonly string[], wanted: string): number {
  let [low, high] = [0, keys.length]
  while (low < high) {
    const middle = (low + high) >> 1
    if (compareAsBytes(keys[middle] as string, wanted) < 0) low = middle + 1
    else high = middle
  }
  return low
}
