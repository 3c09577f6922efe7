/** Signs of a running daemon: the file that says it lives, and the configuration that tells runtimes of it. */
import { utimes, writeFile } from 'node:fs/promises'
import type { Clock } from '../lib/clock.ts'
import { messageOf } from '../lib/errors.ts'
import type { Base } from './base.ts'
import { conflistText, installConflist } from './conflist.ts'

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

/** Runtimes are told once, when pods can be attached; ready is who has told them. */
export function announceWhenServing(
  { config, log }: Base,
  serves: () => boolean,
  announced: () => void,
): () => void {
  const { conflist, network } = config.cni
  const timer = setInterval(() => {
    if (!serves()) return
    clearInterval(timer)
    const told = conflist === null ? Promise.resolve(false) : installConflist(conflist, conflistText(network))
    told
      .catch(error =>
        log.error({ conflist, error: messageOf(error) }, 'the network configuration could not be written'),
      )
      .then(() => {
        announced()
        log.info({}, 'ready')
      })
  }, 50)
  return () => clearInterval(timer)
}
