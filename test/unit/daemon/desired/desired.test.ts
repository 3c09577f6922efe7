import { test } from 'uvu'
import * as assert from 'uvu/assert'
import { attachmentMtu, desired } from '../../../../daemon/desired/desired.ts'
import { routeSource } from '../../../../daemon/desired/pods.ts'
import { desiredRules, rulesInput } from '../../../../daemon/desired/rules.ts'
import { steady } from '../../../../daemon/desired/steady.ts'
import { attachment, facts, node, pool, self, slot, UNDERLAY } from '../cluster-facts.ts'

test('a pod has a route and a neighbour entry per address; the source is the node`s own of that family, else the tunnel`s', () => {
  const { routes, neighbours, addresses } = desired(facts())
  const own = routes.filter(({ device }) => device === 'twl000000000001')
  assert.equal(
    own.map(({ dst, src, scope, metric }) => [dst, src, scope, metric]),
    [
      ['10.244.1.1/32', '192.168.77.1', 253, 0],
      ['fd00:244::101/128', 'fd00:244::100', 253, 1024],
    ],
  )
  assert.is(neighbours.filter(({ mac }) => mac === '02:aa:00:00:00:01').length, 2)
  assert.equal(
    addresses.filter(({ device }) => device.startsWith('twl0')).map(({ address }) => address),
    ['fe80::1', 'fe80::1'],
  )
  assert.is(routeSource({ underlay: {}, tunnel: {} }, 4), null)
})

test('the IPv4 gateway is on lo, with link scope, for every node', () => {
  const { addresses } = desired(facts({ attachments: [], pools: [] }))
  assert.equal(addresses, [
    { device: 'lo', family: 4, address: '169.254.1.1', prefix: 32, scope: 253, nodad: false },
  ])
})

test('incomplete facts desire this node`s own pods only', () => {
  const state = desired(facts({ known: false, complete: false }))
  assert.equal(state.links, [])
  assert.equal(state.fdb, [])
  assert.is(state.routes.length, 4)
})

test('IPv6 is not forwarded where nothing is IPv6', () => {
  const only4 = facts({ pools: [pool('v4', '10.244.0.0/16')], attachments: [] })
  assert.equal(
    desired(only4)
      .sysctls.map(({ path }) => path)
      .includes('net/ipv6/conf/all/forwarding'),
    false,
  )
})

test('who owns a single address by the slots gets its route, not a pod here that thinks so too', () => {
  const slots = new Map([
    ...facts().slots,
    ['slots/uid-v4/10.244.1.0-26', slot(['10.244.1.1/32', 'uid-node2'])],
  ])
  const routes = desired(facts({ slots })).routes.filter(({ dst }) => dst === '10.244.1.1/32')
  assert.equal(
    routes.map(({ gateway }) => gateway),
    ['10.244.2.0'],
  )
})

test('a record that holds what is no address costs its own node the routes, and no other', () => {
  const nodes = [node(1), node(2, { underlay: { 4: '192.168.77.2.5' } }), node(3)]
  assert.equal(
    desired(facts({ nodes })).fdb.map(({ dst }) => dst),
    ['192.168.77.3'],
  )
  assert.equal(
    rulesInput(facts({ nodes })).peers.map(({ underlay }) => underlay),
    [['192.168.77.3']],
  )
})

test('a pod`s MTU is the smallest of the paths of its pools', () => {
  const jumbo = { self: self({ underlay: { 4: { ...UNDERLAY, mtu: 9000 } } }), pools: facts().pools }
  assert.is(
    attachmentMtu(
      jumbo,
      jumbo.pools.map(each => each.metadata.uid ?? ''),
    ),
    8950,
  )
  const mixed = {
    ...jumbo,
    pools: [pool('v4', '10.244.0.0/16'), pool('flat', '10.9.0.0/16', { encapsulation: 'Never' })],
  }
  assert.is(attachmentMtu(mixed, ['uid-flat']), 9000)
  assert.is(attachmentMtu(mixed, ['uid-flat', 'uid-v4']), 8950)
})

test('a mode counts as what it stands for, also in a pool that a daemon created from its configuration', () => {
  const bare = pool('flat', '10.9.0.0/16')
  const { encapsulation: _, routes: __, ...spec } = bare.spec
  const overlay = (mode: 'vxlan' | 'direct') =>
    rulesInput(facts({ pools: [{ ...bare, spec: { ...spec, mode } }] })).pools[0]?.encapsulation
  assert.equal([overlay('vxlan'), overlay('direct')], ['Always', 'Never'])
})

test('rules: where pods of a pool go under their own addresses, as the pool says', () => {
  const plain = pool('v4', '10.244.0.0/16')
  const natOutgoingExclusions = ['192.0.2.0/24']
  const pools = [plain, pool('other', '10.9.0.0/16', { natOutgoingExclusions })]
  assert.equal(
    rulesInput(facts({ pools })).pools.map(({ natExclusions }) => natExclusions),
    [[], natOutgoingExclusions],
  )
})

