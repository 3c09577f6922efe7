import { test } from 'uvu'
import * as assert from 'uvu/assert'
import { desired } from '../../../../daemon/desired/desired.ts'
import type { Facts } from '../../../../daemon/desired/facts.ts'
import { plan } from '../../../../daemon/plan/plan.ts'
import { REAP_GROUP } from '../../../../kernel/ownership.ts'
import { vtepMac } from '../../../../routing/vxlan/vtep.ts'
import { attachment, facts, node, self } from '../cluster-facts.ts'
import { KernelModel, link, podLink, route } from '../kernel-model.ts'

/** A node with two pods on which everything stands as `now` wants it. */
function converged(now: Facts = facts()): KernelModel {
  const kernel = new KernelModel()
  kernel.addLink(link('eth0'))
  for (const each of now.attachments) kernel.addLink(podLink(Number(each.id.slice(-1))))
  kernel.addUplinkAddress()
  execute(kernel, now)
  kernel.executed = []
  return kernel
}

const planned = (kernel: KernelModel, now: Facts) => plan(desired(now), kernel.observed())

function execute(kernel: KernelModel, now: Facts): string[] {
  const { changes } = planned(kernel, now)
  for (const { step } of changes) kernel.run(step)
  return changes.map(({ step, reason }) => `${step.type} ${reason}`)
}

test('what stands as desired is left alone', () => {
  assert.equal(planned(converged(), facts()), { changes: [], reattach: [], problems: [] })
})

test('a peer that changed its identity keeps its address: every entry follows', () => {
  const kernel = converged()
  const nodes = [
    node(1),
    node(2, { uid: 'uid-again', vteps: [{ ...node(2).vteps[0]!, mac: vtepMac('uid-again') }] }),
    node(3),
  ]
  const slots = new Map(
    [...facts().slots].map(([key, slot]) => [
      key,
      {
        ...slot,
        parts: slot.parts.map(part => (part.owner === 'uid-node2' ? { ...part, owner: 'uid-again' } : part)),
      },
    ]),
  )
  const steps = execute(kernel, facts({ nodes, slots }))
  assert.equal(steps, [
    'neighbour.replace different',
    'neighbour.replace different',
    'fdb.replace missing',
    'fdb.delete unwanted',
  ])
  assert.is(kernel.neighbours.get('twill-vx4 10.244.2.0')?.mac, vtepMac('uid-again'))
})

test('a route over what the node lives by is none, and one that was left goes before the facts are complete', () => {
  const kernel = converged()
  kernel.addRoute(route('10.96.0.0/16', { type: 'unreachable', metric: 84 }))
  kernel.addRoute(route('10.97.0.0/16', { type: 'unreachable', metric: 84 }))
  const recalled = facts({ complete: false, self: self({ vitals: ['10.96.0.1', '10.244.1.2'] }) })
  assert.equal(
    planned(kernel, recalled).changes.map(({ step, key }) => `${step.type} ${key}`),
    ['route.delete 10.244.1.2/32 metric 0', 'route.delete 10.96.0.0/16 metric 84'],
  )
})

test('a peer that moved to another underlay address', () => {
  const kernel = converged()
  execute(kernel, facts({ nodes: [node(1), node(2, { underlay: { 4: '192.168.77.22' } }), node(3)] }))
  const dsts = [...kernel.fdb.values()]
    .filter(({ mac }) => mac === vtepMac('uid-node2'))
    .map(({ dst }) => dst)
  assert.equal(dsts, ['192.168.77.22'])
})

test('a device with another VNI is made anew, and all that stood on it stands again', () => {
  const kernel = converged()
  const before = kernel.observed()
  const device = kernel.links.get('twill-vx4')!
  kernel.links.set('twill-vx4', { ...device, vxlan: { ...device.vxlan!, vni: 99 } })
  const steps = execute(kernel, facts())
  assert.equal(steps.slice(0, 2), ['link.delete different', 'vxlan.add different'])
  assert.is(kernel.links.get('twill-vx4')?.vxlan?.vni, 4242)
  const names = (of: KernelModel['routes'] | readonly { dst: string }[]) =>
    [...of.values()].map(({ dst }) => dst).sort()
  assert.equal(names(kernel.observed().routes), names(before.routes))
  assert.is(kernel.neighbours.size, before.neighbours.length)
  assert.is(kernel.fdb.size, before.fdb.length)
})

