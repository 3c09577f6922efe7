/** The sign of a running daemon: a file that it touches. */
import { stat, utimes, writeFile } from 'node:fs/promises'
import type { Clock } from '../lib/clock.ts'

const ALIVE_EVERY_MS = 5_000

/** STATUS takes a daemon that was alive so short a time ago for one that is being restarted (the executable's, too). */
const RESTART_GRACE_MS = 30_000

/** BOOTTIME until which STATUS may go by the sign of the daemon before this one; in the past where there was none. */
export async function graceOf(path: string, clock: Clock): Promise<number> {
  const { mtimeMs } = await stat(path).catch(() => ({ mtimeMs: Number.NEGATIVE_INFINITY }))
  // A sign of the future is one of a clock that was set back.
  const ageMs = Math.max(0, clock.realtimeMs() - mtimeMs)
  return clock.boottimeMs() + RESTART_GRACE_MS - ageMs
}

/** The executable's STATUS goes by this file while no daemon answers. */
export async function signOfLife(path: string, clock: Clock): Promise<{ stop(): void }> {
  await writeFile(path, '', { mode: 0o600 })
  const touch = () => {
    const now = clock.realtimeMs() / 1000
    utimes(path, now, now).catch(() => undefined)
  }
  const timer = setInterval(touch, ALIVE_EVERY_MS)
  return {
    stop() {
      clearInterval(timer)
      touch()
    },
  }
}
