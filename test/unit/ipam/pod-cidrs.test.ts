/** Pools of which each node takes only the podCIDRs that Kubernetes gave it. */
import { test } from 'uvu'
import * as assert from 'uvu/assert'
import type { SlotRecord } from '../../../datastore/records/slot.ts'
import { nodeRangesOf, type PodCidrs, rangesOutside } from '../../../ipam/pod-cidrs.ts'
import { formatCidr, formatRange, parseCidr } from '../../../lib/address.ts'
import { isTwillError, type TwillError } from '../../../lib/errors.ts'
import { settle } from '../../fixtures/manual-clock.ts'
import { Rig, type RigNode } from './rig.ts'

const POOL = 'resources/ippools/default'
const GIVEN: Readonly<Record<string, PodCidrs>> = { a: ['10.0.0.16/28'], b: ['10.0.0.32/28', 'fd00::/64'] }

/** What is given to each may be replaced, as the API server does. */
async function started(given: Record<string, PodCidrs> = { ...GIVEN }, cidr = '10.0.0.0/24') {
  const rig = new Rig()
  await rig.createPool('default', cidr, 29)
  takePodCidrs(rig, 'PodCIDRs')
  const nodes = Object.keys(given).map(name => {
    const node = rig.node(name, { podCidrs: () => given[name] as PodCidrs })
    node.start()
    return node
  })
  await settle()
  const give = async (name: string, podCidrs: PodCidrs) => {
    given[name] = podCidrs
    nodes.find(node => node.name === name)?.ipam?.recheckPools()
    await settle()
  }
  return { rig, give, a: nodes[0] as RigNode, b: nodes[1] as RigNode }
}

function takePodCidrs(rig: Rig, nodeSlots: string) {
  const pool = rig.read<{ spec: object }>(POOL)
  rig.put(POOL, { ...pool, spec: { ...pool?.spec, nodeSlots } })
}

const addressOf = async (node: RigNode, id: string, named: string[] = []) =>
  (await node.add(id, [4], [], named))[0]?.address

async function refusal(node: RigNode, named: string[] = []): Promise<TwillError> {
  const error = await node.add('refused', [4], [], named).catch(each => each)
  assert.ok(isTwillError(error), `granted: ${JSON.stringify(error)}`)
  return error
}

const ownedBy = (rig: Rig, uid: string) =>
  rig
    .under<SlotRecord>('slots/')
    .flatMap(([, { parts }]) => parts.filter(({ owner }) => owner === uid).map(({ cidr }) => cidr))
    .sort()

const reasons = (node: RigNode) =>
  node.ipam
    ?.conditions()
    .map(({ reason }) => reason)
    .join('; ') ?? ''

test('each node takes from its own and nothing else, to the last address, and asks nobody', async () => {
  const { rig, a, b } = await started()
  assert.match((await addressOf(b, 'first')) ?? '', /^10\.0\.0\.(3[2-9]|4[0-7])$/)
  for (let i = 0; i < 16; i++)
    assert.match((await addressOf(a, `p${i}`)) ?? '', /^10\.0\.0\.(1[6-9]|2[0-9]|3[01])$/)
  assert.equal(ownedBy(rig, 'uid-a'), ['10.0.0.16/29', '10.0.0.24/29'])
  const error = await refusal(a)
  assert.is(error.code, 'ipam.exhausted')
  assert.equal(
    rig.under<SlotRecord>('slots/').flatMap(([, { requests }]) => requests),
    [],
  )
  assert.equal([reasons(a), reasons(b)], ['', ''])
})

test('an address asked for by name: within its own, and no other', async () => {
  const { a, b } = await started()
  assert.is(await addressOf(a, 'named', ['10.0.0.30']), '10.0.0.30')
  const foreign = await refusal(b, ['10.0.0.29'])
  assert.is(foreign.code, 'ipam.address-refused')
  assert.match(foreign.message, /it is not in 10\.0\.0\.32\/28, the podCIDRs of this node/)
})

test('what is not there yet is waited for: to be tried again, by its name, for every family', async () => {
  const { a, give } = await started({ a: [] })
  for (const [podCidrs, why] of [
    [[], /IPPool default waits for the podCIDRs of Node a, which has none yet/],
    ['unknown', /IPPool default waits for the podCIDRs of Node a/],
  ] as const) {
    await give('a', podCidrs)
    const error = await refusal(a)
    assert.equal([error.code, error.retryable], ['ipam.not-confirmed', true])
    assert.match(error.message, why)
    assert.match((await refusal(a, ['10.0.0.17'])).message, why)
    assert.match(reasons(a), why)
  }
  await give('a', ['10.0.0.16/28'])
  assert.ok(await addressOf(a, 'p1'))
  assert.is(reasons(a), '')
})

