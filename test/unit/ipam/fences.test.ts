import { test } from 'uvu'
import * as assert from 'uvu/assert'
import type { SlotRecord } from '../../../datastore/records/slot.ts'
import { settle } from '../../fixtures/manual-clock.ts'
import { Rig } from './rig.ts'

const MINUTE = 60_000
const options = { offlineAllowanceMs: 10 * MINUTE, marginMs: MINUTE, lowWater: 0 }
const parts = (rig: Rig, owner: string | null) =>
  rig.under<SlotRecord>('slots/').flatMap(([, slot]) => slot.parts.filter(part => part.owner === owner))

/** Node b holds an address and dies; node a lives. */
async function withDead() {
  const rig = new Rig()
  await rig.createPool('default', '10.0.0.0/24', 28)
  const [a, b] = [rig.node('a', options), rig.node('b', options)]
  a.start()
  b.start()
  await settle()
  await b.add('p1')
  await rig.clock.advance(5000)
  b.setUnavailable(true)
  b.kill()
  return { rig, a, b }
}

function remove(rig: Rig, endsWith = 'return') {
  const liveness = rig.read<object>('liveness/uid-b')
  rig.put('liveness/uid-b', { ...liveness, removed: { fence: 'f', by: 'operator', endsWith } })
  rig.put('nodes/b', null)
}

test('rule 9: a node that is merely silent keeps its parts', async () => {
  const { rig } = await withDead()
  await rig.clock.advance(60 * MINUTE)
  assert.is(parts(rig, 'uid-b')[0]?.fence, null)
})

test("rule 9, 10: a removed node's parts are fenced, and freed after its allowance and margin, with what belongs to them", async () => {
  const { rig } = await withDead()
  remove(rig)
  await rig.clock.advance(MINUTE)
  assert.equal(parts(rig, 'uid-b')[0]?.fence, { id: 'f', allowanceMs: 10 * MINUTE })
  await rig.clock.advance(9.5 * MINUTE)
  assert.is(parts(rig, 'uid-b').length, 1)
  await rig.clock.advance(2 * MINUTE)
  assert.is(parts(rig, 'uid-b').length, 0)
  assert.equal(rig.under('ledgers/'), [])
  assert.is(rig.read('liveness/uid-b'), null)
})

test('rule 10: a daemon that starts again begins to count again', async () => {
  const { rig, a } = await withDead()
  remove(rig)
  await rig.clock.advance(8 * MINUTE)
  a.kill()
  await a.start().ready()
  await rig.clock.advance(5 * MINUTE)
  assert.is(parts(rig, 'uid-b').length, 1)
  await rig.clock.advance(8 * MINUTE)
  assert.is(parts(rig, 'uid-b').length, 0)
})

test('rule 10: another fence id counts anew', async () => {
  const { rig } = await withDead()
  remove(rig)
  await rig.clock.advance(8 * MINUTE)
  const [[key, slot] = []] = rig.under<SlotRecord>('slots/')
  const fence = { id: 'g', allowanceMs: 10 * MINUTE }
  rig.put(key ?? '', { ...slot, parts: slot?.parts.map(part => ({ ...part, fence })) })
  await rig.clock.advance(5 * MINUTE)
  assert.is(parts(rig, 'uid-b').length, 1)
  await rig.clock.advance(8 * MINUTE)
  assert.is(parts(rig, 'uid-b').length, 0)
})

test('rule 11: an owner that is back in time lifts its fence and keeps its parts', async () => {
  const { rig, b } = await withDead()
  remove(rig)
  await rig.clock.advance(5 * MINUTE)
  b.setUnavailable(false)
  b.start()
  await rig.clock.advance(MINUTE)
  assert.is(parts(rig, 'uid-b')[0]?.fence, null)
  await rig.clock.advance(30 * MINUTE)
  assert.is(parts(rig, 'uid-b').length, 1)
  await b.add('p2')
})

test('rule 13: only the re-creation of its Node object brings back what Kubernetes has removed', async () => {
  const { rig, b } = await withDead()
  remove(rig, 'recreation')
  await rig.clock.advance(5 * MINUTE)
  b.setUnavailable(false)
  b.start()
  await rig.clock.advance(MINUTE)
  assert.is(parts(rig, 'uid-b')[0]?.fence?.id, 'f')
})

test('rule 13: once its removal has ended, a node that never stopped lifts its fences within seconds, and says meanwhile what it waits for', async () => {
  const { rig, b } = await withDead()
  b.setUnavailable(false)
  b.start()
  await rig.clock.advance(MINUTE)
  remove(rig, 'recreation')
  await rig.clock.advance(MINUTE)
  assert.is(parts(rig, 'uid-b')[0]?.fence?.id, 'f')
  const room = b.ipam?.room()
  assert.match(room?.ok === false ? room.reason : '', /IPv4 addresses are fenced, since the node was removed/)
  rig.register(b)
  // As the heart does when the Node object is there again: nobody watches that record.
  rig.put('liveness/uid-b', { ...rig.read<object>('liveness/uid-b'), removed: null })
  await rig.clock.advance(6_000)
  assert.is(parts(rig, 'uid-b')[0]?.fence, null)
  assert.equal(b.ipam?.room(), { ok: true })
})

