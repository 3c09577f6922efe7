/** What routes and rules are made of: a pool has the range that was entered for it, whatever its document says by now. */
import { test } from 'uvu'
import * as assert from 'uvu/assert'
import { Cluster } from '../../../daemon/node/cluster.ts'
import { MemoryCluster } from '../../../datastore/memory/cluster.ts'
import { MemoryStore } from '../../../datastore/memory/store.ts'
import type { IPPool } from '../../../datastore/resources/ippool.ts'
import { type Vital, vitalOf } from '../../../ipam/covered.ts'
import { Watched } from '../../../ipam/watched.ts'
import { silentLog } from '../../../lib/log.ts'
import { ManualClock, settle } from '../../fixtures/manual-clock.ts'
import { node, pool, slot } from './cluster-facts.ts'

async function clusterOf(records: Record<string, unknown>, vitals: () => readonly Vital[] = () => []) {
  const memory = new MemoryCluster()
  for (const [key, value] of Object.entries(records))
    memory.commit({ key, expected: 0, value: JSON.stringify(value) })
  const store = new MemoryStore({}, { cluster: memory, clock: new ManualClock() })
  const watched = new Watched({}, { store, log: silentLog })
  const remembered = Promise.resolve()
  const cluster = new Cluster({ store, log: silentLog, watched, vitals, changed() {}, remembered })
  await cluster.synced()
  await settle()
  return { cluster, memory }
}

const entry = (name: string, cidr: string, blockSize?: number) => ({
  uid: `uid-${name}`,
  name,
  cidr,
  ...(blockSize === undefined ? {} : { blockSize }),
  state: 'open',
})

test('a pool that was shrunk, grown or cut anew in the datastore: routes and rules keep to what was entered', async () => {
  const { cluster, memory } = await clusterOf({
    'address-space': {
      v: 1,
      pools: [entry('v4', '10.244.0.0/16', 26), entry('old', '10.8.0.0/24'), entry('cut', '10.9.0.0/16', 28)],
      restored: null,
    },
    'resources/ippools/v4': pool('v4', '10.244.0.0/24', { natOutgoing: false }),
    'resources/ippools/old': pool('old', '10.8.0.0/16'),
    'resources/ippools/cut': pool('cut', '10.9.0.0/16', { blockSize: 26 }),
    'resources/ippools/none': pool('none', '10.99.0.0/24'),
  })
  assert.equal(
    cluster.pools().map(({ metadata, spec }) => `${metadata.name} ${spec.cidr} ${spec.blockSize}`),
    ['cut 10.9.0.0/16 28', 'none 10.99.0.0/24 undefined', 'old 10.8.0.0/24 26', 'v4 10.244.0.0/16 26'],
  )
  assert.is(cluster.pools().find(({ metadata }) => metadata.name === 'v4')?.spec.natOutgoing, false)
  memory.commit({ key: 'address-space', expected: memory.get('address-space')?.modRevision ?? 0, value: '{' })
  await settle()
  assert.is(cluster.pools()[3]?.spec.cidr, '10.244.0.0/16', 'the last word that could be read counts')
  assert.match(cluster.damaged().join(), /address-space/)
  await cluster.close()
})

test('a pool whose document lost its uid is routed to as it was entered; one that goes, or has another range, is not', async () => {
  const { uid: _, ...metadata } = pool('v4', '10.244.0.0/16').metadata
  const document = { ...pool('v4', '10.244.0.0/16'), metadata }
  for (const [entered, uid] of [
    [entry('v4', '10.244.0.0/16'), 'uid-v4'],
    [{ ...entry('v4', '10.244.0.0/16'), state: 'closed' }, 'uid-v4'],
    [{ ...entry('v4', '10.244.0.0/16'), state: 'closed', leaving: true }, undefined],
    [entry('v4', '10.244.0.0/17'), undefined],
  ] as const) {
    const space = { v: 1, pools: [entered], restored: null }
    const { cluster } = await clusterOf({ 'address-space': space, 'resources/ippools/v4': document })
    assert.is(cluster.pools()[0]?.metadata.uid, uid)
    await cluster.close()
  }
})

test('a record of a node under another name than its key is no node, and what it said before counts', async () => {
  const { cluster, memory } = await clusterOf({ 'nodes/node1': node(1), 'nodes/node3': node(2) })
  assert.equal(
    cluster.nodes().map(({ name }) => name),
    ['node1'],
  )
  const value = JSON.stringify({ ...node(1), name: 'node2', hostAddresses: ['192.0.2.9'] })
  memory.commit({ key: 'nodes/node1', expected: memory.get('nodes/node1')?.modRevision ?? 0, value })
  await settle()
  assert.equal(cluster.nodes(), [node(1)])
  assert.match(cluster.damaged().join(), /nodes\/node1 is damaged: it is of a node "node2"/)
  await cluster.close()
})

