/**
 * Keeps what this node knows of itself (self.ts) up to date: waits at start until there is an underlay, and looks
 * again when links, addresses or routes change. What cannot be observed leaves what was known before.
 */
import { isDeepStrictEqual } from 'node:util'
import type { KernelEvent } from '../../kernel/kernel.ts'
import type { Clock, Timer } from '../../lib/clock.ts'
import { isTwillError, messageOf } from '../../lib/errors.ts'
import type { Base } from '../base.ts'
import type { NodeFacts } from './facts.ts'
import { type Observation, observeSelf } from './self.ts'

const RETRY_MS = 1_000
/** Changes come in groups: a link, its addresses, its routes. */
const DELAY_MS = 200
/** A default route comes after the address that it needs, and may move by itself. */
const CHOOSES_UNDERLAY: ReadonlySet<string> = new Set(['link', 'address', 'route'])

/** `waiting` hears what is missing. @throws what waiting does not mend */
export async function untilObserved(
  { config, kernel, log }: Base,
  clock: Clock,
  waiting: (reason: string) => void,
): Promise<Observation> {
  for (;;) {
    try {
      return await observeSelf(config.underlay, { kernel, log })
    } catch (error) {
      if (!isTwillError(error) || !error.retryable) throw error
      waiting(error.message)
      log.warn({ error: error.message }, 'no underlay yet')
      await clock.sleep(RETRY_MS)
    }
  }
}

/** Neither what we do ourselves nor what stands on pods' links changes anything of the underlay. */
function mayConcern(event: KernelEvent): boolean {
  if (event.type === 'overflow') return true
  return event.type === 'changed' && !event.own && !event.pods && CHOOSES_UNDERLAY.has(event.domain)
}

/** `changed` is called after `facts` has what is new. */
export function watchSelf(
  { config, kernel, log }: Base,
  { clock, facts, changed }: { clock: Clock; facts: NodeFacts; changed: () => void },
): { close(): Promise<void> } {
  let pending: Timer | null = null
  const look = async () => {
    pending = null
    const found = await observeSelf(config.underlay, { kernel, log })
    if (isDeepStrictEqual(found, facts.observation)) return
    facts.observed(found)
    changed()
  }
  const watching = kernel.watch(event => {
    if (!mayConcern(event) || pending !== null) return
    pending = clock.setTimer(DELAY_MS, () => {
      look().catch(error => log.warn({ error: messageOf(error) }, 'the underlay could not be observed'))
    })
  })
  return {
    async close() {
      pending?.cancel()
      await watching.close()
    },
  }
}