test('a foreign device with our name is neither touched nor built upon, and named', () => {
  const kernel = new KernelModel()
  kernel.addLink(link('twill-vx4', { kind: 'bridge' }))
  const { changes, problems } = planned(kernel, facts({ attachments: [] }))
  assert.not(
    changes.some(({ step }) => JSON.stringify(step).includes('twill-vx4') && step.type !== 'sysctl.set'),
  )
  assert.match(problems[0]!.message, /twill-vx4 \(kind bridge/)
})

test('a route waits without source for its address, and gets it when the address is there', () => {
  const kernel = converged()
  const eth0 = kernel.addresses.get('eth0 192.168.77.1/24')!
  kernel.addresses.set('eth0 192.168.77.1/24', { ...eth0, tentative: true })
  execute(kernel, facts())
  assert.is(kernel.routes.get('10.244.1.1/32 0')?.src, null)
  assert.ok(kernel.routes.has('10.244.1.1/32 0'))
  kernel.addresses.set('eth0 192.168.77.1/24', eth0)
  execute(kernel, facts())
  assert.is(kernel.routes.get('10.244.1.1/32 0')?.src, '192.168.77.1')
})

test('a changed source, gateway or onlink flag of a route is a difference', () => {
  for (const wrong of [
    { src: '192.168.77.1' },
    { gateway: '10.244.3.0' },
    { onlink: false },
    { device: 'eth0' },
  ]) {
    const kernel = converged()
    const good = kernel.routes.get('10.244.2.0/26 0')!
    kernel.addRoute({ ...good, ...wrong })
    assert.equal(execute(kernel, facts()), ['route.replace different'], JSON.stringify(wrong))
    assert.equal(kernel.routes.get('10.244.2.0/26 0'), good)
  }
})

test('a new tunnel address comes before the old one goes, and routes change over between them', () => {
  const kernel = converged()
  const steps = execute(kernel, facts({ self: self({ tunnel: { 4: '10.244.1.9', 6: 'fd00:244::100' } }) }))
  const order = ['address.add missing', 'route.replace different', 'address.delete unwanted']
  assert.equal([...new Set(steps)], order)
})

test('a change of the device`s MAC takes its neighbour entries: they are written again in the same plan', () => {
  const kernel = converged()
  kernel.links.set('twill-vx4', { ...kernel.links.get('twill-vx4')!, mac: '02:00:00:00:00:99' })
  execute(kernel, facts())
  assert.is(kernel.neighbours.get('twill-vx4 10.244.2.0')?.mac, vtepMac('uid-node2'))
})

test('nothing of an attachment at work is mended or deleted', () => {
  const kernel = converged()
  kernel.links.set('twl000000000001', { ...kernel.links.get('twl000000000001')!, mtu: 1280 })
  kernel.neighbours.delete('twl000000000001 10.244.1.1')
  for (const held of [attachment(1, { busy: true }), attachment(1, { state: 'detaching' })])
    assert.equal(planned(kernel, facts({ attachments: [held, attachment(2)] })).changes, [])
})

test('a host end is mended in place', () => {
  const kernel = converged()
  kernel.links.set(
    'twl000000000001',
    podLink(1, { mtu: 1280, alias: 'twill:pod:x', up: false, mac: '02:00:00:00:00:05' }),
  )
  const { changes } = planned(kernel, facts())
  assert.equal(changes[0]!.step, {
    type: 'link.set',
    device: 'twl000000000001',
    mac: '02:54:57:49:4c:4c',
    mtu: 1450,
    alias: 'twill:pod:attachment1',
    up: true,
  })
})

test('a host end that is gone is reported, and nothing is planned upon it', () => {
  const kernel = converged()
  kernel.removeLink('twl000000000001')
  assert.equal(planned(kernel, facts()), { changes: [], reattach: ['attachment1'], problems: [] })
})

test('leftovers of a pod nobody knows go; links awaiting deletion are left to their reaper', () => {
  const kernel = converged()
  kernel.addLink(podLink(8))
  kernel.addLink(podLink(9, { group: REAP_GROUP }))
  kernel.addRoute(route('10.244.1.8/32', { device: 'twl000000000008' }))
  assert.equal(execute(kernel, facts()), ['route.delete unwanted', 'link.delete unwanted'])
  assert.ok(kernel.links.has('twl000000000009'))
})

test('a pod`s new MAC goes into its neighbour entries', () => {
  const kernel = converged()
  const attachments = [attachment(1, { podMac: '02:bb:00:00:00:01' }), attachment(2)]
  assert.equal(execute(kernel, facts({ attachments })), [
    'neighbour.replace different',
    'neighbour.replace different',
  ])
})

test('where ARP for addresses of lo goes unanswered the gateway stands on host ends', () => {
  const kernel = converged()
  execute(kernel, facts({ self: self({ arpIgnore: 1 }) }))
  assert.ok(kernel.addresses.has('twl000000000001 169.254.1.1/32'))
})

test('router advertisements are kept before forwarding is switched on, and only where the kernel takes them', () => {
  const kernel = new KernelModel()
  kernel.advertised = ['eth0', 'eth1']
  kernel.sysctls.set('net/ipv6/conf/eth0/accept_ra', '1')
  kernel.sysctls.set('net/ipv6/conf/eth1/accept_ra', '0')
  const { changes } = planned(kernel, facts({ attachments: [] }))
  const sysctls = changes.flatMap(({ step }) =>
    step.type === 'sysctl.set' ? [`${step.path}=${step.value}`] : [],
  )
  assert.is(sysctls[0], 'net/ipv6/conf/eth0/accept_ra=2')
  assert.ok(sysctls.includes('net/ipv6/conf/all/forwarding=1'))
  assert.not(sysctls.some(text => text.includes('eth1')))
})

test.run()
