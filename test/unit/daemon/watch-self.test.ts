/** When the node looks at itself again: each look reads all links, addresses and routes. */
import { test } from 'uvu'
import * as assert from 'uvu/assert'
import type { Base } from '../../../daemon/base.ts'
import type { NodeFacts } from '../../../daemon/node/facts.ts'
import { watchSelf } from '../../../daemon/node/watch-self.ts'
import type { KernelEvent } from '../../../kernel/kernel.ts'
import { silentLog } from '../../../lib/log.ts'
import { ManualClock } from '../../fixtures/manual-clock.ts'

async function looksAfter(events: readonly KernelEvent[]): Promise<number> {
  const clock = new ManualClock()
  let looks = 0
  let tell = (_event: KernelEvent): void => undefined
  const kernel = {
    watch(listener: (event: KernelEvent) => void) {
      tell = listener
      return { close: async () => undefined }
    },
    readLinks: async () => {
      looks++
      throw new Error('that it looks is enough')
    },
    readAddresses: async () => [],
    readRoutes: async () => [],
  }
  const base = { config: { underlay: {} }, kernel, log: silentLog } as unknown as Base
  const watching = watchSelf(base, { clock, facts: {} as NodeFacts, changed: () => undefined })
  for (const event of events) tell(event)
  await clock.advance(1_000)
  await watching.close()
  return looks
}

test('a burst of pods is no reason to look at the underlay, whoever changed what stands on their links', async () => {
  const pods = ['link', 'address', 'route'] as const
  const burst = pods.flatMap((domain): KernelEvent[] => [
    { type: 'changed', domain, own: true },
    { type: 'changed', domain, own: false, consequence: true, pods: true },
    { type: 'changed', domain, own: false, pods: true },
  ])
  assert.is(await looksAfter(burst), 0)
})

test('what others or the kernel change elsewhere is one, and an overflow', async () => {
  assert.is(await looksAfter([{ type: 'changed', domain: 'address', own: false }]), 1)
  assert.is(await looksAfter([{ type: 'changed', domain: 'link', own: false, consequence: true }]), 1)
  assert.is(await looksAfter([{ type: 'overflow' }]), 1)
})

test.run()
