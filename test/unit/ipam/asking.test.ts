/** Every slot is taken: addresses come from the nodes that have them, as long as one is free anywhere. */
import { test } from 'uvu'
import * as assert from 'uvu/assert'
import type { SlotRecord } from '../../../datastore/records/slot.ts'
import { isTwillError, type TwillError } from '../../../lib/errors.ts'
import { settle } from '../../fixtures/manual-clock.ts'
import { Rig, type RigNode } from './rig.ts'

const slotsOf = (rig: Rig) => rig.under<SlotRecord>('slots/').map(([, slot]) => slot)
const brief = (rig: Rig) =>
  slotsOf(rig).flatMap(({ parts }) => parts.map(part => `${part.cidr} ${part.owner?.slice(4) ?? 'free'}`))

/** As many slots of eight as `names`, all taken by the first node, who has one pod in each. */
async function allTaken(names: string, pods: number[]) {
  const rig = new Rig()
  await rig.createPool('default', `10.0.0.0/${29 - Math.log2(pods.length)}`, 29)
  const nodes = [...names].map(name => rig.node(name))
  for (const node of nodes) node.start()
  await settle()
  const [first] = nodes as [RigNode]
  for (let i = 0; i < pods.length * 8; i++) await first.add(`filler${i}`)
  for (const [i, count] of pods.entries()) for (let j = count; j < 8; j++) first.del(`filler${i * 8 + j}`)
  await rig.clock.advance(10_000)
  return { rig, nodes }
}

/** Without the clock standing still: the answer may be waited for. */
async function add(rig: Rig, node: RigNode, id: string) {
  const added = node.add(id).then(
    ([held]) => held?.address ?? '',
    (error: TwillError) => error,
  )
  let answered = false
  void added.then(() => {
    answered = true
  })
  for (let i = 0; i < 40 && !answered; i++) await rig.clock.advance(50)
  assert.ok(answered, 'answered within 2 s')
  return added
}

test('rule 2: a needy node gets the largest empty piece of an owner who has room, and pods of both go on', async () => {
  const { rig, nodes } = await allTaken('ab', [2])
  const [a, b] = nodes as [RigNode, RigNode]
  assert.is(await add(rig, b, 'b0'), '10.0.0.4')
  assert.equal(brief(rig), ['10.0.0.0/30 a', '10.0.0.4/30 b'])
  assert.is(await add(rig, a, 'a0'), '10.0.0.2')
  assert.equal(slotsOf(rig)[0]?.requests, [])
})

test('no address is refused while one is free anywhere; then all are refused', async () => {
  const { rig, nodes } = await allTaken('abc', [5, 3, 6, 8])
  const taken = new Set<unknown>()
  for (let i = 0; i < 10; i++) taken.add(await add(rig, nodes[1 + (i % 2)] as RigNode, `p${i}`))
  assert.is(taken.size, 10)
  for (const address of taken) assert.type(address, 'string')
  for (const node of nodes) {
    const error = await add(rig, node, `none-${node.name}`)
    assert.ok(isTwillError(error, 'ipam.exhausted'), String(error))
    assert.not.ok(error.retryable)
  }
  assert.ok(slotsOf(rig).every(({ requests }) => requests.length === 0))
})

test('what was freed at its owner a moment ago is found, although its ledger does not say so yet', async () => {
  const { rig, nodes } = await allTaken('ab', [8])
  const [a, b] = nodes as [RigNode, RigNode]
  a.del('filler3')
  assert.is(await add(rig, b, 'b0'), '10.0.0.3')
})

test('many that are in need at once get an address each', async () => {
  const { rig, nodes } = await allTaken('ab', [7, 4, 6, 7])
  const b = nodes[1] as RigNode
  const answers = await Promise.all(Array.from({ length: 8 }, (_, i) => add(rig, b, `p${i}`)))
  assert.is(new Set(answers).size, 8)
  assert.ok(
    answers.every(answer => typeof answer === 'string'),
    answers.join(' '),
  )
})

test('an owner who is silent is named, retryable, within two seconds; it keeps what it has', async () => {
  const { rig, nodes } = await allTaken('ab', [2])
  const [a, b] = nodes as [RigNode, RigNode]
  a.setUnavailable(true)
  const error = await add(rig, b, 'b0')
  assert.ok(isTwillError(error, 'ipam.owner-silent'), String(error))
  assert.ok(error.retryable)
  assert.match(error.message, /node a\b/)
  assert.equal(brief(rig), ['10.0.0.0/29 a'])
  assert.equal(slotsOf(rig)[0]?.requests, [])
  a.setUnavailable(false)
  await rig.clock.advance(1000)
  assert.is(await add(rig, b, 'b0'), '10.0.0.4')
})

test('one silent owner does not keep the address of another from going out', async () => {
  const { rig, nodes } = await allTaken('abc', [8, 8])
  const [a, b, c] = nodes as [RigNode, RigNode, RigNode]
  a.del('filler0')
  a.del('filler9')
  const first = await add(rig, c, 'c0')
  c.del('c0')
  await rig.clock.advance(10_000)
  a.kill()
  assert.is(await add(rig, b, 'b0'), first)
})

test('rule 5: fresh ones of others go out before what cools here, and of what cools the oldest', async () => {
  const { rig, nodes } = await allTaken('ab', [8, 7])
  const [a, b] = nodes as [RigNode, RigNode]
  const mine = await add(rig, b, 'b0')
  await rig.clock.advance(70_000)
  const fresh = a.attachments.get('filler2')?.addresses[0]?.address
  a.del('filler2')
  await rig.clock.advance(70_000)
  b.del('b0')
  await rig.clock.advance(3000)
  assert.is(await add(rig, b, 'b1'), fresh)
  assert.is(await add(rig, b, 'b2'), mine)
})

test('a request keeps nothing from the owner that it does not give', async () => {
  const { rig, nodes } = await allTaken('ab', [1])
  const [a, b] = nodes as [RigNode, RigNode]
  const answers = await Promise.all([
    ...Array.from({ length: 3 }, (_, i) => add(rig, a, `a${i}`)),
    ...Array.from({ length: 4 }, (_, i) => add(rig, b, `b${i}`)),
  ])
  assert.is(new Set(answers).size, 7)
  assert.ok(
    answers.every(answer => typeof answer === 'string'),
    answers.join(' '),
  )
})

test('STATUS: a full node has room as long as others may give, and none once they have refused', async () => {
  const { rig, nodes } = await allTaken('ab', [2])
  const b = nodes[1] as RigNode
  assert.equal(b.ipam?.room(), { ok: true })
  for (let i = 0; i < 6; i++) await add(rig, b, `b${i}`)
  assert.ok(isTwillError(await add(rig, b, 'none'), 'ipam.exhausted'))
  assert.is(b.ipam?.room().ok, false)
})

test.run()
