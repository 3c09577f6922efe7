/** A store is open until it is closed, and its watches with it. */
import { TwillError } from '../lib/errors.ts'
import type { StoreStatus, Watch } from './store.ts'

export class OpenWatches {
  readonly #watches = new Set<Watch>()
  #isClosed = false

  /** @throws store.unavailable: the store is closed */
  check(): void {
    if (this.#isClosed) throw new TwillError('store.unavailable', 'the store is closed')
  }

  /** @returns the watch for whoever asked: one that he closes is not kept */
  add(watch: Watch): Watch {
    this.#watches.add(watch)
    return {
      close: async () => {
        this.#watches.delete(watch)
        await watch.close()
      },
    }
  }

  async close(): Promise<void> {
    this.#isClosed = true
    const watches = [...this.#watches]
    this.#watches.clear()
    await Promise.all(watches.map(watch => watch.close()))
  }

  /** Of the store. */
  status(status: StoreStatus): StoreStatus {
    return this.#isClosed ? { ...status, connected: false, reason: 'closed' } : status
  }
}
