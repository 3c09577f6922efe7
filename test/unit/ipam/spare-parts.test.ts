/** What a node gives back, what it keeps, and how much it may own. */
import { test } from 'uvu'
import * as assert from 'uvu/assert'
import type { SlotRecord } from '../../../datastore/records/slot.ts'
import { isTwillError } from '../../../lib/errors.ts'
import { settle } from '../../fixtures/manual-clock.ts'
import { Rig, type RigNode, refused } from './rig.ts'

const owned = (rig: Rig, name = 'a') =>
  rig
    .under<SlotRecord>('slots/')
    .flatMap(([, slot]) => slot.parts)
    .filter(part => part.owner === `uid-${name}`)
    .map(part => part.cidr)
    .sort()

async function started(options: Parameters<RigNode['start']>[0] = {}, cidr = '10.0.0.0/24') {
  const rig = new Rig()
  await rig.createPool('default', cidr, 28)
  const node = rig.node('a', options)
  node.start()
  await settle()
  return { rig, node }
}

async function add(node: RigNode, count: number, name = 'p') {
  for (let i = 0; i < count; i++) await node.add(`${name}${i}`)
}
const del = (node: RigNode, count: number, name = 'p') => {
  for (let i = 0; i < count; i++) node.del(`${name}${i}`)
}

test('empty slots go back once they have rested, but for one spare', async () => {
  const { rig, node } = await started()
  for (let i = 0; i < 60; i++) {
    await node.add(`p${i}`)
    // Not in a hurry, which would have more parts ahead.
    await rig.clock.advance(100)
  }
  assert.is(owned(rig).length, 4)
  del(node, 60)
  await rig.clock.advance(30_000)
  assert.is(owned(rig).length, 4)
  await rig.clock.advance(40_000)
  assert.is(owned(rig).length, 1)
})

test('hysteresis: what is left is twice the mark below which a part is claimed; pods that come and go move none', async () => {
  const { rig, node } = await started({ lowWater: 16 })
  await add(node, 40)
  await rig.clock.advance(1000)
  del(node, 40)
  await rig.clock.advance(300_000)
  const kept = owned(rig)
  assert.is(kept.length, 2)
  for (let round = 0; round < 5; round++) {
    await add(node, 12)
    await rig.clock.advance(120_000)
    del(node, 12)
    await rig.clock.advance(120_000)
    assert.equal(owned(rig), kept)
  }
})

test('a part that is used again before it has rested is kept', async () => {
  const { rig, node } = await started()
  await add(node, 40)
  for (let i = 16; i < 40; i++) node.del(`p${i}`)
  await rig.clock.advance(50_000)
  // The third part has one pod from now on, and only the second is empty: the spare.
  await node.add('again')
  await rig.clock.advance(300_000)
  assert.is(owned(rig).length, 3)
  assert.is((node.ipam?.ownParts() ?? []).filter(part => part.held > 0).length, 2)
})

test('rule 2: pieces of a slot come back and merge, so that it can be claimed whole again', async () => {
  const rig = new Rig()
  await rig.createPool('default', '10.0.0.0/28', 29)
  const [a, b] = [rig.node('a'), rig.node('b')]
  a.start()
  b.start()
  await settle()
  await add(a, 10)
  await rig.clock.advance(5000)
  const got = b.add('b0')
  await rig.clock.advance(500)
  await got
  assert.ok(rig.under<SlotRecord>('slots/').some(([, slot]) => slot.parts.length > 1))
  b.del('b0')
  del(a, 10)
  await rig.clock.advance(400_000)
  const slots = rig.under<SlotRecord>('slots/').map(([, slot]) => slot.parts.length)
  assert.equal(slots, [1, 1], JSON.stringify(rig.under('slots/')))
})