test('rule 14: parts of a UID that no record bears are fenced and freed', async () => {
  const { rig } = await withDead()
  rig.put('liveness/uid-b', null)
  rig.put('nodes/b', null)
  await rig.clock.advance(MINUTE)
  assert.is.not(parts(rig, 'uid-b')[0]?.fence, null)
  await rig.clock.advance(12 * MINUTE)
  assert.is(parts(rig, 'uid-b').length, 0)
})

test('rule 15: who comes back after its parts were freed has lost them, and says whose addresses they were', async () => {
  const { rig, b } = await withDead()
  remove(rig)
  await rig.clock.advance(15 * MINUTE)
  b.setUnavailable(false)
  b.start()
  await rig.clock.advance(MINUTE)
  assert.equal(
    b.lost.map(lost => lost.holders),
    [['p1']],
  )
  assert.equal(b.ipam?.ownParts(), [])
})

test('rule 14: owners that nobody knows are found whenever they come, and whoever took their name', async () => {
  const { rig, a } = await withDead()
  await rig.clock.advance(5 * MINUTE)
  assert.is(parts(rig, 'uid-b')[0]?.fence, null)
  await a.add('p2')
  const [[key, slot] = []] = rig
    .under<SlotRecord>('slots/')
    .filter(([, { parts }]) => parts[0]?.owner === 'uid-a')
  const stranger = slot?.parts.map(part => ({ ...part, generation: 7, owner: 'uid-x' }))
  rig.put(key?.replace(/[^/]+$/, '10.0.0.240-28') ?? '', {
    ...slot,
    generation: 7,
    parts: stranger?.map(part => ({ ...part, cidr: '10.0.0.240/28' })),
  })
  await rig.clock.advance(MINUTE)
  assert.is.not(parts(rig, 'uid-x')[0]?.fence, null)
  rig.put('nodes/b', { ...rig.read<object>('nodes/b'), uid: 'uid-c' })
  rig.put('liveness/uid-b', null)
  await rig.clock.advance(MINUTE)
  assert.is.not(parts(rig, 'uid-b')[0]?.fence, null)
})

/** `count` nodes with a part each; how often the parts and liveness record of the first are read, written or tried to. */
async function crowd(count: number) {
  const rig = new Rig()
  await rig.createPool('default', '10.0.0.0/16', 28)
  const nodes = Array.from({ length: count }, (_, i) => rig.node(i === 0 ? 'b' : `n${i}`, options))
  for (const node of nodes) node.start()
  await settle()
  for (const node of nodes) await node.add(`p-${node.name}`)
  await rig.clock.advance(5_000)
  nodes[0]?.kill()
  // So slow that what one of them does is known to the others only when they are at it themselves.
  for (const node of nodes) node.setDelay(5_000)
  const [key] = rig.under<SlotRecord>('slots/').find(([, slot]) => slot.parts[0]?.owner === 'uid-b') ?? []
  let calls = 0
  const get = rig.cluster.get.bind(rig.cluster)
  rig.cluster.get = asked => {
    if (asked === key || asked === 'liveness/uid-b') calls++
    return get(asked)
  }
  return { rig, nodes, calls: () => calls }
}

test('of many nodes a few look after one that was removed', async () => {
  const { rig, calls } = await crowd(60)
  remove(rig)
  await rig.clock.advance(2 * MINUTE)
  assert.is(parts(rig, 'uid-b')[0]?.fence?.id, 'f')
  const fencing = calls()
  await rig.clock.advance(13 * MINUTE)
  assert.is(parts(rig, 'uid-b').length, 0)
  assert.is(rig.read('liveness/uid-b'), null)
  // All 59 would be at it hundreds of times.
  assert.ok(fencing < 60, `${fencing} calls to fence`)
  assert.ok(calls() - fencing < 60, `${calls() - fencing} calls to free`)
})

test('the last of many nodes looks after it in the end', async () => {
  const { rig, nodes } = await crowd(60)
  for (const node of nodes.slice(2)) node.kill()
  remove(rig)
  await rig.clock.advance(60 * MINUTE)
  assert.is(parts(rig, 'uid-b').length, 0)
})

test('rule 12: a clean leave frees parts in which nobody lives, and keeps the others', async () => {
  const rig = new Rig()
  await rig.createPool('default', '10.0.0.0/24', 28)
  const node = rig.node('a', options)
  node.start()
  await settle()
  for (let i = 0; i < 17; i++) await node.add(`p${i}`)
  for (let i = 0; i < 16; i++) node.del(`p${i}`)
  const left = await node.ipam?.leave()
  assert.is(left?.length, 1)
  assert.is(parts(rig, 'uid-a').length, 1)
  assert.is(Object.keys(parts(rig, null)[0]?.cooling ?? {}).length, 16)
})

test.run()
