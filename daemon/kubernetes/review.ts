/**
 * Something that this node lacks at the API server: looked at from the start on until nothing is missing, and anew when
 * something was refused; told in one message, and again when it is something else. It keeps nothing from going on.
 */
import { Backoff } from '../../lib/backoff.ts'
import type { Clock, Random } from '../../lib/clock.ts'
import { messageOf } from '../../lib/errors.ts'
import type { Log } from '../../lib/log.ts'

/** Somebody mends it by hand. */
const AGAIN_MS = 30_000
/** Thousands of nodes are refused something at the same moment. */
const SOON_MS = 2_000
/** What is refused for another reason than this one goes on being refused. */
const IN_VAIN_MS = 300_000

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
  #isLooking = false
  #notBeforeMs = 0

  constructor(options: ReviewOptions, modules: ReviewModules) {
    this.#options = options
    this.#modules = modules
    this.#backoff = new Backoff(modules)
    this.#run(0)
  }

  /** [] also while it is not known yet. */
  get missing(): readonly string[] {
    return this.#missing
  }

  /** Something was refused to this node, perhaps because it lacks this now. */
  lookAnew(): void {
    const { clock, random } = this.#modules
    if (this.#isLooking || clock.boottimeMs() < this.#notBeforeMs) return
    this.#notBeforeMs = clock.boottimeMs() + IN_VAIN_MS
    this.#run(SOON_MS * random.fraction())
  }

  stop(): void {
    this.#closing.abort()
  }

  async #run(delayMs: number): Promise<void> {
    this.#isLooking = true
    const { signal } = this.#closing
    for (let pauseMs: number | null = delayMs; pauseMs !== null; pauseMs = await this.#review()) {
      if (pauseMs > 0) await this.#modules.clock.sleep(pauseMs, signal)
      if (signal.aborted) return
    }
    this.#isLooking = false
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
    this.#notBeforeMs = 0
    if (this.#missing.join() !== before.join()) log.error({ missing: this.#missing }, message(this.#missing))
    return AGAIN_MS * (0.5 + random.fraction() / 2)
  }
}
