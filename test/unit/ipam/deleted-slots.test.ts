/** Somebody deletes the record of a slot by hand. */
import { suite } from 'uvu'
import * as assert from 'uvu/assert'
import type { AddressSpaceRecord } from '../../../datastore/records/address-space.ts'
import type { SlotRecord } from '../../../datastore/records/slot.ts'
import { deletePool } from '../../../ipam/pool-removal.ts'
import { settle } from '../../fixtures/manual-clock.ts'
import { Rig, refused } from './rig.ts'

const test = suite('slots deleted by hand')
const MINUTE = 60_000
const options = { offlineAllowanceMs: 60 * MINUTE, marginMs: MINUTE, lowWater: 0 }

const mark = (rig: Rig) => rig.read<AddressSpaceRecord>('address-space')?.restored ?? null
const only = (rig: Rig): [string, SlotRecord] => {
  const slots = rig.under<SlotRecord>('slots/')
  assert.is(slots.length, 1)
  return slots[0] as [string, SlotRecord]
}

/** a owns the only slot, and has given a piece of it to b; so its counter stands above 2. */
async function shared() {
  const rig = new Rig()
  await rig.createPool('default', '10.0.0.0/28', 28)
  const [a, b, c] = ['a', 'b', 'c'].map(name => rig.node(name, options)) as [Node, Node, Node]
  for (const node of [a, b]) {
    node.start()
    await settle()
    const adding = node.add(`${node.name}0`)
    await rig.clock.advance(3000)
    await adding
  }
  c.start()
  await rig.clock.advance(3000)
  const [key, record] = only(rig)
  assert.equal(new Set(record.parts.map(({ owner }) => owner)), new Set(['uid-a', 'uid-b']))
  assert.ok(record.generation > 2)
  return { rig, a, b, c, key, record }
}
type Node = ReturnType<Rig['node']>

test('its owners write it again at once, as it was: no mark, nothing lost, addresses go on', async () => {
  const { rig, a, b, c, key, record } = await shared()
  rig.put(key, null)
  await settle()
  assert.equal(rig.read(key), record)
  await rig.clock.advance(2000)
  assert.is(mark(rig), null)
  assert.equal([a.lost, b.lost], [[], []])
  assert.is(a.ipam?.restored(), null)
  for (const node of [a, b]) assert.ok(node.ipam?.ownParts().every(({ usable }) => usable))
  const adding = c.add('c0')
  await rig.clock.advance(3000)
  assert.is((await adding).length, 1)
})

test('of owners that are away it is written again by others, and meanwhile nobody claims of it', async () => {
  const { rig, a, b, c, key, record } = await shared()
  a.setUnavailable(true)
  b.setUnavailable(true)
  rig.put(key, null)
  await settle()
  assert.is(rig.read(key), null)
  assert.is(await refused(c.add('c0')), 'ipam.exhausted')
  await rig.clock.advance(MINUTE)
  assert.equal(rig.read(key), record)
  rig.put(key, null)
  await settle()
  const held = [...a.attachments.values()][0]?.addresses[0]?.address ?? ''
  const named = refused(c.add('c1', [4], [], [held]))
  await rig.clock.advance(3000)
  assert.is(await named, 'ipam.owner-silent', 'who needs to know writes it again before he looks')
  assert.equal(rig.read(key), record)
  assert.is(mark(rig), null)
  a.setUnavailable(false)
  b.setUnavailable(false)
  await rig.clock.advance(10 * MINUTE)
  assert.equal([a.lost, b.lost], [[], []])
  assert.equal(rig.read<SlotRecord>(key)?.parts, record.parts)
})

test('an address asked for by name in a slot that was deleted this instant is not claimed over its holder', async () => {
  const { rig, a, b, c, key } = await shared()
  const held = [...a.attachments.values()][0]?.addresses[0]?.address ?? ''
  c.watches.lagging = true
  for (const node of [a, b]) node.setUnavailable(true)
  rig.put(key, null)
  const outcome = refused(c.add('c0', [4], [], [held]))
  await rig.clock.advance(3000)
  assert.is(await outcome, 'store.conflict')
  assert.is(rig.read<SlotRecord>(key)?.parts.some(({ owner }) => owner === 'uid-c') ?? false, false)
})

test('somebody else was faster: what he wrote counts, and rule 16 decides', async () => {
  const rig = new Rig()
  await rig.createPool('default', '10.0.0.0/28', 28)
  const a = rig.node('a', options)
  a.start()
  await settle()
  await a.add('a0')
  const [key, record] = only(rig)
  a.store.setDelay(50)
  rig.put(key, null)
  await rig.clock.advance(120)
  const [part] = record.parts
  const theirs = { ...record, generation: 9, parts: [{ ...part, owner: 'uid-x', generation: 9 }] }
  rig.put(key, theirs)
  await rig.clock.advance(2000)
  assert.equal(rig.read(key), theirs)
  assert.equal(
    a.lost.map(({ holders }) => holders),
    [['a0']],
  )
})

test('a slot that is missing in a list, however short the gap, is that of an older store: seen at once', async () => {
  const rig = new Rig()
  await rig.createPool('default', '10.0.0.0/27', 28)
  const a = rig.node('a', options)
  a.start()
  await settle()
  const before = rig.cluster.snapshot()
  await a.add('a0')
  await rig.clock.advance(5000)
  const [key, { parts }] = only(rig)
  rig.cluster.restore({ ...before, revision: before.revision + 1_000_000 })
  await settle()
  assert.ok(mark(rig), 'not with the next confirmation')
  assert.equal(rig.read<SlotRecord>(key)?.parts[0]?.generation, parts[0]?.generation)
  assert.equal(a.lost, [])
})

test('one that was deleted while its owner was down: seen as soon as it is up, by its journal', async () => {
  const rig = new Rig()
  await rig.createPool('default', '10.0.0.0/27', 28)
  const a = rig.node('a', options)
  a.start()
  await settle()
  await a.add('a0')
  await rig.clock.advance(5000)
  const [key, { parts }] = only(rig)
  a.kill()
  rig.put(key, null)
  await a.start().ready()
  await settle()
  assert.ok(mark(rig), 'whoever else was in it is not known')
  assert.equal(rig.read<SlotRecord>(key)?.parts[0]?.generation, parts[0]?.generation)
  assert.equal(a.lost, [])
})

test('what is deleted with its pool stays deleted', async () => {
  const rig = new Rig()
  await rig.createPool('old', '10.0.0.0/28', 28)
  const [a, b] = [rig.node('a', options), rig.node('b', options)]
  for (const node of [a, b]) node.start()
  await settle()
  await a.add('a0')
  a.del('a0')
  await rig.clock.advance(3 * MINUTE)
  const seen: number[] = []
  rig.cluster.observe(() => seen.push(rig.under('slots/').length))
  const deleting = deletePool('old', { drain: false }, rig.modules)
  await rig.clock.advance(10 * MINUTE)
  assert.equal(await deleting, { removed: true })
  assert.is(seen.at(-1), 0)
  assert.is(seen.lastIndexOf(1), seen.indexOf(0) - 1)
})

test.run()
