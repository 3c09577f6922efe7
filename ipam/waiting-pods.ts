/**
 * How many pods of this node wait for an address of a pool. So many of what is free are theirs: a piece that was asked for
 * on their behalf must not be given to the next node that asks before they have taken from it. Else nodes in need take
 * it from one another for ever, and none has it.
 */
export class WaitingPods {
  readonly #counts = new Map<string, number>()
  readonly #kept = new Set<string>()
  readonly #onEnd: () => void

  /** `onEnd`: what was kept may be another node's now. */
  constructor(options: { readonly onEnd: () => void }) {
    this.#onEnd = options.onEnd
  }

  of(poolUid: string): number {
    return this.#counts.get(poolUid) ?? 0
  }

  /** Another node was not answered because of those that wait. */
  keep(poolUid: string): void {
    this.#kept.add(poolUid)
  }

  /** One more for as long as `work` lasts, in each of these pools. */
  async during<T>(poolUids: readonly string[], work: () => Promise<T>): Promise<T> {
    for (const uid of poolUids) this.#counts.set(uid, this.of(uid) + 1)
    try {
      return await work()
    } finally {
      for (const uid of poolUids)
        if (this.of(uid) === 1) this.#counts.delete(uid)
        else this.#counts.set(uid, this.of(uid) - 1)
      const kept = poolUids.filter(uid => this.#kept.delete(uid))
      if (kept.length > 0) this.#onEnd()
    }
  }
}
