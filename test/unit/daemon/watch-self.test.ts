/** When the node looks at itself again: each look reads all links, addresses and routes. */
import { test } from 'uvu'
import * as assert from 'uvu/assert'
import type { Base } from '../../../daemon/base.ts'
import type { NodeFacts } from '../../../daemon/node/facts.ts'
import type { Observation } from '../../../daemon/node/self.ts'
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
  const base = { config: { underlay: {}, resyncInterval: 60_000 }, kernel, log: silentLog } as unknown as Base
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

/** A node with one interface, which hears of nothing. */
async function quietNode() {
  const clock = new ManualClock()
  const node = { arpIgnore: '0', isBroken: false, told: 0, observation: null as Observation | null }
  const kernel = {
    watch: () => ({ close: async () => undefined }),
    readLinks: async () => {
      if (node.isBroken) throw new Error('ENOBUFS')
      return [{ name: 'eth0', index: 2, kind: null, mtu: 1500, up: true, carrier: true, loopback: false }]
    },
    readAddresses: async () => [{ device: 'eth0', family: 4, address: '192.0.2.1', prefix: 24, scope: 0 }],
    readRoutes: async () => [],
    readSysctl: async () => node.arpIgnore,
  }
  const facts = {
    get observation() {
      return node.observation
    },
    observed(found: Observation) {
      node.observation = found
    },
  }
  const base = { config: { underlay: { interface: 'eth0' }, resyncInterval: 60_000 }, kernel, log: silentLog }
  const changed = () => {
    node.told++
  }
  const watching = watchSelf(base as unknown as Base, {
    ...{ clock, changed },
    facts: facts as unknown as NodeFacts,
  })
  return { node, clock, watching }
}

test('a switch that changed without a word is noticed, and what could not be observed once', async () => {
  const { node, clock, watching } = await quietNode()
  node.isBroken = true
  await clock.advance(61_000)
  assert.is(node.told, 0)
  node.isBroken = false
  await clock.advance(61_000)
  assert.is(node.observation?.underlay[0]?.address, '192.0.2.1')
  node.arpIgnore = '1'
  await clock.advance(61_000)
  assert.is(node.observation?.arpIgnore, 1)
  assert.is(node.told, 2)
  await clock.advance(61_000)
  assert.is(node.told, 2, 'what is as it was is not told')
  await watching.close()
})

test.run()
