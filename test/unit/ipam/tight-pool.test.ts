/** A pool that is nearly used up, most of what is left still cooling: nodes do not take it from one another to and fro. */
import { test } from 'uvu'
import * as assert from 'uvu/assert'
import { MemoryCluster } from '../../../datastore/memory/cluster.ts'
import type { SlotRecord } from '../../../datastore/records/slot.ts'
import type { Commit, CommitOutcome } from '../../../datastore/store.ts'
import { GivenCooling } from '../../../ipam/given-cooling.ts'
import { ManualClock } from '../../fixtures/manual-clock.ts'
import { Rig, type RigNode } from './rig.ts'

/** Ends what would never end: with a store that answers at once no time passes meanwhile. */
class LimitedCluster extends MemoryCluster {
  left = 1_000
  refusals = 0

  override commit(commit: Commit): CommitOutcome {
    if (this.left-- <= 0) throw new Error('too many commits')
    const outcome = super.commit(commit)
    if (outcome.committed && /"refusals":\[\{/.test(commit.value ?? '')) this.refusals++
    return outcome
  }
}

async function over(rig: Rig, work: Promise<unknown>): Promise<void> {
  let isOver = false
  const end = work.finally(() => {
    isOver = true
  })
  while (!isOver) await rig.clock.advance(10)
  await end
}

/** Owners of the only slot, sixteen addresses: four each, all held. */
async function fullSlot(names: string) {
  const cluster = new LimitedCluster()
  const rig = new Rig(1, cluster)
  await rig.createPool('default', '10.0.0.0/28', 28)
  const nodes = [...names].map(name => rig.node(name))
  const parts = nodes.map(({ uid }, i) => ({
    cidr: `10.0.0.${4 * i}/30`,
    owner: uid,
    generation: i + 2,
    claim: `c${i}`,
    fence: null,
    cooling: {},
  }))
  const poolUid = rig.under<{ metadata: { uid: string } }>('resources/ippools/')[0]?.[1].metadata.uid
  const key = `slots/${poolUid}/10.0.0.0-28`
  rig.put(key, { v: 1, generation: nodes.length + 1, parts, requests: [] })
  for (const [i, node] of nodes.entries()) {
    node.records.push({
      t: 'slot',
      poolUid: poolUid ?? '',
      slot: '10.0.0.0/28',
      parts: [{ cidr: `10.0.0.${4 * i}/30`, generation: i + 2 }],
      claiming: null,
      giving: [],
    })
    node.start()
  }
  await rig.clock.advance(5_000)
  for (const node of nodes) for (let i = 0; i < 4; i++) await node.add(`${node.name}${i}`)
  await rig.clock.advance(5_000)
  return { rig, cluster, key, nodes: nodes as [RigNode, RigNode, RigNode, RigNode] }
}

test('a redeployment while most addresses cool comes to rest: what a node was given for its pod is the pod’s', async () => {
  for (const seed of [1, 2, 3]) {
    const cluster = new LimitedCluster()
    const rig = new Rig(seed, cluster)
    await rig.createPool('default', '10.0.0.0/26', 26)
    const nodes = Array.from({ length: 8 }, (_, i) => rig.node(`n${i}`, { lowWater: 16 }))
    for (const node of nodes) node.start()
    await rig.clock.advance(2_000)
    const any = () => nodes[Math.floor(rig.random.fraction() * nodes.length)] as RigNode
    let running: { id: string; node: RigNode }[] = []
    const pods = ({ attachments, adding }: RigNode) => attachments.size + adding.size
    const begin = async (id: string) => {
      const [a, b] = [any(), any()]
      const node = pods(a) <= pods(b) ? a : b
      await node.add(id)
      running.push({ id, node })
    }
    await over(rig, Promise.all(Array.from({ length: 45 }, (_, i) => begin(`p${i}`))))
    await rig.clock.advance(120_000)
    cluster.left = 6 * 45
    const old = running
    running = []
    for (let from = 0; from < old.length; from += 8) {
      const wave = old.slice(from, from + 8).map(async ({ id, node }) => {
        await begin(`new-${id}`)
        node.del(id)
      })
      await over(rig, Promise.all(wave))
      await rig.clock.advance(2_000)
    }
    const held = nodes.flatMap(({ attachments }) => [...attachments.values()].flatMap(each => each.addresses))
    assert.is(new Set(held.map(({ address }) => address)).size, 45)
    assert.ok(cluster.left > 0)
  }
})

test('nobody refuses what another owner of the slot gives', async () => {
  const { rig, cluster, nodes } = await fullSlot('abcd')
  const [a, b, c] = nodes
  a.del('a1')
  await rig.clock.advance(70_000)
  cluster.refusals = 0
  const added = c.add('more')
  await over(rig, added)
  assert.is((await added)[0]?.address, '10.0.0.1')
  assert.is(cluster.refusals, 0)
  const before = rig.clock.boottimeMs()
  const refused = b.add('none').catch(error => error.code)
  await over(rig, refused)
  assert.is(await refused, 'ipam.exhausted')
  assert.ok(rig.clock.boottimeMs() - before < 1_000)
})

test('who asks for fresh addresses is not given what cools', async () => {
  const { rig, key, nodes } = await fullSlot('abcd')
  const [a, b] = nodes
  a.del('a1')
  await rig.clock.advance(5_000)
  const ask = async (id: string) => {
    const slot = rig.read<SlotRecord>(key) as SlotRecord
    rig.put(key, { ...slot, requests: [{ id, owner: b.uid, cidr: null, fresh: true, refusals: [] }] })
    await rig.clock.advance(500)
    return (rig.read<SlotRecord>(key) as SlotRecord).parts.filter(({ claim }) => claim === id).length
  }
  b.kill()
  assert.is(await ask('r1'), 0)
  await rig.clock.advance(60_000)
  assert.is(await ask('r2'), 1)
})

test('what came with a part cools from when it was first seen, however often its slot changes', async () => {
  const clock = new ManualClock()
  const given = new GivenCooling({ clock })
  const part = { cidr: '10.0.0.0/31', owner: 'a', generation: 3, claim: null, fence: null }
  const cooling = { '10.0.0.0': 10, '10.0.0.1': 40 }
  const see = (generation: number) => {
    const value: SlotRecord = { v: 1, generation, parts: [{ ...part, generation, cooling }], requests: [] }
    given.observe([{ key: 'k', before: null, after: { value, modRevision: 1 } as never, gapless: true }])
  }
  see(3)
  await clock.advance(20_000)
  see(3)
  assert.equal(given.of('k', { ...part, cooling }), ['10.0.0.1'])
  await clock.advance(20_000)
  assert.equal(given.of('k', { ...part, cooling }), [])
  see(4)
  assert.is(given.of('k', { ...part, generation: 4, cooling }).length, 2)
})

test.run()
