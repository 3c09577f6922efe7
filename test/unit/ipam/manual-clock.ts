/** Time that a test moves: timers fire in order as it advances, and promises settle in between. */
import type { Clock, Random, Timer } from '../../../lib/clock.ts'

interface Pending {
  readonly atMs: number
  readonly callback: () => void
}

export class ManualClock implements Clock {
  #boottimeMs = 1_000_000
  #realtimeMs = 1_700_000_000_000
  #pending: Pending[] = []

  boottimeMs(): number {
    return this.#boottimeMs
  }

  realtimeMs(): number {
    return this.#realtimeMs
  }

  sleep(ms: number): Promise<void> {
    return new Promise(resolve => {
      this.setTimer(ms, resolve)
    })
  }

  setTimer(ms: number, callback: () => void): Timer {
    const pending = { atMs: this.#boottimeMs + ms, callback }
    this.#pending.push(pending)
    return {
      cancel: () => {
        this.#pending = this.#pending.filter(other => other !== pending)
      },
    }
  }

  /** Moves both clocks on, firing what comes due on the way. */
  async advance(ms: number): Promise<void> {
    const endMs = this.#boottimeMs + ms
    await settle()
    for (;;) {
      const due = this.#pending.filter(({ atMs }) => atMs <= endMs).sort((a, b) => a.atMs - b.atMs)[0]
      if (due === undefined) break
      this.#pending = this.#pending.filter(other => other !== due)
      this.#move(Math.max(0, due.atMs - this.#boottimeMs))
      due.callback()
      await settle()
    }
    this.#move(endMs - this.#boottimeMs)
    await settle()
  }

  /** The machine was paused: only REALTIME goes on. Negative: somebody set it back. */
  jumpRealtime(ms: number): void {
    this.#realtimeMs += ms
  }

  #move(ms: number): void {
    this.#boottimeMs += ms
    this.#realtimeMs += ms
  }
}

/** Lets everything that waits for nothing but promises happen. */
export const settle = (): Promise<void> => new Promise(resolve => setImmediate(resolve))

/** The same seed, the same numbers (mulberry32). */
export class SeededRandom implements Random {
  #state: number

  constructor(seed: number) {
    this.#state = seed >>> 0
  }

  fraction(): number {
    this.#state = (this.#state + 0x6d2b79f5) >>> 0
    let t = this.#state
    t = Math.imul(t ^ (t >>> 15), t | 1)
    t ^= t + Math.imul(t ^ (t >>> 7), t | 61)
    return ((t ^ (t >>> 14)) >>> 0) / 4_294_967_296
  }

  hex(bytes: number): string {
    return Array.from({ length: bytes }, () =>
      Math.floor(this.fraction() * 256)
        .toString(16)
        .padStart(2, '0'),
    ).join('')
  }

  uuid(): string {
    const hex = this.hex(16)
    return `${hex.slice(0, 8)}-${hex.slice(8, 12)}-4${hex.slice(13, 16)}-8${hex.slice(17, 20)}-${hex.slice(20)}`
  }
}
