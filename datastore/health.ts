/** What `status()` tells, gathered from every answer and failure. */
import type { Clock } from '../lib/clock.ts'
import { messageOf } from '../lib/errors.ts'
import type { StoreStatus } from './store.ts'

export class Health {
  commits = 0
  #connected = false
  #reason: string | null = 'not connected yet'
  #lastRevision = 0
  #lastAnswerMs: number | null = null
  readonly #clock: Pick<Clock, 'realtimeMs'>

  constructor(clock: Pick<Clock, 'realtimeMs'>) {
    this.#clock = clock
  }

  get lastRevision(): number {
    return this.#lastRevision
  }

  /** @param asked `lastRevision` when it was asked for: an answer that is older is that of a store which went back */
  answered(revision: number, asked = 0): void {
    this.#connected = true
    this.#lastAnswerMs = this.#clock.realtimeMs()
    this.#reason = null
    this.#lastRevision = revision < asked ? revision : Math.max(this.#lastRevision, revision)
  }

  lost(error: unknown): void {
    this.#connected = false
    this.#reason = messageOf(error)
  }

  status(): StoreStatus {
    return {
      connected: this.#connected,
      reason: this.#reason,
      commits: this.commits,
      lastRevision: this.#lastRevision,
      lastAnswerMs: this.#lastAnswerMs,
    }
  }
}
