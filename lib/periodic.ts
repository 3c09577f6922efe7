/** Work that is done again and again, a pause before each round and one round at a time, until it is stopped. */
import type { Clock, Random, Timer } from './clock.ts'

export interface PeriodicOptions {
  /** Before each round, the first too. */
  readonly everyMs: number
}

export interface PeriodicModules {
  readonly clock: Pick<Clock, 'setTimer'>
  /** By it pauses are up to half longer: not every daemon works at the same moment. Default: they are not. */
  readonly random?: Pick<Random, 'fraction'>
  /** `stop` aborts the signal, and waits for the round's end. */
  readonly work: (signal: AbortSignal) => Promise<void>
  /** A round failed, and not because of the stop; the next one comes all the same. */
  readonly failed: (error: unknown) => void
}

export class Periodic {
  readonly #options: PeriodicOptions
  readonly #modules: PeriodicModules
  readonly #stopping = new AbortController()
  #timer: Timer | null = null
  #round: Promise<void> = Promise.resolve()

  constructor(options: PeriodicOptions, modules: PeriodicModules) {
    this.#options = options
    this.#modules = modules
  }

  /** Once. */
  start(): void {
    if (this.#stopping.signal.aborted) return
    const { clock, random } = this.#modules
    const pauseMs = this.#options.everyMs * (1 + (random?.fraction() ?? 0) / 2)
    this.#timer = clock.setTimer(pauseMs, () => {
      this.#round = this.#work().finally(() => this.start())
    })
  }

  async stop(): Promise<void> {
    this.#stopping.abort()
    this.#timer?.cancel()
    await this.#round
  }

  async #work(): Promise<void> {
    const { signal } = this.#stopping
    try {
      await this.#modules.work(signal)
    } catch (error) {
      if (!signal.aborted) this.#modules.failed(error)
    }
  }
}