test('rules: peers and what lives behind them, all nodes` addresses, and every attachment, at work or not', () => {
  const input = rulesInput(
    facts({ attachments: [attachment(1), attachment(2, { busy: true, state: 'attaching' })] }),
  )
  assert.equal(input.peers, [
    { underlay: ['192.168.77.2'], sources: ['10.244.2.0/26', 'fd00:244::200/122'] },
    { underlay: ['192.168.77.3'], sources: ['10.244.3.0/26', 'fd00:244::300/122'] },
  ])
  assert.equal(input.nodeAddresses, [
    '172.30.0.1',
    '172.30.0.2',
    '172.30.0.3',
    '192.168.77.1',
    '192.168.77.2',
    '192.168.77.3',
  ])
  assert.is(input.endpoints.length, 2)
  assert.equal(input.nodeSource, { 4: '192.168.77.1', 6: 'fd00:244::100' })
})

test('what others must accept: forwarding for pods and tunnel, VXLAN and replies into the node', () => {
  const { acceptChains } = desiredRules(facts())
  const text = acceptChains.map(
    ({ hook, family, matches }) => `${hook}${family}: ${matches.map(m => m.join(' ')).join(' | ')}`,
  )
  assert.equal(text, [
    'forward4: -i twl+ | -o twl+ | -i twill-vx4 | -o twill-vx4',
    'forward6: -i twl+ | -o twl+ | -i twill-vx4 | -o twill-vx4',
    'input4: -p udp --dport 4789 | -i twl+ -m conntrack --ctstate RELATED,ESTABLISHED | -i twill-vx4 -m conntrack --ctstate RELATED,ESTABLISHED',
    'input6: -i twl+ -p ipv6-icmp | -i twl+ -m conntrack --ctstate RELATED,ESTABLISHED | -i twill-vx4 -m conntrack --ctstate RELATED,ESTABLISHED',
  ])
})

test('an attachment that changed while the kernel was looked at counts as busy', () => {
  const before = facts({ attachments: [attachment(1), attachment(2), attachment(3)] })
  const after = facts({
    attachments: [attachment(1), attachment(2, { podMac: '02:bb:00:00:00:02' }), attachment(4)],
  })
  const busy = Object.fromEntries(steady(before, after).attachments.map(({ id, busy }) => [id, busy]))
  assert.equal(busy, { attachment1: false, attachment2: true, attachment4: true, attachment3: true })
})

test('rule 18: a pool for ipam leads to no route, blackhole, rule, tunnel or forwarding, whoever owns its parts', () => {
  const ipam = { allowedUses: ['ipam' as const] }
  const before = facts({ pools: [pool('v4', '10.244.0.0/16')], attachments: [] })
  const slots = new Map([
    ...before.slots,
    ['slots/uid-lan/10.50.0.0-26', slot(['10.50.0.0/26', 'uid-node1'])],
    ['slots/uid-lan/10.50.0.64-26', slot(['10.50.0.64/26', 'uid-node2'])],
    ['slots/uid-lan6/fd50::-122', slot(['fd50::/122', 'uid-node1'])],
  ])
  const pools = [...before.pools, pool('lan', '10.50.0.0/16', ipam), pool('lan6', 'fd50::/112', ipam)]
  const after = facts({ pools, slots, attachments: [] })
  assert.equal(desired(after), desired(before))
  assert.equal(desiredRules(after), desiredRules(before))
  assert.is(attachmentMtu(after, ['uid-lan']), 1500)
})

test('of what is the same object as before nothing is worked out again; what depends on what changed is', () => {
  const first = facts()
  const before = desired(first)
  const changed = { ...first, attachments: [first.attachments[0]!, attachment(2, { mtu: 1400 })] }
  const after = desired(changed)
  const ofPod = <T extends { readonly device?: string }>(objects: readonly T[], name: string) =>
    objects.filter(({ device }) => device === name)
  for (const kind of ['hostEnds', 'addresses', 'routes', 'neighbours'] as const) {
    const of = (name: string) => [before, after].map(each => ofPod<{ device?: string }>(each[kind], name))
    const [old, now] = of('twl000000000001')
    assert.ok(now!.length > 0 && now!.every((each, i) => each === old![i]), kind)
    const [other, anew] = of('twl000000000002')
    assert.is.not(anew![0], other![0])
  }
  assert.is(after.hostEnds[1]?.mtu, 1400)
  assert.is(after.fdb, before.fdb, 'the overlay')
  const renumbered = desired({
    ...first,
    self: self({ underlay: { 4: { ...UNDERLAY, address: '192.168.77.8' } }, arpIgnore: 1 }),
  })
  assert.is(ofPod(renumbered.routes, 'twl000000000001')[0]?.src, '192.168.77.8')
  assert.is(ofPod(renumbered.addresses, 'twl000000000001').length, 2, 'the gateway on the host end')
  assert.is(renumbered.links[0]?.vxlan.local, '192.168.77.8')
  assert.is(desired({ ...first, nodes: [node(1), node(2)] }).fdb.length, before.fdb.length - 1)
  assert.equal(desired({ ...first, pools: [] }).fdb, [])
})

test.run()