test('while the API server is away what was this node’s stays so, over a restart too', async () => {
  const given: Record<string, PodCidrs> = { ...GIVEN }
  const { a, give } = await started(given)
  await addressOf(a, 'p1')
  await give('a', 'unknown')
  assert.ok(await addressOf(a, 'p2'))
  a.kill()
  a.setUnavailable(true)
  a.start()
  await settle()
  assert.match(
    (await refusal(a, ['10.0.0.99'])).message,
    /it is not in 10\.0\.0\.16\/28, the podCIDRs of this node/,
  )
  assert.match((await addressOf(a, 'p3')) ?? '', /^10\.0\.0\.(1[6-9]|2[0-9]|3[01])$/)
})

test('without Kubernetes, outside the pool, or smaller than a slot: refused, and told', async () => {
  for (const [podCidrs, why] of [
    ['none', /IPPool default is for podCIDRs of Kubernetes, and this node is in no such cluster/],
    [['10.1.0.0/28'], /IPPool default has none of the podCIDRs 10\.1\.0\.0\/28 of Node a in it/],
    [['nonsense'], /has none of the podCIDRs nonsense of Node a in it/],
    [
      ['10.0.0.0/30'],
      /cannot give whole slots of \/29 out of the podCIDRs 10\.0\.0\.0\/30 of Node a: blockSize/,
    ],
  ] as const) {
    const { rig, a } = await started({ a: podCidrs })
    assert.is((await refusal(a)).code, 'ipam.no-pool')
    assert.match((await refusal(a)).message, why)
    assert.match(reasons(a), why)
    assert.equal(ownedBy(rig, 'uid-a'), [])
  }
})

test('two Nodes with one podCIDR: each slot has one owner, and who finds others there says so', async () => {
  const { rig, a, b } = await started({ a: ['10.0.0.16/28'], b: ['10.0.0.16/28'] })
  const given = [await addressOf(a, 'pa'), await addressOf(b, 'pb')]
  assert.is(new Set(given).size, 2)
  assert.equal([ownedBy(rig, 'uid-a').length, ownedBy(rig, 'uid-b').length], [1, 1])
  assert.match(reasons(a), /node b owns 1 part of 10\.0\.0\.16\/28, the podCIDRs of this node/)
  for (let i = 0; i < 7; i++) await addressOf(a, `p${i}`)
  assert.is((await refusal(a)).code, 'ipam.exhausted')
  const taken = await refusal(a, [String(given[1])])
  assert.match(taken.message, /another node owns it, which gives nothing of it/)
})

test('a pool that becomes one of podCIDRs: pods stay, what lies outside goes back, and the other way round', async () => {
  const { rig, a } = await started()
  takePodCidrs(rig, 'Any')
  await settle()
  const stays = await addressOf(a, 'stays')
  await later(rig)
  takePodCidrs(rig, 'PodCIDRs')
  await settle()
  assert.match((await addressOf(a, 'p1')) ?? '', /^10\.0\.0\.(1[6-9]|2[0-9]|3[01])$/)
  assert.is(a.ipam?.holders().find(({ holder }) => holder.id === 'stays')?.addresses[0]?.address, stays)
})

const later = (rig: Rig) => rig.clock.advance(100)

test('a Node that gets others: its pods stay, new ones take from what it has now', async () => {
  const { a, give } = await started()
  await addressOf(a, 'p1')
  await give('a', ['10.0.0.64/28'])
  assert.match((await addressOf(a, 'p2')) ?? '', /^10\.0\.0\.(6[4-9]|7[0-9])$/)
})

test('what is a node’s of a pool, and what is not', () => {
  const pool = { cidr: parseCidr('10.0.0.0/16'), slotPrefix: 26 }
  const of = (podCidrs: PodCidrs) => nodeRangesOf(pool, podCidrs, 'n', null).cidrs.map(formatCidr)
  assert.equal(of(['fd00::/64', '10.0.3.0/24', '10.0.1.0/24']), ['10.0.1.0/24', '10.0.3.0/24'])
  assert.equal(of(['10.0.0.0/8']), ['10.0.0.0/16'], 'one that holds the pool')
  const mixed = nodeRangesOf(pool, ['10.0.1.0/24', '10.0.2.0/28'], 'n', null)
  assert.equal(mixed.cidrs.map(formatCidr), ['10.0.1.0/24'])
  assert.match(mixed.problem ?? '', /blockSize/)
  const outside = (cidrs: string[]) => rangesOutside(pool.cidr, cidrs.map(parseCidr)).map(formatRange)
  assert.equal(outside(['10.0.1.0/24', '10.0.3.0/24']), [
    '10.0.0.0-10.0.0.255',
    '10.0.2.0-10.0.2.255',
    '10.0.4.0-10.0.255.255',
  ])
  assert.equal(outside(['10.0.0.0/16']), [])
  assert.equal(outside([]), ['10.0.0.0-10.0.255.255'])
})

test('an IPv6 pool of many more slots than anybody could walk through', async () => {
  const rig = new Rig()
  await rig.createPool('default', 'fd00::/48', 122)
  takePodCidrs(rig, 'PodCIDRs')
  const node = rig.node('a', { podCidrs: () => ['10.0.0.0/24', 'fd00:0:0:7::/64'] })
  node.start()
  await settle()
  const [held] = await node.add('p1', [6])
  assert.match(held?.address ?? '', /^fd00:0:0:7:/)
})

test.run()