test('nothing smaller than a slot is claimed ahead of need, and anything when there is need', async () => {
  const rig = new Rig()
  await rig.createPool('default', '10.0.0.0/28', 28)
  const [a, b] = [rig.node('a'), rig.node('b', { lowWater: 16 })]
  a.start()
  await settle()
  await add(a, 1)
  await rig.clock.advance(1000)
  const [[key, slot] = []] = rig.under<SlotRecord>('slots/')
  const [part] = slot?.parts ?? []
  rig.put(key ?? '', {
    ...slot,
    generation: 3,
    parts: [
      { ...part, cidr: '10.0.0.0/29' },
      { ...part, cidr: '10.0.0.8/29', owner: null, generation: 3, claim: null },
    ],
  })
  b.start()
  await rig.clock.advance(5000)
  assert.equal(owned(rig, 'b'), [])
  await b.add('b0')
  assert.equal(owned(rig, 'b'), ['10.0.0.8/29'])
})

test('a limit of parts or addresses is kept, and named when it stands in the way', async () => {
  for (const [nodeLimit, count, cidrs] of [
    [{ parts: 2, addresses: null }, 32, 2],
    [{ parts: null, addresses: 20 }, 20, 2],
  ] as const) {
    const { rig, node } = await started({ nodeLimit, lowWater: 16 })
    await add(node, count)
    assert.is(owned(rig).length, cidrs)
    const error = await node.add('more').catch(error => error)
    assert.ok(isTwillError(error, 'ipam.exhausted'))
    assert.match(error.message, /this node may own/)
  }
})

test('a limit smaller than a slot that begins with reserved addresses: what can go out is claimed', async () => {
  const rig = new Rig()
  await rig.createPool('default', '10.0.0.0/26', 26)
  const node = rig.node('a', { nodeLimit: { parts: null, addresses: 4 } })
  node.start()
  await settle()
  rig.put('resources/ipreservations/first', {
    apiVersion: 'twill.network/v1alpha1',
    kind: 'IPReservation',
    metadata: { name: 'first' },
    spec: { addresses: ['10.0.0.0-10.0.0.12'] },
  })
  await settle()
  await add(node, 3)
  const [first] = node.attachments.values()
  assert.is(first?.addresses[0]?.address, '10.0.0.13')
  assert.equal(owned(rig), ['10.0.0.12/30'])
})

test('a limit that was lowered: what is empty goes at once, what is in use stays', async () => {
  const { rig, node } = await started()
  await add(node, 20)
  await rig.clock.advance(1000)
  node.kill()
  node.start({ nodeLimit: { parts: null, addresses: 18 } })
  await rig.clock.advance(2000)
  const size = (node.ipam?.ownParts() ?? []).reduce((sum, part) => sum + part.free + part.held, 0)
  assert.is(size, 20, owned(rig).join(' '))
})

test('a gift with reserved addresses is cut down to what can go out', async () => {
  const rig = new Rig()
  await rig.createPool('default', '10.0.0.0/27', 27)
  const [a, b] = [rig.node('a'), rig.node('b', { nodeLimit: { parts: null, addresses: 4 } })]
  a.start()
  b.start()
  await settle()
  await a.add('a0')
  rig.put('resources/ipreservations/upper', {
    apiVersion: 'twill.network/v1alpha1',
    kind: 'IPReservation',
    metadata: { name: 'upper' },
    spec: { addresses: ['10.0.0.16-10.0.0.19'] },
  })
  await rig.clock.advance(5000)
  for (const id of ['b0', 'b1', 'b2', 'b3']) {
    const got = refused(b.add(id))
    await rig.clock.advance(5000)
    assert.is(await got, 'granted')
  }
  const size = (b.ipam?.ownParts() ?? []).reduce((sum, part) => sum + part.free + part.held, 0)
  assert.is(size, 4)
})

test('a gift that is more than this node may own is cut down', async () => {
  const rig = new Rig()
  await rig.createPool('default', '10.0.0.0/27', 27)
  const [a, b] = [rig.node('a'), rig.node('b', { nodeLimit: { parts: null, addresses: 4 } })]
  a.start()
  b.start()
  await settle()
  await a.add('a0')
  await rig.clock.advance(5000)
  const got = b.add('b0')
  await rig.clock.advance(5000)
  await got
  const size = (b.ipam?.ownParts() ?? []).reduce((sum, part) => sum + part.free + part.held, 0)
  assert.is(size, 4)
})

test.run()
