import { test } from 'uvu'
import * as assert from 'uvu/assert'
import { NO_DNS } from '../../../cni-bin/result.ts'
import { type CheckView, checkAttachment } from '../../../daemon/attach/check.ts'
import { addResult } from '../../../daemon/attach/result.ts'
import type { Attachment } from '../../../daemon/journal/records.ts'
import type { Link } from '../../../kernel/kernel.ts'
import { HOST_MAC, ROUTE_PROTOCOL } from '../../../kernel/ownership.ts'

const attachment: Attachment = {
  id: 'a1',
  network: 'twill',
  containerId: 'c1',
  ifName: 'eth0',
  netns: { path: '/run/netns/x', dev: '4', ino: '77' },
  netnsCookie: '12',
  hostInterface: 'twl000000000001',
  podMac: '02:00:00:00:00:01',
  mtu: 1450,
  addresses: [
    { family: 4, address: '10.0.0.1', poolUid: 'p', slot: '10.0.0.0/26', generation: 1 },
    { family: 6, address: 'fd00::1', poolUid: 'q', slot: 'fd00::/122', generation: 1 },
  ],
  pod: null,
  boot: 'b:1',
  begunBoottimeMs: 5,
  since: 6,
  state: 'attached',
}

const link = (name: string, mac: string): Link => ({
  index: 3,
  name,
  kind: 'veth',
  mac,
  mtu: 1450,
  up: true,
  carrier: true,
  loopback: false,
  alias: null,
  group: 0,
  peerIndex: 2,
  master: null,
  vxlan: null,
})

const address = (family: 4 | 6, text: string) => ({
  device: 'eth0',
  family,
  address: text,
  prefix: family === 4 ? 32 : 128,
  scope: 0,
  tentative: false,
  nodad: true,
  permanent: true,
})
const route = (family: 4 | 6, dst: string, device: string, gateway: string | null) => ({
  family,
  dst,
  type: 'unicast' as const,
  device,
  gateway,
  src: null,
  metric: 0,
  protocol: ROUTE_PROTOCOL,
  table: 254,
  scope: 0,
  onlink: false,
  mtu: null,
})
const neighbour = (family: 4 | 6, text: string) => ({
  device: attachment.hostInterface,
  family,
  address: text,
  mac: '02:00:00:00:00:01',
  permanent: true,
})

const pod = {
  ...link('eth0', '02:00:00:00:00:01'),
  addresses: [address(4, '10.0.0.1'), address(6, 'fd00::1')],
  routes: [route(4, '0.0.0.0/0', 'eth0', '169.254.1.1'), route(6, '::/0', 'eth0', 'fe80::1')],
  neighbours: [],
}
const good: CheckView = {
  pod: { netnsCookie: '12', pod },
  links: [link(attachment.hostInterface, HOST_MAC)],
  routes: [
    route(4, '10.0.0.1/32', attachment.hostInterface, null),
    route(6, 'fd00::1/128', attachment.hostInterface, null),
  ],
  neighbours: [neighbour(4, '10.0.0.1'), neighbour(6, 'fd00::1')],
  rulesetIntact: true,
}
const previous = addResult(attachment, null, NO_DNS)
const problems = (view: Partial<CheckView>, result = previous) =>
  checkAttachment(attachment, result, { ...good, ...view })
const inPod = (change: object): Partial<CheckView> => ({
  pod: { netnsCookie: '12', pod: { ...pod, ...change } },
})

test('all is well (CNI-151)', () => {
  assert.equal(problems({}), [])
})

test('the result lists both ends, every address with gateway and index, and a default route a family (CNI-071, CNI-072, CNI-073)', () => {
  assert.equal(
    previous.interfaces.map(each => [each.name, each.sandbox]),
    [
      ['twl000000000001', null],
      ['eth0', '/run/netns/x'],
    ],
  )
  assert.equal(previous.ips, [
    { address: '10.0.0.1/32', gateway: '169.254.1.1', interface: 1 },
    { address: 'fd00::1/128', gateway: 'fe80::1', interface: 1 },
  ])
  assert.equal(
    previous.routes.map(each => [each.dst, each.gw]),
    [
      ['0.0.0.0/0', '169.254.1.1'],
      ['::/0', 'fe80::1'],
    ],
  )
})

test('each thing of ours that is missing or wrong is named (CNI-151)', () => {
  const cases: [Partial<CheckView>, RegExp][] = [
    [{ pod: { netnsCookie: '12', pod: null } }, /eth0 is missing/],
    [{ pod: { netnsCookie: '13', pod } }, /not the one that was attached/],
    [inPod({ up: false }), /is down in the container/],
    [inPod({ addresses: [address(6, 'fd00::1')] }), /address 10.0.0.1 is missing/],
    [inPod({ routes: [route(4, '0.0.0.0/0', 'eth0', '169.254.1.1')] }), /IPv6 default route/],
    [inPod({ mac: '02:00:00:00:00:99' }), /MAC/],
    [{ links: [] }, /host interface twl000000000001 is missing/],
    [{ links: [{ ...link(attachment.hostInterface, HOST_MAC), up: false }] }, /is down/],
    [{ links: [link(attachment.hostInterface, '02:00:00:00:00:55')] }, /expected 02:54:57/],
    [{ routes: good.routes.slice(1) }, /route to 10.0.0.1 is missing/],
    [{ neighbours: good.neighbours.slice(0, 1) }, /neighbour entry for fd00::1 is missing/],
    [{ rulesetIntact: false }, /nftables/],
  ]
  for (const [view, expected] of cases) {
    const found = problems(view)
    assert.is(found.length, 1, found.join('; '))
    assert.match(found[0] as string, expected)
  }
})

test('a MAC that tuning changed, extra interfaces and extra routes are tolerated (CNI-152)', () => {
  const changed = previous.interfaces.map(each =>
    each.sandbox === null ? each : { ...each, mac: '02:00:00:00:00:99' },
  )
  const extra = { name: 'ifb0', mac: null, mtu: null, sandbox: null, socketPath: null, pciID: null }
  const result = { ...previous, interfaces: [...changed, extra] }
  const routes = [...pod.routes, route(4, '10.9.0.0/16', 'eth0', '169.254.1.1')]
  assert.equal(problems(inPod({ mac: '02:00:00:00:00:99', routes }), result), [])
})

test('a prevResult without our interface or without its sandbox is an error (CNI-156)', () => {
  const stripped = { ...previous, interfaces: previous.interfaces.map(each => ({ ...each, sandbox: null })) }
  assert.match(problems({}, stripped)[0] as string, 'lists no interface eth0')
})

test('a prevResult without our address is an error', () => {
  assert.match(problems({}, { ...previous, ips: [] })[0] as string, '10.0.0.1')
})

test.run()
