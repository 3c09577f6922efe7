/** Which pools a pod is given addresses from, and why it is given none. */
import { test } from 'uvu'
import * as assert from 'uvu/assert'
import { familiesOf, type PoolQuery, poolOfAddress, poolsOf } from '../../../ipam/choose-pools.ts'
import { type KnownPool, NOTHING_WITHHELD } from '../../../ipam/pool-view.ts'
import { parseCidr, parseIp } from '../../../lib/address.ts'
import { isTwillError } from '../../../lib/errors.ts'
import { settle } from '../../fixtures/manual-clock.ts'
import { holder, Rig } from './rig.ts'

function known(name: string, cidr: string, changes: Partial<KnownPool> = {}): KnownPool {
  return {
    uid: `uid-${name}`,
    name,
    cidr: parseCidr(cidr),
    slotPrefix: 26,
    disabled: false,
    here: true,
    namespaceSelector: null,
    uses: ['pod', 'tunnel'],
    gateway: null,
    nodeRanges: null,
    withheld: NOTHING_WITHHELD,
    open: true,
    covers: null,
    ending: null,
    ...changes,
  }
}

const POOLS = [
  known('a4', '10.0.0.0/16'),
  known('b4', '10.1.0.0/16'),
  known('old4', '10.2.0.0/16', { disabled: true }),
  known('v6', 'fd00::/112'),
]
const view = (pools: readonly KnownPool[] = POOLS) => ({ pools, conditions: () => [] })
const query = (changes: Partial<PoolQuery> = {}): PoolQuery => ({
  use: 'pod',
  namespace: null,
  families: [],
  pools: [],
  ...changes,
})
const names = (of: PoolQuery, family: 4 | 6 = 4, pools = POOLS) =>
  poolsOf(of, family, view(pools)).map(tier => tier.map(({ name }) => name).join('+'))

function messageOf(call: () => unknown): string {
  try {
    call()
  } catch (error) {
    assert.ok(isTwillError(error), String(error))
    return `${error.code}: ${error.message}`
  }
  throw new Error('granted')
}

test('what the pod names comes before what the network names, and that before all; each family by itself', () => {
  assert.equal(names(query()), ['a4+b4'])
  assert.equal(names(query({ pools: ['b4'] })), ['b4'])
  const podPools = { 4: ['b4', 'a4'], 6: [] }
  assert.equal(names(query({ pools: ['a4', 'v6'], podPools })), ['b4', 'a4'])
  assert.equal(names(query({ pools: ['a4', 'v6'], podPools }), 6), ['v6'])
  assert.equal(familiesOf(query({ pools: ['a4'], podPools: { 4: [], 6: ['v6'] } }), view()), [4, 6])
})

test('a pool that the pod names and that cannot be used is refused with the reason: no other takes its place', () => {
  const refusal = (name: string) => {
    const wish = query({ podPools: { 4: [name], 6: [] } })
    assert.ok(familiesOf(wish, view()).includes(4))
    return messageOf(() => names(wish))
  }
  const start = (name: string) =>
    `ipam.no-pool: no enabled pool named ${name} for IPv4 (annotation twill.network/ipv4-pool of the pod); `
  assert.is(refusal('old4'), `${start('old4')}IPPool old4 is disabled`)
  assert.is(refusal('v6'), `${start('v6')}IPPool v6 is for IPv6`)
  assert.is(refusal('none'), `${start('none')}there is no IPPool none`)
})

test('a namespace says nothing of addresses of a use that none of its pools is for', () => {
  const pools = [...POOLS, known('lan', '10.9.0.0/24', { uses: ['ipam'] })]
  const of = (use: 'pod' | 'ipam', ...named: string[]) =>
    query({
      use,
      namespace: { name: 'shop', labels: {}, isKnown: true, problem: null, pools: { 4: named, 6: [] } },
      pools: use === 'ipam' ? ['lan'] : ['a4'],
    })
  assert.equal(names(of('ipam', 'b4'), 4, pools), ['lan'], 'its pods have a network of another plugin too')
  assert.equal(names(of('pod', 'lan'), 4, pools), ['a4'])
  assert.equal(names(of('pod', 'lan', 'b4'), 4, pools), ['b4'])
  assert.equal(names(of('ipam', 'lan', 'b4'), 4, pools), ['lan'])
  assert.equal(familiesOf(of('ipam', 'b4'), view(pools)), [4])
  for (const use of ['pod', 'ipam'] as const)
    assert.match(
      messageOf(() => poolsOf(of(use, 'lann'), 4, view(pools))),
      /there is no IPPool lann/,
    )
})

