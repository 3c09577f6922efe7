/**
 * The datastore: get, list, single-key compare-and-swap, watch. Three implementations behind one contract suite
 * (test/contract/store). Nothing in Twill relies on more than this.
 *
 * Keys are UTF-8 paths without a leading slash ('slots/<uid>/<cidr>'); the implementation puts its prefix in
 * front. Values are JSON text. A revision is a decimal number, totally ordered, raised by every change.
 */
export interface KeyValue {
  readonly key: string
  readonly value: string
  /** Revision of the last change of this key; 0 is never one. */
  readonly modRevision: number
}

export interface Commit {
  readonly key: string
  /** modRevision that the key must have; 0: must not exist. */
  readonly expected: number
  /** null deletes. */
  readonly value: string | null
}

export type CommitOutcome =
  | { readonly committed: true; readonly revision: number }
  /** `current` is what was there instead, read in the same transaction; null: nothing. */
  | { readonly committed: false; readonly current: KeyValue | null; readonly revision: number }

export interface StoreEvent {
  readonly key: string
  /** null: deleted. */
  readonly value: string | null
  readonly modRevision: number
}

export type WatchMessage =
  /** The exact state under the prefix at `revision`: the first message, and again after compaction or restore. */
  | { readonly type: 'snapshot'; readonly entries: readonly KeyValue[]; readonly revision: number }
  /** Changes after the last message, each exactly once, in order of revision. */
  | { readonly type: 'events'; readonly events: readonly StoreEvent[]; readonly revision: number }
  /** Connection lost or found again; the sequence of the other messages is not affected. */
  | { readonly type: 'connection'; readonly connected: boolean; readonly reason: string | null }

export interface Watch {
  close(): Promise<void>
}

export interface StoreStatus {
  readonly connected: boolean
  /** Why not, or null. */
  readonly reason: string | null
  /** Commits sent since start, for metrics and the bench. */
  readonly commits: number
  /** Highest revision any answer or watch message bore; 0: none yet. A lower one later: an older snapshot was
   * restored (ADDRESSES.md rule 16). */
  readonly lastRevision: number
  /** When the last answer or watch message came, since 1970; null: none yet. */
  readonly lastAnswerMs: number | null
}

/**
 * Every call may reject with
 *   store.unavailable (retryable): nothing was changed;
 *   store.in-doubt (retryable): a commit was sent and its outcome is not known. It may still take effect later.
 *     Settled only by a further *successful* commit of the same key, never by a read (ADDRESSES.md rule 4).
 *   store.foreign-cluster: the store answers, but is not the cluster this one was bound to.
 */
export interface Store {
  /** Linearisable. */
  get(key: string): Promise<{ entry: KeyValue | null; revision: number }>
  /** Linearisable, all at one revision, whatever the size. Sorted by key. */
  list(prefix: string): Promise<{ entries: KeyValue[]; revision: number }>
  commit(commit: Commit): Promise<CommitOutcome>
  watch(prefix: string, listener: (message: WatchMessage) => void): Watch
  /**
   * From now on every call rejects with store.foreign-cluster and watches are silent, unless the store's record
   * `cluster` bears this UID. Checked within each call, so that nothing is ever written to another cluster.
   */
  expectCluster(uid: string): void
  status(): StoreStatus
  close(): Promise<void>
}
