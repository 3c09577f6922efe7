/**
 * A Store that notices when the one behind it goes back to an older state (ADDRESSES.md rule 16), before whoever asked
 * sees the answer. Every read is linearisable, so an answer may not bear a lower revision than one that was known
 * before its request was sent; a watch's messages may lag behind answers, but never behind their own like. Nobody
 * restores a store without its connections breaking: when a watch begins anew, one read tells.
 */
import { CLUSTER_KEY, PREFIX } from './keys.ts'
import type { Commit, CommitOutcome, KeyValue, Store, StoreStatus, Watch, WatchMessage } from './store.ts'

export interface RevisionsOptions {
  /** Highest revision known from an earlier life; 0: none. */
  readonly seen: number
  /** The store was at revision `from` and is at `to`. From then on `to` counts. */
  readonly onWentBack: (from: number, to: number) => void
}

/** In a Kubernetes cluster what operators say has revisions of its own. */
const isElsewhere = (key: string): boolean => key.startsWith(PREFIX.resources)

export class RevisionedStore implements Store {
  readonly #store: Store
  readonly #onWentBack: RevisionsOptions['onWentBack']
  #seen: number
  /** Raised by each going back: answers to requests of before it say nothing. */
  #age = 0
  #looking = false

  constructor(options: RevisionsOptions, modules: { readonly store: Store }) {
    this.#store = modules.store
    this.#seen = options.seen
    this.#onWentBack = options.onWentBack
  }

  get(key: string): Promise<{ entry: KeyValue | null; revision: number }> {
    return this.#judged(key, () => this.#store.get(key))
  }

  list(prefix: string): Promise<{ entries: KeyValue[]; revision: number }> {
    return this.#judged(prefix, () => this.#store.list(prefix))
  }

  commit(commit: Commit): Promise<CommitOutcome> {
    return this.#judged(commit.key, () => this.#store.commit(commit))
  }

  watch(prefix: string, listener: (message: WatchMessage) => void): Watch {
    if (isElsewhere(prefix)) return this.#store.watch(prefix, listener)
    let last = { revision: 0, age: this.#age }
    return this.#store.watch(prefix, message => {
      if (message.type !== 'connection') {
        this.#judge(message.revision, last)
        last = { revision: message.revision, age: this.#age }
      }
      if (message.type === 'snapshot' || (message.type === 'connection' && message.connected)) this.#look()
      listener(message)
    })
  }

  #look(): void {
    if (this.#looking || this.#seen === 0) return
    this.#looking = true
    // Who cannot be asked will be, by whoever needs him.
    this.get(CLUSTER_KEY)
      .catch(() => undefined)
      .finally(() => {
        this.#looking = false
      })
  }

  expectCluster(uid: string): void {
    this.#store.expectCluster(uid)
  }

  /** `lastRevision` is that of the state that counts now. */
  status(): StoreStatus {
    return { ...this.#store.status(), lastRevision: this.#seen }
  }

  close(): Promise<void> {
    return this.#store.close()
  }

  async #judged<T extends { readonly revision: number }>(key: string, ask: () => Promise<T>): Promise<T> {
    if (isElsewhere(key)) return ask()
    const sent = { revision: this.#seen, age: this.#age }
    const answer = await ask()
    this.#judge(answer.revision, sent)
    return answer
  }

  #judge(revision: number, before: { readonly revision: number; readonly age: number }): void {
    if (before.age !== this.#age) return
    if (revision >= before.revision) {
      this.#seen = Math.max(this.#seen, revision)
      return
    }
    this.#age++
    this.#seen = revision
    this.#onWentBack(before.revision, revision)
  }
}
