/** Slots of many owners, and parts that move, as a node sees them that has nothing in them. */
import { test } from 'uvu'
import * as assert from 'uvu/assert'
import { desired } from '../../../../daemon/desired/desired.ts'
import type { Facts } from '../../../../daemon/desired/facts.ts'
import { rulesInput } from '../../../../daemon/desired/rules.ts'
import { plan } from '../../../../daemon/plan/plan.ts'
import { facts, node, slot } from '../cluster-facts.ts'
import { KernelModel, link } from '../kernel-model.ts'

const SLOT = 'slots/uid-v4/10.244.7.0-26'
const GATEWAYS: Readonly<Record<string, string>> = { '10.244.2.0': 'node2', '10.244.3.0': 'node3' }

/** The cluster of cluster-facts without pods here, and one slot that is cut into these parts. */
function cluster(...parts: Parameters<typeof slot>): Facts {
  const before = facts({ attachments: [] })
  return { ...before, slots: new Map([...before.slots, [SLOT, slot(...parts)]]) }
}

/** Where what is in that slot goes: to a node, into a blackhole, or nowhere of its own. */
const ways = (now: Facts) =>
  desired(now)
    .routes.filter(({ dst }) => dst.startsWith('10.244.7.'))
    .map(({ dst, type, gateway }) => `${dst} ${type === 'unicast' ? GATEWAYS[gateway ?? ''] : type}`)
    .sort()

const sourcesOf = (now: Facts) =>
  Object.fromEntries(
    rulesInput(now).peers.map(({ underlay, sources }) => [
      underlay[0],
      sources.filter(source => source.startsWith('10.244.7.')),
    ]),
  )

/** The steps from a kernel that stands as `before` to `after`. */
function steps(before: Facts, after: Facts): string[] {
  const kernel = new KernelModel()
  kernel.addLink(link('eth0'))
  kernel.addUplinkAddress()
  for (const { step } of plan(desired(before), kernel.observed()).changes) kernel.run(step)
  return plan(desired(after), kernel.observed()).changes.map(({ step, key }) => `${step.type} ${key}`)
}

const shared = cluster(
  ['10.244.7.0/27', 'uid-node2'],
  ['10.244.7.32/28', 'uid-node3'],
  ['10.244.7.48/29', 'uid-node1'],
  ['10.244.7.56/32', 'uid-node2'],
  ['10.244.7.57/32', 'uid-node3'],
  ['10.244.7.58/31', null],
  ['10.244.7.60/30', 'uid-nobody'],
)

test('each part of a slot leads to its own owner; what is free, or of a node nobody knows, to none', () => {
  assert.equal(ways(shared), [
    '10.244.7.0/27 node2',
    '10.244.7.32/28 node3',
    '10.244.7.48/29 blackhole',
    '10.244.7.56/32 node2',
    '10.244.7.57/32 node3',
  ])
  assert.equal(sourcesOf(shared), {
    '192.168.77.2': ['10.244.7.0/27', '10.244.7.56/32'],
    '192.168.77.3': ['10.244.7.32/28', '10.244.7.57/32'],
  })
})

test('a part that changes owner: its one route is changed in place, and nothing else is touched', () => {
  const [before, after] = [
    cluster(['10.244.7.0/27', 'uid-node2'], ['10.244.7.32/27', 'uid-node2']),
    cluster(['10.244.7.0/27', 'uid-node2'], ['10.244.7.32/27', 'uid-node3']),
  ]
  assert.equal(steps(before, after), ['route.replace 10.244.7.32/27 metric 0'])
  assert.equal(ways(after), ['10.244.7.0/27 node2', '10.244.7.32/27 node3'])
  assert.equal(sourcesOf(after)['192.168.77.3'], ['10.244.7.32/27'])
})

test('an address that leaves a part: the pieces have their routes before that of the whole goes', () => {
  const whole = cluster(['10.244.7.0/26', 'uid-node2'])
  const split = cluster(
    ['10.244.7.0/27', 'uid-node2'],
    ['10.244.7.32/28', 'uid-node2'],
    ['10.244.7.48/32', 'uid-node3'],
    ['10.244.7.49/32', 'uid-node2'],
  )
  const apart = steps(whole, split)
  assert.equal([...apart].sort(), [
    'route.delete 10.244.7.0/26 metric 0',
    'route.replace 10.244.7.0/27 metric 0',
    'route.replace 10.244.7.32/28 metric 0',
    'route.replace 10.244.7.48/32 metric 0',
    'route.replace 10.244.7.49/32 metric 0',
  ])
  assert.is(apart.at(-1), 'route.delete 10.244.7.0/26 metric 0')
  assert.is(steps(split, whole)[0], 'route.replace 10.244.7.0/26 metric 0')
})

test('a part that comes to this node is a blackhole here and no way to its old owner', () => {
  const [before, after] = [
    cluster(['10.244.7.0/26', 'uid-node2']),
    cluster(['10.244.7.0/27', 'uid-node2'], ['10.244.7.32/27', 'uid-node1']),
  ]
  assert.equal(ways(after), ['10.244.7.0/27 node2', '10.244.7.32/27 blackhole'])
  assert.is(steps(before, after).at(-1), 'route.delete 10.244.7.0/26 metric 0')
})

test('the part with a peer`s tunnel address moves: no route by it, until his record has another', () => {
  const before = cluster(['10.244.7.0/26', 'uid-node2'])
  const moved: Facts = {
    ...before,
    slots: new Map([...before.slots, ['slots/uid-v4/10.244.2.0-26', slot(['10.244.2.0/26', 'uid-node3'])]]),
  }
  assert.equal(ways(moved), [])
  const told = { ...moved, nodes: [node(1), node(2, { tunnel: { 4: '10.244.7.1' } }), node(3)] }
  const route = desired(told).routes.find(({ dst }) => dst === '10.244.7.0/26')
  assert.is(route?.gateway, '10.244.7.1')
})

test.run()
