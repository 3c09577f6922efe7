import { test } from 'uvu'
import * as assert from 'uvu/assert'
import { chooseUnderlay, type UnderlayView } from '../../../daemon/node/underlay.ts'
import type { Link, LinkAddress, Route } from '../../../kernel/kernel.ts'
import { VXLAN_ALIAS } from '../../../kernel/ownership.ts'
import { isTwillError } from '../../../lib/errors.ts'

const link = (index: number, name: string, extra: Partial<Link> = {}): Link => ({
  index,
  name,
  kind: null,
  mac: '02:00:00:00:00:01',
  mtu: 1500,
  up: true,
  carrier: true,
  loopback: false,
  alias: null,
  group: 0,
  peerIndex: null,
  master: null,
  vxlan: null,
  ...extra,
})

const address = (device: string, text: string, scope = 0): LinkAddress => ({
  device,
  family: text.includes(':') ? 6 : 4,
  address: text,
  prefix: 24,
  scope,
  tentative: false,
  nodad: false,
  permanent: true,
})

const route = (device: string, dst: string, extra: Partial<Route> = {}): Route => ({
  family: dst.includes(':') ? 6 : 4,
  dst,
  type: 'unicast',
  device,
  gateway: null,
  src: null,
  metric: 0,
  protocol: 2,
  table: 254,
  scope: 0,
  onlink: false,
  mtu: null,
  ...extra,
})

const view: UnderlayView = {
  links: [
    link(1, 'lo', { loopback: true }),
    link(2, 'eth0'),
    link(3, 'eth1', { mtu: 9000 }),
    link(4, 'docker0'),
    link(5, 'twill-vx4', { alias: VXLAN_ALIAS }),
    link(6, 'twl000000000001'),
  ],
  addresses: [
    address('lo', '127.0.0.1', 254),
    address('eth0', '192.168.77.11'),
    address('eth0', 'fd77::11'),
    address('eth0', 'fe80::1', 253),
    address('eth1', '10.9.0.1'),
    address('eth1', '10.9.0.2'),
    address('docker0', '172.17.0.1'),
    address('twill-vx4', '10.244.0.0'),
  ],
  routes: [route('eth1', '0.0.0.0/0', { metric: 100 }), route('eth0', '0.0.0.0/0')],
  reachRoute: null,
}

test('the default route of the lowest metric decides, and the reason says so', () => {
  assert.equal(chooseUnderlay({}, view), [
    {
      family: 4,
      device: 'eth0',
      address: '192.168.77.11',
      mtu: 1500,
      reason: 'the default route leaves by it',
    },
    { family: 6, device: 'eth0', address: 'fd77::11', mtu: 1500, reason: 'the default route leaves by it' },
  ])
})

test('by name', () => {
  const [choice] = chooseUnderlay({ interface: 'docker0' }, view)
  assert.is(choice?.address, '172.17.0.1')
  assert.is(choice?.reason, 'named in the configuration')
})

test('by pattern: the first that matches, never one of our own links, and a dot is a dot', () => {
  assert.is(chooseUnderlay({ interface: 'eth*' }, view)[0]?.device, 'eth0')
  assert.is(chooseUnderlay({ interface: 'eth*' }, view)[0]?.reason, 'the first of 2 that match eth*')
  assert.throws(() => chooseUnderlay({ interface: 'twill*' }, view))
  assert.throws(() => chooseUnderlay({ interface: 'eth.' }, view))
})

test("by reachability: the route's own source address is taken", () => {
  const reachRoute = route('eth1', '10.9.0.77/32', { src: '10.9.0.2' })
  const [choice] = chooseUnderlay({ reach: '10.9.0.77' }, { ...view, reachRoute })
  assert.is(choice?.device, 'eth1')
  assert.is(choice?.address, '10.9.0.2')
  assert.is(choice?.mtu, 9000)
  assert.is(choice?.reason, '10.9.0.77 is reached by it')
})

test('nothing fits: the error names the wish and what there is, and may pass by itself', () => {
  const failure = (wish: object, over: UnderlayView = view) => {
    try {
      chooseUnderlay(wish, over)
    } catch (error) {
      return error
    }
    return null
  }
  const named = failure({ interface: 'bond0' })
  assert.ok(isTwillError(named, 'config.invalid') && named.retryable)
  assert.match((named as Error).message, 'bond0')
  assert.match((named as Error).message, 'eth0, eth1, docker0')
  assert.match((failure({ reach: '1.2.3.4' }) as Error).message, '1.2.3.4')
  assert.match((failure({}, { ...view, routes: [] }) as Error).message, 'default route')
})

test.run()
