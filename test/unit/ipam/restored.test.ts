/** Rule 16: the store was restored from an older snapshot. */
import { suite } from 'uvu'
import * as assert from 'uvu/assert'
import type { AddressSpaceRecord } from '../../../datastore/records/address-space.ts'
import type { LedgerRecord } from '../../../datastore/records/ledger.ts'
import type { Part, SlotRecord } from '../../../datastore/records/slot.ts'
import { Heartbeat } from '../../../ipam/heartbeat.ts'
import { replay } from '../../../ipam/journal-records.ts'
import { createIpam } from '../../../ipam/node-ipam.ts'
import { checkSlot } from '../../../ipam/slot.ts'
import { enterPart, isBehind } from '../../../ipam/went-back.ts'
import { parseCidr } from '../../../lib/address.ts'
import { isTwillError } from '../../../lib/errors.ts'
import { silentLog } from '../../../lib/log.ts'
import { settle } from '../../fixtures/manual-clock.ts'
import { Rig, type RigNode } from './rig.ts'

const test = suite('rule 16')
const MINUTE = 60_000
const options = { offlineAllowanceMs: 10 * MINUTE, marginMs: MINUTE, lowWater: 0 }

const mark = (rig: Rig) => rig.read<AddressSpaceRecord>('address-space')?.restored ?? null
const ownedBy = (rig: Rig, node: RigNode): Part[] =>
  rig.under<SlotRecord>('slots/').flatMap(([, slot]) => slot.parts.filter(part => part.owner === node.uid))
const holdersOf = (rig: Rig, node: RigNode): string[] =>
  rig
    .under<LedgerRecord>('ledgers/')
    .filter(([, { owner }]) => owner === node.uid)
    .flatMap(([, { generations }]) =>
      Object.values(generations).flatMap(held => Object.values(held).map(({ holder }) => holder)),
    )
const isRefused = (error: unknown) => isTwillError(error, 'ipam.not-confirmed') && error.retryable

/** Two nodes; a has one part of its own in the snapshot, and claims the other after it. */
async function cluster() {
  const rig = new Rig()
  await rig.createPool('default', '10.0.0.0/27', 28)
  const [a, b] = [rig.node('a', options), rig.node('b', options)]
  a.start()
  b.start()
  await settle()
  const before = rig.cluster.snapshot()
  for (let i = 0; i < 3; i++) await a.add(`a${i}`)
  await rig.clock.advance(5000)
  return { rig, a, b, before }
}

for (const [how, bump] of [
  ['by its revision', 0],
  ['by a part that is not in it, although its revision was bumped', 1_000_000],
] as const)
  test(`seen ${how}: marked, parts and ledgers entered again, no pod lost`, async () => {
    const { rig, a, before } = await cluster()
    const [part] = ownedBy(rig, a)
    rig.cluster.restore({ ...before, revision: before.revision + bump })
    assert.equal(ownedBy(rig, a), [])
    // Noticed with the next confirmation at the latest.
    await rig.clock.advance(2 * MINUTE)
    assert.is(mark(rig)?.allowanceMs, 10 * MINUTE)
    const [again] = ownedBy(rig, a)
    assert.equal([again?.cidr, again?.generation], [part?.cidr, part?.generation])
    assert.equal(holdersOf(rig, a).sort(), ['a0', 'a1', 'a2'])
    assert.equal(a.lost, [])
    await a.add('a3')
    await rig.clock.advance(20 * MINUTE)
    assert.is(mark(rig), null, 'taken away after allowance and margin')
    assert.ok(a.ipam?.ownParts().every(({ usable }) => usable))
  })

test('seen by its revision between making and starting the address management', async () => {
  const { rig, a } = await cluster()
  a.kill()
  const { store } = a
  const journaled = { ...replay(a.records), lastRevision: rig.cluster.revision + 100 }
  const ipam = createIpam(
    { nodeUid: a.uid, nodeName: 'a', boot: a.boot, journaled, journalIntact: true, ...options },
    { ...rig.modules, store, log: silentLog, journal: { append: async () => undefined } },
  )
  await settle()
  ipam.start()
  await settle()
  assert.ok(mark(rig))
  await ipam.stop()
})

