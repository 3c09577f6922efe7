/**
 * Whatever state the kernel is in: the plan's steps lead to what is desired, a second plan is empty, and what
 * is not ours, or belongs to an attachment at work, is as it was.
 */
import fc from 'fast-check'
import { test } from 'uvu'
import * as assert from 'uvu/assert'
import { desired } from '../../../../daemon/desired/desired.ts'
import type { Facts } from '../../../../daemon/desired/facts.ts'
import { plan } from '../../../../daemon/plan/plan.ts'
import { vtepMac } from '../../../../routing/vxlan/vtep.ts'
import { attachment, facts, node, self } from '../cluster-facts.ts'
import { KernelModel, link, route } from '../kernel-model.ts'

const SOURCES = ['192.168.77.1', '172.30.0.1']

/** A node as it comes up: links of its own, routes and addresses of its own. */
function machine(): KernelModel {
  const kernel = new KernelModel()
  kernel.addLink(link('eth0'))
  kernel.addLink(link('docker0', { kind: 'bridge' }))
  for (const address of SOURCES)
    kernel.addresses.set(`eth0 ${address}/24`, {
      device: 'eth0',
      family: 4,
      address,
      prefix: 24,
      scope: 0,
      tentative: false,
      nodad: false,
      permanent: true,
    })
  kernel.addRoute(route('0.0.0.0/0', { device: 'eth0', gateway: '192.168.77.254', protocol: 3 }))
  kernel.neighbours.set('eth0 192.168.77.254', {
    device: 'eth0',
    family: 4,
    address: '192.168.77.254',
    mac: '02:ff:00:00:00:01',
    permanent: true,
  })
  return kernel
}

function podLink(number: number, more = {}) {
  const { hostInterface, id } = attachment(number)
  return link(hostInterface, {
    kind: 'veth',
    mtu: 1450,
    mac: '02:54:57:49:4c:4c',
    alias: `twill:pod:${id}`,
    ...more,
  })
}

/** Anything a person or a program might do to what is ours. */
const damage: fc.Arbitrary<(kernel: KernelModel) => void> = fc.oneof(
  fc.constantFrom('addresses', 'routes', 'neighbours', 'fdb').chain(table =>
    fc.nat(40).map(index => (kernel: KernelModel) => {
      const [key, value] = [...kernel[table as 'routes']][index] ?? []
      if (key !== undefined && !isForeign(value)) kernel[table as 'routes'].delete(key)
    }),
  ),
  fc.constant((kernel: KernelModel) => kernel.removeLink('twill-vx4')),
  fc.constant((kernel: KernelModel) => change(kernel, 'twill-vx4', { mac: '02:00:00:00:00:99' })),
  fc.constant((kernel: KernelModel) => change(kernel, 'twill-vx4', { up: false })),
  // A device that lost its alias is known by its attributes; one that lost both is a stranger's by now.
  fc.constant((kernel: KernelModel) => {
    if (kernel.links.get('twill-vx4')?.vxlan?.vni === 4242) change(kernel, 'twill-vx4', { alias: null })
  }),
  fc.constant((kernel: KernelModel) => {
    const { vxlan, alias } = kernel.links.get('twill-vx4') ?? {}
    if (vxlan && alias) change(kernel, 'twill-vx4', { vxlan: { ...vxlan, vni: 7 } })
  }),
  fc.constant((kernel: KernelModel) => change(kernel, attachment(1).hostInterface, { mtu: 1280, up: false })),
  fc.constant((kernel: KernelModel) => kernel.addLink(podLink(9, { alias: 'twill:pod:nobody' }))),
  fc.constant((kernel: KernelModel) => kernel.addRoute(route('10.244.7.0/26', { type: 'blackhole' }))),
  fc.constant((kernel: KernelModel) => kernel.addRoute(route('10.244.2.0/26', { device: 'eth0' }))),
  fc.constant((kernel: KernelModel) => {
    const entry = { device: 'twill-vx4', mac: vtepMac('gone'), dst: '192.168.77.9', permanent: true }
    if (kernel.links.has(entry.device)) kernel.fdb.set(`${entry.device} ${entry.mac} ${entry.dst}`, entry)
  }),
  fc.constant((kernel: KernelModel) => void kernel.sysctls.set('net/ipv4/ip_forward', '0')),
)

function isForeign(value: { device?: string | null } | undefined): boolean {
  return value?.device === 'eth0'
}

function change(kernel: KernelModel, name: string, changes: object): void {
  const now = kernel.links.get(name)
  if (now) kernel.links.set(name, { ...now, ...changes })
}

