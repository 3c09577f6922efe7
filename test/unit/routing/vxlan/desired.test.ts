import { test } from 'uvu'
import * as assert from 'uvu/assert'
import { ownedParts } from '../../../../routing/parts.ts'
import { overlayState } from '../../../../routing/vxlan/desired.ts'
import { vtepMac } from '../../../../routing/vxlan/vtep.ts'
import { facts, node, pool, self, slot } from '../../daemon/cluster-facts.ts'

function overlay(more: Parameters<typeof facts>[0] = {}) {
  const all = facts(more)
  return overlayState(all.self, all.nodes, all.pools, ownedParts(all.slots, all.pools))
}

const routeTo = (state: ReturnType<typeof overlay>, dst: string) =>
  state.routes.filter(route => route.dst === dst)

test('a part of a peer leads through the tunnel to its tunnel address of the same family', () => {
  const state = overlay()
  assert.equal(routeTo(state, '10.244.2.0/26'), [
    {
      family: 4,
      dst: '10.244.2.0/26',
      type: 'unicast',
      device: 'twill-vx4',
      gateway: '10.244.2.0',
      src: '10.244.1.0',
      metric: 0,
      scope: 0,
      onlink: true,
    },
  ])
  const [v6] = routeTo(state, 'fd00:244::200/122')
  assert.is(v6?.gateway, 'fd00:244::200')
  assert.is(v6?.src, 'fd00:244::100')
  assert.is(v6?.device, 'twill-vx4')
})

test('a peer has neighbour entries for both tunnel addresses and one FDB entry, all with its VTEP MAC', () => {
  const { neighbours, fdb } = overlay()
  const mac = vtepMac('uid-node2')
  assert.equal(
    neighbours.filter(entry => entry.mac === mac).map(({ address }) => address),
    ['10.244.2.0', 'fd00:244::200'],
  )
  assert.equal(
    fdb.filter(entry => entry.mac === mac),
    [{ device: 'twill-vx4', mac, dst: '192.168.77.2' }],
  )
})

test('while one tunnel address replaces another the device has both; what is sent bears the one that is told', () => {
  const state = overlay({ self: self({ besideTunnel: [{ family: 4, address: '10.8.0.1' }] }) })
  assert.equal(
    state.addresses.map(({ address, prefix }) => `${address}/${prefix}`),
    ['10.244.1.0/32', 'fd00:244::100/128', '10.8.0.1/32'],
  )
  assert.is(routeTo(state, '10.244.2.0/26')[0]?.src, '10.244.1.0')
})

test('this node is no peer of itself; its parts are black holes; what nobody owns is unreachable', () => {
  const state = overlay()
  assert.not(state.fdb.some(({ dst }) => dst === '192.168.77.1'))
  assert.equal(
    routeTo(state, '10.244.1.0/26').map(({ type }) => type),
    ['blackhole'],
  )
  assert.equal(
    routeTo(state, '10.244.0.0/16').map(({ type, metric }) => [type, metric]),
    [['unreachable', 0xffffffff]],
  )
  assert.equal(routeTo(state, '10.244.9.0/26'), [])
})

test('the device is bound to the underlay, has its MTU less 50, and the MAC of the node', () => {
  const [device] = overlay().links
  assert.equal(device, {
    name: 'twill-vx4',
    mac: vtepMac('uid-node1'),
    mtu: 1450,
    alias: 'twill:vxlan',
    vxlan: { vni: 4242, port: 4789, local: '192.168.77.1', underlay: 'eth0', learning: false },
  })
})

test('a single address held outside its block has a route of its own', () => {
  const slots = new Map([
    ['slots/uid-v4/10.244.1.0-26', slot(['10.244.1.0/27', 'uid-node1'], ['10.244.1.63/32', 'uid-node2'])],
    ['slots/uid-v4/10.244.2.0-26', slot(['10.244.2.0/26', 'uid-node2'])],
  ])
  assert.is(routeTo(overlay({ slots }), '10.244.1.63/32')[0]?.gateway, '10.244.2.0')
})

test('a tunnel address outside the peer`s own parts is not believed', () => {
  const nodes = [node(1), node(2, { tunnel: { 4: '10.244.3.0' } }), node(3)]
  const state = overlay({ nodes })
  assert.equal(
    state.neighbours.filter(({ address }) => address === '10.244.3.0').map(({ mac }) => mac),
    [vtepMac('uid-node3')],
  )
  assert.equal(routeTo(state, '10.244.2.0/26'), [])
})

test('of two records with one VTEP MAC the owner of parts has the FDB entry', () => {
  const stale = node(2, { uid: 'uid-before', underlay: { 4: '192.168.77.99' } })
  for (const nodes of [
    [node(1), node(2), stale],
    [node(1), stale, node(2)],
  ])
    assert.equal(
      overlay({ nodes }).fdb.map(({ dst }) => dst),
      ['192.168.77.2'],
    )
})

test('slots of a pool that is gone lead nowhere, and a damaged part harms no other', () => {
  const slots = new Map([
    ['slots/uid-gone/10.9.0.0-26', slot(['10.9.0.0/26', 'uid-node2'])],
    ['slots/uid-v4/10.244.2.0-26', slot(['10.244.2.0/26', 'uid-node2'], ['10.244.2.300/26', 'uid-node2'])],
  ])
  const dsts = overlay({ slots }).routes.map(({ dst }) => dst)
  assert.equal(dsts, ['10.244.2.0/26', '10.244.0.0/16', 'fd00:244::/48'])
})

test('without encapsulation there is no device, but own parts stay black holes', () => {
  const state = overlay({ pools: [pool('v4', '10.244.0.0/16', { encapsulation: 'Never' })] })
  assert.equal(state.links, [])
  assert.equal(
    state.routes.map(({ dst, type }) => [dst, type]),
    [['10.244.1.0/26', 'blackhole']],
  )
})

test('of two records of one UID the one that leads somewhere counts: a node that is being renamed stays reached', () => {
  const blank = { ...node(2), name: 'node9', underlay: {}, vteps: [], tunnel: {} }
  for (const nodes of [
    [node(1), node(2), blank],
    [node(1), blank, node(2)],
  ])
    assert.is(routeTo(overlay({ nodes }), '10.244.2.0/26')[0]?.gateway, '10.244.2.0')
})

test.run()