test('ADDs that fail faster than what failed is tried again keep nothing from being seen to', async () => {
  const rig = new Rig()
  await rig.createPool('default', '10.0.0.0/27', 28)
  const a = rig.node('a', { ...options, offlineAllowanceMs: MINUTE, marginMs: MINUTE / 6 })
  a.start()
  await settle()
  for (let i = 0; i < 16; i++) await a.add(`p${i}`)
  a.ipam?.suspectRestore('a test says so')
  let failed = 0
  for (let i = 0; i < 400 && failed === i; i++) {
    await a.add('one more').catch(() => failed++)
    await rig.clock.advance(500)
  }
  assert.ok(failed > 100, 'nothing is claimed while the mark stands')
  assert.is(mark(rig), null, 'taken away after allowance and margin')
  assert.ok(a.attachments.has('one more'))
})

test('while the mark stands nobody claims; own parts go on; afterwards claims go on', async () => {
  const { rig, a, b, before } = await cluster()
  rig.cluster.restore(before)
  await rig.clock.advance(1000)
  assert.ok(mark(rig))
  await a.add('a9')
  const slots = rig.under('slots/')
  await refused(b.add('b0'))
  assert.equal(rig.under('slots/'), slots, 'it is not even tried')
  assert.match(b.ipam?.restored() ?? '', /revision|restored/)
  await rig.clock.advance(9 * MINUTE)
  await refused(b.add('b0'))
  await rig.clock.advance(4 * MINUTE)
  assert.is(mark(rig), null)
  await b.add('b0')
  assert.is(b.ipam?.restored(), null)
})

test('a claim that was on its way when the mark was set is given back', async () => {
  const { rig, b } = await cluster()
  // b's mirror does not know yet; its read after the claim does.
  b.store.setDelay(50)
  const adding = b.add('b0').then(
    () => 'added',
    error => isRefused(error),
  )
  const space = rig.read<AddressSpaceRecord>('address-space')
  await settle()
  rig.put('address-space', { ...space, restored: { id: 'm', allowanceMs: 10 * MINUTE } })
  await rig.clock.advance(2000)
  assert.is(await adding, true)
  assert.equal(ownedBy(rig, b), [])
})

test('who is out of term confirms nothing while the mark stands, and is confirmed after it', async () => {
  const { rig, a, b, before } = await cluster()
  await b.add('b0')
  await rig.clock.advance(5000)
  b.setUnavailable(true)
  await rig.clock.advance(11 * MINUTE)
  assert.is(b.ipam?.ownParts()[0]?.usable, false)
  rig.cluster.restore(before)
  await rig.clock.advance(1000)
  assert.ok(mark(rig))
  b.setUnavailable(false)
  await rig.clock.advance(5 * MINUTE)
  assert.is(b.ipam?.ownParts()[0]?.usable, false)
  assert.is(ownedBy(rig, b).length, 1, 'its place is free: it is entered again, though not confirmed')
  await refused(b.add('b1'))
  assert.ok(
    a.ipam?.ownParts().every(({ usable }) => usable),
    'a, whose term runs, goes on',
  )
  await rig.clock.advance(8 * MINUTE)
  assert.is(mark(rig), null)
  assert.is(b.ipam?.ownParts()[0]?.usable, true)
  assert.equal(b.lost, [])
  await b.add('b1')
})

test('after a reboot nothing is confirmed while the mark stands, although the slot shows it as ours', async () => {
  const { rig, a, b } = await cluster()
  await b.add('b0')
  await rig.clock.advance(5000)
  const before = rig.cluster.snapshot()
  await a.add('late')
  await rig.clock.advance(5000)
  b.reboot()
  rig.cluster.restore(before)
  await rig.clock.advance(1000)
  b.start()
  await rig.clock.advance(5 * MINUTE)
  assert.is(b.ipam?.ownParts()[0]?.usable, false)
  await rig.clock.advance(8 * MINUTE)
  assert.is(b.ipam?.ownParts()[0]?.usable, true)
})

test('of two that hold a part by turns the higher generation wins; the loser cuts off its pods', async () => {
  const { rig, a, b } = await cluster()
  const before = rig.cluster.snapshot()
  // a leaves its part, b gets it: in the snapshot it is a's still.
  for (let i = 0; i < 3; i++) a.del(`a${i}`)
  await rig.clock.advance(5000)
  await a.ipam?.leave()
  a.kill()
  for (let i = 0; i < 20; i++) await b.add(`b${i}`)
  await rig.clock.advance(5000)
  const cidrs = ownedBy(rig, b).map(({ cidr }) => cidr)
  assert.is(cidrs.length, 2)
  rig.cluster.restore(before)
  a.start()
  await rig.clock.advance(2 * MINUTE)
  assert.equal(
    ownedBy(rig, b).map(({ cidr }) => cidr),
    cidrs,
  )
  assert.equal(ownedBy(rig, a), [])
  assert.equal([b.lost, [...b.attachments].length], [[], 20])
})