/** Facts before and after: nodes come, go, are replaced; pods are at work or not; the node has addresses or not. */
const someFacts: fc.Arbitrary<Facts> = fc
  .record({
    peers: fc.subarray([
      node(2),
      node(3),
      node(2, { uid: 'uid-new' }),
      node(3, { underlay: { 4: '192.168.77.33' } }),
    ]),
    pods: fc.subarray([1, 2]),
    busy: fc.boolean(),
    arpIgnore: fc.constantFrom(0, 1),
    tunnel: fc.constantFrom({}, { 4: '10.244.1.0' }, { 4: '10.244.1.5', 6: 'fd00:244::105' }),
  })
  .map(({ peers, pods, busy, arpIgnore, tunnel }) =>
    facts({
      self: self({ arpIgnore, tunnel }),
      nodes: [node(1), ...peers],
      attachments: pods.map((number, index) => attachment(number, { busy: busy && index === 0 })),
    }),
  )

const foreignOf = (kernel: KernelModel) => ({
  links: [...kernel.links.values()].filter(({ name }) => name === 'eth0' || name === 'docker0'),
  routes: [...kernel.routes.values()].filter(({ protocol }) => protocol !== 84),
  addresses: [...kernel.addresses.values()].filter(({ device }) => device === 'eth0'),
  neighbours: [...kernel.neighbours.values()].filter(({ device }) => device === 'eth0'),
})

test('steps lead to what is desired, nothing more is planned then, and foreign objects stay', () => {
  fc.assert(
    fc.property(someFacts, someFacts, fc.array(damage, { maxLength: 6 }), (earlier, now, damages) => {
      const kernel = machine()
      kernel.addLink(podLink(1))
      kernel.addLink(podLink(2))
      converge(kernel, earlier)
      for (const harm of damages) harm(kernel)
      const foreign = foreignOf(kernel)
      converge(kernel, now)
      assert.equal(foreignOf(kernel), foreign)
      const held = new Set(now.attachments.filter(each => each.busy).map(each => each.hostInterface))
      assertHolds(kernel, now, held)
    }),
    { numRuns: 300, includeErrorInReport: true },
  )
})

/** At most two plans: the second only where deleting an address made the kernel drop more. The third is empty. */
function converge(kernel: KernelModel, now: Facts): void {
  for (let pass = 0; pass < 2; pass++)
    for (const { step } of plan(desired(now), kernel.observed()).changes) kernel.run(step)
  const rest = plan(desired(now), kernel.observed()).changes
  assert.equal(rest, [], `still planned: ${JSON.stringify(rest)}`)
}

/** Said again in other words than the plan's: each desired object stands there, and no other of ours. */
function assertHolds(kernel: KernelModel, now: Facts, held: ReadonlySet<string>): void {
  const want = desired(now)
  for (const route of want.routes) {
    if (route.device !== undefined && !kernel.links.has(route.device)) continue
    const have = kernel.routes.get(`${route.dst} ${route.metric}`)
    assert.ok(have, `route ${route.dst}`)
    assert.is(have.device, route.device ?? null)
    assert.is(have.gateway, route.gateway ?? null)
  }
  const wanted = new Set(want.routes.map(({ dst, metric }) => `${dst} ${metric}`))
  for (const [key, { protocol, device }] of kernel.routes)
    if (protocol === 84 && !held.has(device ?? '') && !want.held.prefixes.has(key.split(' ')[0]!))
      assert.ok(wanted.has(key), `left over: route ${key}`)
  assert.equal(
    [...kernel.fdb.values()].map(({ mac, dst }) => `${mac} ${dst}`).sort(),
    want.fdb.map(({ mac, dst }) => `${mac} ${dst}`).sort(),
  )
  assert.is(kernel.sysctls.get('net/ipv4/ip_forward'), '1')
}

test('while the facts are incomplete nothing is deleted', () => {
  fc.assert(
    fc.property(someFacts, fc.array(damage, { maxLength: 6 }), (now, damages) => {
      const kernel = machine()
      kernel.addLink(podLink(1))
      converge(kernel, now)
      for (const harm of damages) harm(kernel)
      const { changes } = plan(
        desired({ ...now, complete: false, slots: new Map(), nodes: [] }),
        kernel.observed(),
      )
      const deletions = changes.filter(
        ({ step, reason }) => step.type.endsWith('.delete') && reason === 'unwanted',
      )
      assert.equal(deletions, [])
      assert.not(changes.some(({ step }) => step.type === 'link.delete'))
    }),
    { numRuns: 100 },
  )
})

test.run()
