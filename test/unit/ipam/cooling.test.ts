/** Addresses that cool go out last, the one freed longest ago first, from wherever a node may take them. */
import { test } from 'uvu'
import * as assert from 'uvu/assert'
import type { SlotRecord } from '../../../datastore/records/slot.ts'
import { settle } from '../../fixtures/manual-clock.ts'
import { Rig, type RigNode } from './rig.ts'

const owned = (rig: Rig, { uid }: RigNode) =>
  rig
    .under<SlotRecord>('slots/')
    .flatMap(([, slot]) => slot.parts)
    .filter(part => part.owner === uid)
    .map(part => part.cidr)

async function running(rig: Rig, name: string): Promise<RigNode> {
  const node = rig.node(name)
  node.start()
  await settle()
  return node
}

const tens = (address: string | undefined) => Math.floor(Number(address?.split('.').at(-1)) / 4)

/** Four slots of four: a node filled so many of them, emptied one after the other, and left. */
async function afterLeave(slots: number) {
  const rig = new Rig()
  await rig.createPool('default', '10.0.0.0/28', 30)
  const a = await running(rig, 'a')
  const bySlot = new Map<number, string[]>()
  for (let i = 0; i < 4 * slots; i++) {
    const [held] = await a.add(`p${i}`)
    const slot = tens(held?.address)
    bySlot.set(slot, [...(bySlot.get(slot) ?? []), `p${i}`])
  }
  for (const pods of bySlot.values()) {
    for (const pod of pods) a.del(pod)
    await rig.clock.advance(5000)
  }
  await a.ipam?.leave()
  return { rig, emptied: [...bySlot.keys()] }
}

test('where every free part cools, one of them is claimed: the one that has cooled most', async () => {
  for (const name of ['b', 'c', 'd']) {
    const { rig, emptied } = await afterLeave(4)
    const node = await running(rig, name)
    const adding = node.add('first')
    await rig.clock.advance(2000)
    assert.is(tens((await adding)[0]?.address), emptied[0])
    assert.is(owned(rig, node).length, 1)
    for (let i = 1; i < 16; i++) {
      const next = node.add(`q${i}`)
      await rig.clock.advance(2000)
      await next
    }
    assert.is(owned(rig, node).length, 4, 'the others count when they are needed')
  }
})

test('a free part that has rested comes before all that cool, wherever a node begins to look', async () => {
  for (const name of ['b', 'c', 'd', 'e', 'f']) {
    const { rig, emptied } = await afterLeave(3)
    const node = await running(rig, name)
    const [held] = await node.add('first')
    assert.not.ok(emptied.includes(tens(held?.address)), `${name} was given ${held?.address}`)
    assert.is(owned(rig, node).length, 1)
  }
})

test('of two pools that both only cool, the address that was freed first', async () => {
  const rig = new Rig()
  await rig.createPool('one', '10.0.0.0/30', 30)
  await rig.createPool('two', '10.1.0.0/30', 30)
  const node = await running(rig, 'a')
  for (let i = 0; i < 4; i++) {
    await node.add(`one${i}`, [4], ['one'])
    await node.add(`two${i}`, [4], ['two'])
  }
  for (const pool of ['two', 'one'])
    for (let i = 0; i < 4; i++) {
      node.del(`${pool}${i}`)
      await rig.clock.advance(1000)
    }
  const given: (string | undefined)[] = []
  for (let i = 0; i < 5; i++) {
    const adding = node.add(`p${i}`, [4], ['one', 'two'])
    await rig.clock.advance(2000)
    given.push((await adding)[0]?.address)
  }
  assert.equal(given, ['10.1.0.0', '10.1.0.1', '10.1.0.2', '10.1.0.3', '10.0.0.0'])
})

test.run()
