/**
 * Keeps what this node knows of itself (self.ts) up to date: waits at start until there is an underlay, and looks
 * again when links, addresses or routes change. What cannot be observed leaves what was known before.
 *
 * Trap: switches (arp_ignore) change without a word, and a look may fail: so it is looked now and then in any case.
 */
import { isDeepStrictEqual } from 'node:util'
import type { KernelEvent } from '../../kernel/kernel.ts'
import type { Clock, Timer } from '../../lib/clock.ts'
import { isTwillError, messageOf } from '../../lib/errors.ts'
import { Periodic } from '../../lib/periodic.ts'
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
  let looking = Promise.resolve()
  const look = async () => {
    const found = await observeSelf(config.underlay, { kernel, log })
    if (isDeepStrictEqual(found, facts.observation)) return
    facts.observed(found)
    changed()
  }
  const failed = (error: unknown) =>
    log.warn({ error: messageOf(error) }, 'the underlay could not be observed')
  // One at a time: what an earlier one saw is never told after it.
  const lookNext = () => {
    looking = looking.then(look).catch(failed)
    return looking
  }
  const again = new Periodic({ everyMs: config.resyncInterval }, { clock, work: lookNext, failed })
  again.start()
  const watching = kernel.watch(event => {
    if (!mayConcern(event) || pending !== null) return
    pending = clock.setTimer(DELAY_MS, () => {
      pending = null
      void lookNext()
    })
  })
  return {
    async close() {
      pending?.cancel()
      await watching.close()
      await again.stop()
      await looking
    },
  }
}
