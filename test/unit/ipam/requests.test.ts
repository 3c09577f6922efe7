/** One node asks another for addresses through the slot's record: what both have afterwards, whatever happens in between. */
import { test } from 'uvu'
import * as assert from 'uvu/assert'
import type { SlotRecord } from '../../../datastore/records/slot.ts'
import { isTwillError } from '../../../lib/errors.ts'
import { settle } from '../../fixtures/manual-clock.ts'
import { Rig, type RigNode, refused } from './rig.ts'

const slotOf = (rig: Rig) => rig.under<SlotRecord>('slots/')[0]?.[1] as SlotRecord
const keyOf = (rig: Rig) => rig.under<SlotRecord>('slots/')[0]?.[0] as string
const briefSlot = (rig: Rig) =>
  slotOf(rig).parts.map(part => `${part.cidr} ${part.owner?.slice(4) ?? 'free'} ${part.generation}`)
const brief = (node: RigNode) =>
  (node.ipam?.ownParts() ?? []).map(part => `${part.cidr} ${part.held}/${part.free}`)

/** Node a owns the only slot and has these many pods; b owns nothing. */
async function ownerAndAsker(pods: number) {
  const rig = new Rig()
  await rig.createPool('default', '10.0.0.0/29', 29)
  const [a, b] = [rig.node('a'), rig.node('b')]
  a.start()
  b.start()
  await settle()
  for (let i = 0; i < pods; i++) await a.add(`a${i}`)
  await rig.clock.advance(5000)
  return { rig, a, b }
}

const ask = (node: RigNode, address: string) =>
  node.ipam?.requestAddress(address) ?? Promise.reject(new Error('down'))

test('rule 2: an address asked for by name leaves its part, which splits around it', async () => {
  const { rig, a, b } = await ownerAndAsker(3)
  const part = await ask(b, '10.0.0.5')
  assert.is(part.text, '10.0.0.5/32')
  await rig.clock.advance(1000)
  const split = ['10.0.0.0/30 a 2', '10.0.0.4/32 a 2', '10.0.0.5/32 b 3', '10.0.0.6/31 a 2']
  assert.equal(briefSlot(rig), split)
  assert.equal(slotOf(rig).requests, [])
  assert.equal(brief(a), ['10.0.0.0/30 3/1', '10.0.0.4/32 0/1', '10.0.0.6/31 0/2'])
  assert.equal(brief(b), ['10.0.0.5/32 0/1'])
  assert.is((await b.add('b0'))[0]?.address, '10.0.0.5')
  const rest: string[] = []
  for (let i = 3; i < 7; i++) rest.push((await a.add(`a${i}`))[0]?.address ?? '')
  assert.equal(rest, ['10.0.0.3', '10.0.0.4', '10.0.0.6', '10.0.0.7'])
})

test('rule 5: what still cools is given when it is asked for by name, and cools on with its new owner', async () => {
  const { rig, a, b } = await ownerAndAsker(3)
  a.del('a1')
  await rig.clock.advance(20_000)
  await ask(b, '10.0.0.1')
  assert.equal(slotOf(rig).parts.find(part => part.owner === 'uid-b')?.cooling, { '10.0.0.1': 40 })
})

test('a watch that is late with what the slot was before the request does not end the wait for its answer', async () => {
  const { rig, a, b } = await ownerAndAsker(3)
  a.setUnavailable(true)
  b.watches.lagging = true
  rig.put(keyOf(rig), slotOf(rig))
  const asked = refused(ask(b, '10.0.0.5'))
  await settle()
  b.watches.lagging = false
  await settle()
  assert.is(slotOf(rig).requests.length, 1)
  a.setUnavailable(false)
  await rig.clock.advance(1500)
  assert.is(await asked, 'granted')
})

test('an address that a pod holds is refused, and nothing has changed', async () => {
  const { rig, a, b } = await ownerAndAsker(3)
  const before = briefSlot(rig)
  assert.is(await refused(ask(b, '10.0.0.1')), 'ipam.address-taken')
  assert.equal(briefSlot(rig), before)
  assert.equal(slotOf(rig).requests, [])
  assert.equal(brief(a), ['10.0.0.0/29 3/5'])
})

