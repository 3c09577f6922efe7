/** Ends what takes too long, told apart from an end that the caller wished (`cancel`, its signal). */
import type { Clock, Timer } from '../../lib/clock.ts'

export class Deadline {
  readonly #controller = new AbortController()
  readonly #clock: Clock
  readonly #outer: AbortSignal | undefined
  readonly #abort = () => this.#controller.abort()
  #timer: Timer
  #passed = false
  #ms: number

  constructor(ms: number, modules: { clock: Clock }, outer?: AbortSignal) {
    this.#clock = modules.clock
    this.#outer = outer
    this.#ms = ms
    this.#timer = this.#arm()
    if (outer?.aborted) this.#abort()
    outer?.addEventListener('abort', this.#abort)
  }

  /** Aborted at the deadline or by the caller. */
  get signal(): AbortSignal {
    return this.#controller.signal
  }

  get passed(): boolean {
    return this.#passed
  }

  /** As last set. */
  get ms(): number {
    return this.#ms
  }

  restart(ms: number): void {
    this.#timer.cancel()
    this.#ms = ms
    this.#timer = this.#arm()
  }

  cancel(): void {
    this.#abort()
  }

  /** What it watched over has ended. */
  release(): void {
    this.#timer.cancel()
    this.#outer?.removeEventListener('abort', this.#abort)
  }

  #arm(): Timer {
    return this.#clock.setTimer(this.#ms, () => {
      this.#passed = true
      this.#abort()
    })
  }
}