test('a part that was given away stands as ours again: unknown, and not used before everybody else is out of term', async () => {
  const { rig, a } = await cluster()
  for (let i = 0; i < 3; i++) a.del(`a${i}`)
  await rig.clock.advance(5000)
  const before = rig.cluster.snapshot()
  await a.ipam?.leave()
  a.kill()
  await a.start().ready()
  rig.cluster.restore(before)
  await rig.clock.advance(5 * MINUTE)
  assert.is(a.ipam?.ownParts()[0]?.usable, false)
  await refused(a.add('x'))
  await rig.clock.advance(8 * MINUTE)
  assert.is(a.ipam?.ownParts()[0]?.usable, true)
})

test('a piece given away that stands as ours again is not handed out while its new owner may still use it', async () => {
  const rig = new Rig()
  await rig.createPool('default', '10.0.0.0/28', 28)
  const [a, b] = [rig.node('a', options), rig.node('b', options)]
  a.start()
  await settle()
  await a.add('a0')
  await rig.clock.advance(5000)
  const before = rig.cluster.snapshot()
  b.start()
  await settle()
  const given = b.add('b0')
  await rig.clock.advance(2000)
  const theirs = (await given).map(({ address }) => address)
  b.setUnavailable(true)
  rig.cluster.restore(before)
  await rig.clock.advance(3 * MINUTE)
  const taken: string[] = []
  for (let i = 1; i < 16; i++) {
    const adding = a.add(`a${i}`).then(
      held => taken.push(...held.map(({ address }) => address)),
      () => {},
    )
    await rig.clock.advance(2000)
    await adding
  }
  assert.ok(taken.length > 0, 'what it has had all the time goes out')
  assert.equal(
    taken.filter(address => theirs.includes(address)),
    [],
  )
})

test('a daemon that was down when it happened sees it by what its journal says of the revision, once', async () => {
  const { rig, a, b, before } = await cluster()
  b.kill()
  await rig.clock.advance(2 * MINUTE)
  a.kill()
  rig.cluster.restore({ ...before, entries: new Map([...before.entries]) })
  await a.start().ready()
  await rig.clock.advance(1000)
  const first = mark(rig)
  assert.ok(first)
  a.kill()
  await a.start().ready()
  await rig.clock.advance(1000)
  assert.is(mark(rig)?.id, first.id, 'a restart does not take it for another one')
  await rig.clock.advance(13 * MINUTE)
  assert.is(mark(rig), null)
  a.kill()
  await a.start().ready()
  await rig.clock.advance(1000)
  assert.is(mark(rig), null, 'nor after it is over')
})

test('nor does one that has no parts any more, and thus confirms nothing', async () => {
  const { rig, a, before } = await cluster()
  for (let i = 0; i < 50; i++) rig.put('something', { v: 1 })
  for (let i = 0; i < 3; i++) a.del(`a${i}`)
  await rig.clock.advance(2 * MINUTE)
  await a.ipam?.leave()
  a.kill()
  rig.cluster.restore(before)
  await a.start().ready()
  await rig.clock.advance(13 * MINUTE)
  assert.is(mark(rig), null)
  a.kill()
  await a.start().ready()
  await rig.clock.advance(1000)
  assert.is(mark(rig), null)
})

test('many who see it set one mark; a second restoration gets another one', async () => {
  const { rig, before } = await cluster()
  for (const name of ['c', 'd', 'e']) rig.node(name, options).start()
  await settle()
  rig.cluster.restore(before)
  const marks = new Set<string>()
  rig.cluster.observe(() => marks.add(mark(rig)?.id ?? ''))
  await rig.clock.advance(10_000)
  assert.is(marks.size, 1)
  const first = mark(rig)?.id
  assert.ok(first)
  await rig.clock.advance(5 * MINUTE)
  assert.is(mark(rig)?.id, first)
  const marked = rig.cluster.snapshot()
  await rig.clock.advance(MINUTE)
  rig.put('something', { v: 1 })
  await rig.nodes[0]?.add('more')
  await rig.clock.advance(5000)
  rig.cluster.restore(marked)
  await rig.clock.advance(10_000)
  const second = mark(rig)?.id
  assert.ok(second)
  assert.is.not(second, first)
  await rig.clock.advance(9 * MINUTE)
  assert.is(mark(rig)?.id, second)
  await rig.clock.advance(4 * MINUTE)
  assert.is(mark(rig), null)
})