test('two questions at once in a slot in which an older request is just being taken out: one slot in memory', async () => {
  const { rig, b } = await ownerAndAsker(3)
  b.setDelay(100)
  const old = { id: 'old', owner: 'uid-b', cidr: '10.0.0.1/32', refusals: [] }
  rig.put(keyOf(rig), { ...slotOf(rig), requests: [old] })
  const pool = rig.read<{ metadata: object }>('resources/ippools/default')
  rig.put('resources/ippools/default', { ...pool, metadata: { ...pool?.metadata, labels: { a: 'b' } } })
  await rig.clock.advance(200)
  const asked = ['10.0.0.5', '10.0.0.6'].map(address => refused(ask(b, address)))
  await rig.clock.advance(5000)
  await Promise.all(asked)
  const owned = slotOf(rig).parts.flatMap(({ owner, cidr }) => (owner === 'uid-b' ? [cidr] : []))
  assert.ok(owned.length > 0)
  const usable = (b.ipam?.ownParts() ?? []).filter(part => part.usable).map(({ cidr }) => cidr)
  assert.equal(usable, owned)
  assert.equal(b.lost, [])
})

test('an owner that does not answer is named after the patience, and the request is taken out again', async () => {
  const { rig, a, b } = await ownerAndAsker(1)
  a.kill()
  const asked = ask(b, '10.0.0.5').catch(error => error)
  await settle()
  assert.is(slotOf(rig).requests.length, 1)
  await rig.clock.advance(2000)
  const error = await asked
  assert.ok(isTwillError(error, 'ipam.owner-silent'))
  assert.ok(error.retryable)
  assert.match(error.message, /node a\b/)
  assert.equal(slotOf(rig).requests, [])
  a.start()
  await rig.clock.advance(1000)
  assert.equal(briefSlot(rig), ['10.0.0.0/29 a 2'])
})

test('rule 3: the asker dies while it waits; what was given meanwhile is his in the next life', async () => {
  const { rig, a, b } = await ownerAndAsker(1)
  a.setUnavailable(true)
  void ask(b, '10.0.0.5').catch(() => {})
  await settle()
  b.kill()
  a.setUnavailable(false)
  await rig.clock.advance(1000)
  assert.is(slotOf(rig).parts.filter(part => part.owner === 'uid-b').length, 1)
  b.start()
  await rig.clock.advance(2000)
  assert.equal(brief(b), ['10.0.0.5/32 0/1'])
  assert.ok(b.ipam?.ownParts()[0]?.usable)
})

test('rule 3: the asker dies before it was answered; the next life takes the request out', async () => {
  const { rig, a, b } = await ownerAndAsker(1)
  a.kill()
  void ask(b, '10.0.0.5').catch(() => {})
  await settle()
  b.kill()
  assert.is(slotOf(rig).requests.length, 1)
  b.start()
  await rig.clock.advance(2000)
  assert.equal(slotOf(rig).requests, [])
})

test('a request that stands for longer than anybody waits is taken out by an owner', async () => {
  const { rig, a } = await ownerAndAsker(8)
  rig.put(keyOf(rig), {
    ...slotOf(rig),
    requests: [{ id: 'r', owner: 'uid-b', cidr: null, refusals: [] }],
  })
  await rig.clock.advance(2000)
  assert.equal(slotOf(rig).requests[0]?.refusals, [{ owner: 'uid-a', reason: 'no room' }])
  await rig.clock.advance(120_000)
  assert.equal(slotOf(rig).requests, [])
  assert.equal(brief(a), ['10.0.0.0/29 8/0'])
})

test('a request in a slot that is no longer partly ours costs nothing, however long it stands', async () => {
  const rig = new Rig()
  await rig.createPool('default', '10.0.0.0/29', 29)
  const [a, c] = [rig.node('a', { spareRestMs: 1000 }), rig.node('c')]
  rig.node('b')
  a.start()
  c.start()
  await settle()
  await c.add('c0')
  for (let i = 0; i < 7; i++) await a.add(`a${i}`)
  c.kill()
  rig.put(keyOf(rig), {
    ...slotOf(rig),
    requests: [{ id: 'r', owner: 'uid-b', cidr: null, refusals: [] }],
  })
  await rig.clock.advance(100)
  for (let i = 0; i < 7; i++) a.del(`a${i}`)
  await rig.clock.advance(30_000)
  assert.equal(
    slotOf(rig).parts.map(({ owner }) => owner),
    ['uid-c', null, null, null],
  )
  await rig.clock.advance(60_000)
  const { setTimer } = rig.clock
  let timers = 0
  rig.clock.setTimer = (ms, callback) => {
    timers++
    return setTimer.call(rig.clock, ms, callback)
  }
  await rig.clock.advance(10_000)
  assert.is(slotOf(rig).requests.length, 1)
  assert.ok(timers < 50, `${timers} timers in 10 s`)
})

