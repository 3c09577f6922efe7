/** The sign of a running daemon: a file that it touches. */
import { utimes, writeFile } from 'node:fs/promises'
import type { Clock } from '../lib/clock.ts'

const ALIVE_EVERY_MS = 5_000

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
