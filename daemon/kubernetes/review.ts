/**
 * Something that this node lacks at the API server: looked at from the start on until nothing is missing, told in one
 * message, and again when it is something else. It keeps nothing from going on.
 */
import { Backoff } from '../../lib/backoff.ts'
import type { Clock, Random } from '../../lib/clock.ts'
import { messageOf } from '../../lib/errors.ts'
import type { Log } from '../../lib/log.ts'

/** Somebody mends it by hand. */
const AGAIN_MS = 30_000

export interface ReviewOptions {
  /** What is missing; [] nothing. @throws whatever keeps it from being known */
  readonly look: () => Promise<readonly string[]>
  readonly message: (missing: readonly string[]) => string
  /** Said once nothing is missing any more. */
  readonly mended: string
}

export interface ReviewModules {
  readonly clock: Clock
  readonly random: Random
  readonly log: Log
}

export class Review {
  readonly #options: ReviewOptions
  readonly #modules: ReviewModules
  readonly #backoff: Backoff
  readonly #closing = new AbortController()
  #missing: readonly string[] = []

  constructor(options: ReviewOptions, modules: ReviewModules) {
    this.#options = options
    this.#modules = modules
    this.#backoff = new Backoff(modules)
    this.#run()
  }

  /** [] also while it is not known yet. */
  get missing(): readonly string[] {
    return this.#missing
  }

  stop(): void {
    this.#closing.abort()
  }

  async #run(): Promise<void> {
    for (;;) {
      const pauseMs = await this.#review()
      if (pauseMs === null || this.#closing.signal.aborted) return
      await this.#modules.clock.sleep(pauseMs, this.#closing.signal)
    }
  }

  /** @returns how long until the next; null: nothing is missing */
  async #review(): Promise<number | null> {
    const { look, message, mended } = this.#options
    const { log, random } = this.#modules
    const before = this.#missing
    try {
      this.#missing = await look()
    } catch (error) {
      // Why it does not answer is told by those who follow its objects.
      log.debug({ error: messageOf(error) }, 'what is missing could not be looked at yet')
      return this.#backoff.next(error)
    }
    this.#backoff.reset()
    if (this.#missing.length === 0) {
      if (before.length > 0) log.info({}, mended)
      return null
    }
    if (this.#missing.join() !== before.join()) log.error({ missing: this.#missing }, message(this.#missing))
    return AGAIN_MS * (0.5 + random.fraction() / 2)
  }
}