test('an asker whose record cannot be read keeps nobody waiting: others are answered, the owner starts', async () => {
  const { rig, a } = await ownerAndAsker(1)
  const c = rig.node('c')
  c.start()
  await a.ipam?.stop()
  a.kill()
  rig.put('liveness/uid-b', { v: 2, something: 'else' })
  const request = { id: 'r1', owner: 'uid-b', cidr: '10.0.0.6/32', refusals: [] }
  rig.put(keyOf(rig), { ...slotOf(rig), requests: [request] })
  let isReady = false
  void a
    .start()
    .ready()
    .then(() => {
      isReady = true
    })
  await rig.clock.advance(3000)
  assert.is(isReady, true)
  assert.is((await ask(c, '10.0.0.5')).text, '10.0.0.5/32')
  await rig.clock.advance(70_000)
  assert.equal(slotOf(rig).requests, [])
})

test('nothing is given to a node that was removed', async () => {
  const { rig, a } = await ownerAndAsker(1)
  const gone = rig.read<object>('liveness/uid-b')
  rig.put('liveness/uid-b', { ...gone, removed: { fence: 'f', by: 'operator', endsWith: 'return' } })
  rig.put(keyOf(rig), {
    ...slotOf(rig),
    requests: [{ id: 'r', owner: 'uid-b', cidr: null, refusals: [] }],
  })
  await rig.clock.advance(2000)
  assert.equal(slotOf(rig).requests, [])
  assert.equal(brief(a), ['10.0.0.0/29 1/7'])
})

test('rule 2: without a wish the largest empty aligned piece is given', async () => {
  const { rig, a, b } = await ownerAndAsker(1)
  rig.put(keyOf(rig), {
    ...slotOf(rig),
    requests: [{ id: 'r', owner: 'uid-b', cidr: null, refusals: [] }],
  })
  b.kill()
  await rig.clock.advance(2000)
  assert.equal(briefSlot(rig), ['10.0.0.0/30 a 2', '10.0.0.4/30 b 3'])
  assert.equal(brief(a), ['10.0.0.0/30 1/3'])
})

test('rule 3: the owner dies with the gift on its way: landed or not, one of the two has each address', async () => {
  for (const doubt of ['landed', 'lost', 'late'] as const) {
    const { rig, a, b } = await ownerAndAsker(3)
    for (let i = 0; i < 50; i++) a.store.doubtNext(doubt)
    void ask(b, '10.0.0.5').catch(() => {})
    await settle()
    const struck = JSON.stringify([{ cidr: '10.0.0.5/32', generation: 2 }])
    assert.ok(
      a.records.some(record => record.t === 'slot' && JSON.stringify(record.giving) === struck),
      doubt,
    )
    assert.not(
      brief(a).some(part => part.startsWith('10.0.0.5/')),
      doubt,
    )
    a.kill()
    a.start()
    await settle()
    a.landLate()
    await rig.clock.advance(5000)
    const given = slotOf(rig).parts.some(part => part.owner === 'uid-b')
    const [free, room] = [a, b].map(node =>
      (node.ipam?.ownParts() ?? []).reduce((sum, part) => sum + part.free, 0),
    )
    assert.equal([free, room], given ? [4, 1] : [5, 0], doubt)
    assert.ok(
      a.ipam?.ownParts().every(part => part.usable),
      doubt,
    )
  }
})

test('rule 3: a gift that cannot be journaled is not given', async () => {
  const { rig, a, b } = await ownerAndAsker(3)
  a.journalFails = true
  const asked = refused(ask(b, '10.0.0.5'))
  await settle()
  assert.is(slotOf(rig).requests.length, 1)
  assert.equal(briefSlot(rig), ['10.0.0.0/29 a 2'])
  a.journalFails = false
  // The next pass tries again, while the asker still waits.
  await rig.clock.advance(1500)
  assert.is(await asked, 'granted')
})

test('rule 4: a request in doubt is settled by a further commit before its slot is claimed or asked again', async () => {
  for (const doubt of ['landed', 'lost', 'late'] as const) {
    const { rig, a, b } = await ownerAndAsker(3)
    a.setUnavailable(true)
    for (let i = 0; i < 2; i++) b.store.doubtNext(doubt, keyOf(rig))
    assert.is(await refused(ask(b, '10.0.0.5')), 'store.in-doubt', doubt)
    b.landLate()
    await rig.clock.advance(2000)
    assert.equal(slotOf(rig).requests, [], doubt)
    a.setUnavailable(false)
    await rig.clock.advance(2000)
    assert.equal(briefSlot(rig), ['10.0.0.0/29 a 2'], doubt)
    assert.is(await refused(ask(b, '10.0.0.5')), 'granted', doubt)
  }
})

test.run()