test('who asks again is given the same lists until something changes, and then what there is', async () => {
  const { cluster, memory } = await clusterOf({
    'address-space': { v: 1, pools: [entry('v4', '10.244.0.0/16')], restored: null },
    'resources/ippools/v4': pool('v4', '10.244.0.0/16'),
    'nodes/node1': node(1),
    'slots/uid-v4/10.244.1.0-26': slot(['10.244.1.0/26', 'uid-node1']),
  })
  const [pools, nodes, slots] = [cluster.pools(), cluster.nodes(), cluster.slots()]
  assert.is(cluster.pools(), pools)
  assert.is(cluster.nodes(), nodes)
  assert.is(cluster.slots(), slots)
  const put = async (key: string, value: object) => {
    const expected = memory.get(key)?.modRevision ?? 0
    memory.commit({ key, expected, value: JSON.stringify(value) })
    await settle()
  }
  await put('nodes/node2', node(2))
  assert.equal([cluster.nodes().length, nodes.length], [2, 1])
  await put('slots/uid-v4/10.244.2.0-26', slot(['10.244.2.0/26', 'uid-node2']))
  assert.equal([cluster.slots().size, slots.size], [2, 1])
  await put('resources/ippools/v4', pool('v4', '10.244.0.0/16', { natOutgoing: false }))
  assert.is(cluster.pools()[0]?.spec.natOutgoing, false)
  await put('address-space', { v: 1, pools: [entry('v4', '10.245.0.0/16')], restored: null })
  assert.is(cluster.pools()[0]?.spec.cidr, '10.245.0.0/16')
  await cluster.close()
})

const named = (pools: readonly IPPool[]) => pools.map(({ metadata }) => metadata.name)

test('a pool over what this node lives by is left out for as long as it is, also one that was entered', async () => {
  let vitals = vitalOf('10.9.1.2', 'an endpoint of the datastore')
  const { cluster } = await clusterOf(
    {
      'address-space': {
        v: 1,
        pools: [entry('v4', '10.244.0.0/16'), entry('old', '10.9.0.0/16'), entry('lan', '10.9.0.0/20')],
        restored: null,
      },
      'resources/ippools/v4': pool('v4', '10.244.0.0/16'),
      'resources/ippools/old': pool('old', '10.9.0.0/16'),
      'resources/ippools/lan': pool('lan', '10.9.0.0/20', { allowedUses: ['ipam'] }),
    },
    () => vitals,
  )
  assert.equal(named(cluster.pools()), ['lan', 'v4'])
  assert.equal(named(cluster.covering()), ['old'])
  assert.is(cluster.pools(), cluster.pools(), 'the same list')
  assert.equal(named(cluster.told?.pools ?? []), ['lan', 'old', 'v4'], 'all is remembered')
  vitals = []
  assert.equal([named(cluster.pools()), cluster.covering()], [['lan', 'old', 'v4'], []])
  await cluster.close()
})

test('from a snapshot too: the datastore may be away because of such a pool', async () => {
  const memory = new MemoryCluster()
  const store = new MemoryStore({}, { cluster: memory, clock: new ManualClock() })
  store.setUnavailable(true)
  const watched = new Watched({}, { store, log: silentLog })
  const vitals = vitalOf('10.96.0.1', 'the address of the API server')
  const cluster = new Cluster({
    ...{ store, log: silentLog, watched, changed() {} },
    ...{ vitals: () => vitals, remembered: Promise.resolve() },
  })
  const pools = [pool('svc', '10.96.0.0/16'), pool('v4', '10.244.0.0/16')]
  const owner = { clusterUid: 'c', nodeUid: 'n', boot: 'b' }
  cluster.recall({ owner, savedAt: 1, pools, nodes: [], slots: new Map() })
  assert.equal([named(cluster.pools()), named(cluster.covering())], [['v4'], ['svc']])
  await cluster.close()
})

test('a pool that no daemon may enter is programmed nowhere: without uid, or over the address of a node far away', async () => {
  const { uid: _, ...metadata } = pool('new', '10.50.0.0/16').metadata
  const far = node(2, { underlay: { 4: '10.70.0.9' } })
  const { cluster } = await clusterOf({
    'address-space': { v: 1, pools: [entry('in', '10.70.0.0/24')], restored: null },
    'resources/ippools/new': { ...pool('new', '10.50.0.0/16'), metadata },
    'resources/ippools/copy': pool('copy', '10.70.0.0/16'),
    'resources/ippools/in': pool('in', '10.70.0.0/24'),
    'resources/ippools/lost': pool('lost', '10.80.0.0/16'),
    'nodes/node2': far,
  })
  assert.equal(named(cluster.pools()), ['in', 'lost'])
  await cluster.close()
})

test.run()