test('a family that the network does not give is refused, naming the annotation', () => {
  const message = messageOf(() =>
    familiesOf(query({ families: [4], podPools: { 4: [], 6: ['v6'] } }), view()),
  )
  assert.match(message, /gives no IPv6 addresses, and twill\.network\/ipv6-pool asks for one/)
})

test('an address comes from the pool that the pod names, or it is refused', () => {
  const podPools = { 4: ['b4'], 6: [] }
  assert.is(poolOfAddress(query({ podPools }), parseIp('10.1.0.9'), view()).name, 'b4')
  assert.is(poolOfAddress(query(), parseIp('10.0.0.9'), view()).name, 'a4')
  assert.match(
    messageOf(() => poolOfAddress(query({ podPools }), parseIp('10.0.0.9'), view())),
    /10\.0\.0\.9 cannot be given: IPPool a4 is not what twill\.network\/ipv4-pool names: b4/,
  )
})

test('without a pool of any family the reasons are told, not more than a person reads', () => {
  const pools = Array.from({ length: 30 }, (_, i) => known(`p${i}`, `10.${i}.0.0/16`, { disabled: true }))
  const message = messageOf(() => familiesOf(query(), view(pools)))
  assert.match(message, /no enabled pool; IPPool p0 is disabled; /)
  assert.is(message.match(/is disabled/g)?.length, 8)
})

test('a pool that is not open is being removed, or not entered yet', () => {
  const refusal = (changes: Partial<KnownPool>) =>
    messageOf(() => poolsOf(query(), 4, view([known('p', '10.0.0.0/16', { open: false, ...changes })])))
  assert.match(refusal({}), /; IPPool p is not entered yet$/)
  for (const ending of ['asked', 'closed', 'emptied'] as const)
    assert.match(refusal({ ending }), /; IPPool p is being removed$/)
})

test('of a pool that is named nothing is told of the trouble of others', () => {
  const conditions = () => [
    { pool: 'other', reason: 'overlaps' },
    { pool: 'old4', reason: 'changed' },
    { pool: 'all', reason: 'damaged' },
  ]
  const refusal = (...pools: string[]) =>
    messageOf(() => poolsOf(query({ pools }), 4, { pools: POOLS, conditions }))
  assert.match(refusal('nosuch'), /; there is no IPPool nosuch; all: damaged$/)
  assert.match(refusal('old4'), /; IPPool old4 is disabled; old4: changed; all: damaged$/)
})

test('a node gives from the pool that the pod names, also when it owns no part of it yet, and nothing when it cannot', async () => {
  const rig = new Rig()
  await rig.createPool('a4', '10.0.0.0/24', 28)
  await rig.createPool('b4', '10.1.0.0/24', 28)
  const node = rig.node('n')
  node.start()
  await settle()
  const allocate = (id: string, pool: string, named: string[] = []) =>
    node.ipam?.allocate({
      holder: holder(id),
      families: [],
      pools: ['a4'],
      podPools: { 4: [pool], 6: [] },
      addresses: named.map(parseIp),
    })
  assert.match((await allocate('p1', 'b4'))?.[0]?.address ?? '', /^10\.1\.0\./)
  assert.is((await allocate('p2', 'b4', ['10.1.0.77']))?.[0]?.address, '10.1.0.77')
  for (const [pool, named] of [
    ['none', []],
    ['b4', ['10.0.0.5']],
  ] as const) {
    const error = await allocate('p3', pool, [...named])?.catch(each => each)
    assert.ok(isTwillError(error), 'granted')
    assert.equal(node.ipam?.heldBy('p3'), [])
  }
})

test.run()
