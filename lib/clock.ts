/**
 * Time is a module that constructors take, so that tests own it.
 *
 * BOOTTIME counts suspend and never jumps, but stands still while a virtual machine is paused; REALTIME goes
 * on but may be set. Terms (ADDRESSES.md rule 7) use whichever says that more time has passed.
 */
export interface Clock {
  /** CLOCK_REALTIME in whole milliseconds since the epoch. */
  realtimeMs(): number
  /** CLOCK_BOOTTIME in whole milliseconds since boot. */
  boottimeMs(): number
  /** Resolves after `ms`; rejects never; the timer does not keep the process alive when `unref` is set. */
  sleep(ms: number, signal?: AbortSignal): Promise<void>
  setTimer(ms: number, callback: () => void): Timer
}

export interface Timer {
  cancel(): void
}

export const systemClock: Clock = {
  realtimeMs: () => Date.now(),
  // hrtime is CLOCK_MONOTONIC, which equals BOOTTIME except for suspend; servers do not suspend, and a
  // paused machine stops both. The pause is what REALTIME is asked for.
  boottimeMs: () => Number(process.hrtime.bigint() / 1_000_000n),
  sleep: (ms, signal) =>
    new Promise(resolve => {
      if (signal?.aborted) return resolve()
      const timer = setTimeout(done, ms)
      function done() {
        clearTimeout(timer)
        signal?.removeEventListener('abort', done)
        resolve()
      }
      signal?.addEventListener('abort', done)
    }),
  setTimer(ms, callback) {
    const timer = setTimeout(callback, ms)
    return { cancel: () => clearTimeout(timer) }
  },
}

/** Randomness is a module too: ids and jitter come from here. */
export interface Random {
  /** `bytes` random bytes as lower-case hex. */
  hex(bytes: number): string
  /** RFC 9562 version 4 UUID. */
  uuid(): string
  /** Uniform in [0, 1). */
  fraction(): number
}
