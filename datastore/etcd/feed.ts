/** Items pushed by callbacks, taken one at a time and in order by an async loop. One taker. */
export class Feed<T> {
  readonly #items: T[] = []
  #error: unknown = null
  #failed = false
  #wake: (() => void) | null = null

  push(item: T): void {
    this.#items.push(item)
    this.#wake?.()
  }

  /** Ends the feed: what was pushed before is no longer given. */
  fail(error: unknown): void {
    if (this.#failed) return
    this.#failed = true
    this.#error = error
    this.#wake?.()
  }

  /** Rejects with what `fail` was given. */
  async next(): Promise<T> {
    while (this.#items.length === 0 && !this.#failed) {
      await new Promise<void>(resolve => {
        this.#wake = resolve
      })
      this.#wake = null
    }
    if (this.#failed) throw this.#error
    return this.#items.shift() as T
  }
}
