/** Time that stands still until a test moves it. */
import type { Clock, Timer } from '../../../lib/clock.ts'

export class ManualClock implements Clock {
  #nowMs = 1_000_000
  #timers: { dueMs: number; callback: () => void }[] = []

  realtimeMs = () => this.#nowMs
  boottimeMs = () => this.#nowMs

  sleep(ms: number): Promise<void> {
    return new Promise(resolve => this.setTimer(ms, resolve))
  }

  setTimer(ms: number, callback: () => void): Timer {
    const timer = { dueMs: this.#nowMs + ms, callback }
    this.#timers.push(timer)
    return {
      cancel: () => {
        this.#timers = this.#timers.filter(each => each !== timer)
      },
    }
  }

  /** Moves on, running timers when they are due and letting what they began come to rest in between. */
  async advance(ms: number): Promise<void> {
    const endMs = this.#nowMs + ms
    await rest()
    for (let next = this.#next(endMs); next !== undefined; next = this.#next(endMs)) {
      this.#timers = this.#timers.filter(each => each !== next)
      this.#nowMs = Math.max(this.#nowMs, next.dueMs)
      next.callback()
      await rest()
    }
    this.#nowMs = endMs
  }

  #next(endMs: number) {
    const due = this.#timers.filter(({ dueMs }) => dueMs <= endMs)
    return due.sort((a, b) => a.dueMs - b.dueMs)[0]
  }
}

/** Every promise that can resolve without a timer has. */
async function rest(): Promise<void> {
  for (let turn = 0; turn < 5; turn++) await new Promise(resolve => setImmediate(resolve))
}