test('fences that stand again after a restoration are counted from its end', async () => {
  const { rig, a, b } = await cluster()
  await b.add('b0')
  await rig.clock.advance(5000)
  b.setUnavailable(true)
  const liveness = rig.read<object>('liveness/uid-b')
  rig.put('liveness/uid-b', { ...liveness, removed: { fence: 'f', by: 'operator', endsWith: 'return' } })
  rig.put('nodes/b', null)
  await rig.clock.advance(9 * MINUTE)
  const before = rig.cluster.snapshot()
  await a.add('late')
  await rig.clock.advance(5000)
  b.setUnavailable(false)
  rig.register(b)
  await rig.clock.advance(1500)
  assert.is(ownedBy(rig, b)[0]?.fence, null, 'it came back in time')
  b.setUnavailable(true)
  rig.cluster.restore(before)
  await rig.clock.advance(5 * MINUTE)
  assert.is(ownedBy(rig, b).length, 1, 'of the old count little was left, and it counts for nothing')
  b.setUnavailable(false)
  rig.register(b)
  await rig.clock.advance(2 * MINUTE)
  assert.is(ownedBy(rig, b)[0]?.fence, null)
  assert.equal(b.lost, [])
})

test('seen by our own heartbeat', async () => {
  const { rig, a } = await cluster()
  const reasons: string[] = []
  const heart = new Heartbeat(
    {
      uid: a.uid,
      name: a.name,
      hardware: 'hw-a',
      heartbeatMs: 10_000,
      allowanceMs: 10 * MINUTE,
      onTaken: error => assert.unreachable(error.message),
      onBehind: reason => reasons.push(reason),
    },
    { store: rig.operator, clock: rig.clock, log: silentLog },
  )
  heart.start()
  await rig.clock.advance(25_000)
  const before = rig.cluster.snapshot()
  await rig.clock.advance(20_000)
  assert.equal(reasons, [])
  rig.cluster.restore(before)
  await rig.clock.advance(40_000)
  assert.equal(reasons, ['our heartbeat was 6 and is 4'])
  await heart.stop()
})

// ---------------------------------------------------------------- pure

const part = (cidr: string, owner: string | null, generation: number): Part => ({
  cidr,
  owner,
  generation,
  claim: null,
  fence: null,
  cooling: {},
})
const record = (generation: number, ...parts: Part[]): SlotRecord => ({
  v: 1,
  generation,
  parts,
  requests: [],
})
const SLOT = parseCidr('10.0.0.0/28')
const ours = { cidr: parseCidr('10.0.0.8/29'), generation: 5 }

test('older records are told from ones that others have changed', () => {
  const cases: [SlotRecord, boolean][] = [
    [record(1, part('10.0.0.0/28', null, 1)), true],
    [record(4, part('10.0.0.0/28', 'b', 4)), true],
    [record(5, part('10.0.0.0/28', 'b', 5)), true],
    [record(6, part('10.0.0.0/29', null, 1), part('10.0.0.8/29', null, 6)), false],
    [record(6, part('10.0.0.0/28', 'b', 6)), false],
    [record(5, part('10.0.0.0/28', 'a', 5)), false],
  ]
  for (const [before, expected] of cases)
    assert.is(isBehind(before, 'a', ours), expected, JSON.stringify(before))
})

test('a part is entered where it was, the others keep what is left of theirs', () => {
  const entered = enterPart(record(4, part('10.0.0.0/28', 'b', 4)), 'a', ours, true)
  assert.equal(entered, record(5, part('10.0.0.0/29', 'b', 4), part('10.0.0.8/29', 'a', 5)))
  checkSlot(entered as SlotRecord, SLOT)
  const small = record(
    4,
    part('10.0.0.0/29', 'b', 4),
    part('10.0.0.8/30', null, 2),
    part('10.0.0.12/30', 'b', 3),
  )
  const whole = enterPart(small, 'a', { cidr: SLOT, generation: 5 }, true)
  assert.equal(whole, record(5, part('10.0.0.0/28', 'a', 5)))
})

test('it is not entered over the same or a higher generation, and without a term over nobody', () => {
  for (const generation of [5, 6])
    assert.is(enterPart(record(6, part('10.0.0.0/28', 'b', generation)), 'a', ours, true), null)
  assert.is(enterPart(record(4, part('10.0.0.0/28', 'b', 4)), 'a', ours, false), null)
  assert.ok(enterPart(record(4, part('10.0.0.0/28', null, 4)), 'a', ours, false))
})

async function refused(promise: Promise<unknown>): Promise<void> {
  const error = await promise.then(
    () => null,
    (caught: unknown) => caught,
  )
  assert.ok(isRefused(error), `expected ipam.not-confirmed, got ${error}`)
}

test.run()
