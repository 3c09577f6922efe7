/** What the fake has beyond the contract: its dump, and failures on order. */
import { test } from 'uvu'
import * as assert from 'uvu/assert'
import { FakeKernel } from '../../../../kernel/fake/kernel.ts'
import type { KernelEvent } from '../../../../kernel/kernel.ts'
import { TwillError } from '../../../../lib/errors.ts'

const failure = new TwillError('kernel.failed', 'on order', { operation: 'x', errno: 'ENOMEM', message: '' })

const specFor = (kernel: FakeKernel) => ({
  netns: kernel.addNamespace('/run/netns/a'),
  podInterface: 'eth0',
  hostInterface: 'twl000000000001',
  alias: 'twill:pod:1',
  podMac: '02:00:00:00:00:01',
  mtu: 1450,
  addresses: [{ family: 4 as const, address: '10.64.0.1', routeSource: null }],
  netnsCookie: null,
  gatewayOnHostEnd: false,
})

test('a pod, as text', async () => {
  const kernel = new FakeKernel()
  await kernel.replaceRuleset({ chains: '', elements: new Map([['pods', new Set<string>()]]) })
  await kernel.attachPod(specFor(kernel), [{ set: 'pods', element: '10.64.0.1' }])
  assert.is(
    kernel.dump(),
    `link lo - 00:00:00:00:00:00 mtu 65536 up
link twl000000000001 veth 02:54:57:49:4c:4c mtu 1450 up alias twill:pod:1
neighbour twl000000000001 10.64.0.1 02:00:00:00:00:01
route 10.64.0.1/32 unicast dev twl000000000001 metric 0 proto 84
/run/netns/a: address eth0 10.64.0.1/32 scope 0
/run/netns/a: link eth0 veth 02:00:00:00:00:01 mtu 1450 up
/run/netns/a: link lo - 00:00:00:00:00:00 mtu 65536 up
/run/netns/a: neighbour eth0 169.254.1.1 02:54:57:49:4c:4c
/run/netns/a: route 0.0.0.0/0 unicast dev eth0 via 169.254.1.1 metric 0 proto 84
/run/netns/a: route 169.254.1.1/32 unicast dev eth0 metric 0 proto 84
element pods { 10.64.0.1 }`,
  )
})

test('failNext fails one call, or one step, and then no more', async () => {
  const kernel = new FakeKernel()
  kernel.failNext('attachPod', failure)
  const spec = specFor(kernel)
  const caught = await kernel.attachPod(spec, []).catch(error => error)
  assert.is(caught, failure)
  await kernel.attachPod(spec, [])
  const step = { type: 'link.set', device: 'lo', mtu: 1500 } as const
  kernel.failNext('link.set', failure)
  assert.equal(
    (await kernel.apply([step, step])).map(({ error }) => error),
    [failure, null],
  )
})

test('a namespace that is removed takes its pod along', async () => {
  const kernel = new FakeKernel()
  await kernel.attachPod(specFor(kernel), [])
  kernel.removeNamespace('/run/netns/a')
  assert.is(kernel.dump(), 'link lo - 00:00:00:00:00:00 mtu 65536 up')
})

test('listeners hear what a test emits until they close', async () => {
  const kernel = new FakeKernel()
  const heard: KernelEvent[] = []
  const watch = kernel.watch(event => heard.push(event))
  kernel.emit({ type: 'overflow' })
  await watch.close()
  kernel.emit({ type: 'overflow' })
  assert.equal(heard, [{ type: 'overflow' }])
})

test.run()
