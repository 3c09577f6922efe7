/** Addresses asked for by name: where each comes from, and that a refusal changes nothing. */
import { test } from 'uvu'
import * as assert from 'uvu/assert'
import type { SlotRecord } from '../../../datastore/records/slot.ts'
import { addressAt, formatIp, parseCidr } from '../../../lib/address.ts'
import { isTwillError, type TwillError } from '../../../lib/errors.ts'
import { settle } from '../../fixtures/manual-clock.ts'
import { Rig, type RigNode } from './rig.ts'

async function started(cidr = '10.0.0.0/24', blockSize = 28) {
  const rig = new Rig()
  await rig.createPool('default', cidr, blockSize)
  const node = rig.node('a')
  node.start()
  await settle()
  return { rig, node }
}

const named = async (node: RigNode, id: string, ...addresses: string[]) =>
  (await node.add(id, [], [], addresses)).map(({ address }) => address)

async function refusal(promise: Promise<unknown>): Promise<TwillError> {
  try {
    await promise
  } catch (error) {
    if (isTwillError(error)) return error
    throw error
  }
  throw new Error('granted')
}

const owned = (rig: Rig, uid: string) =>
  rig
    .under<SlotRecord>('slots/')
    .flatMap(([, slot]) => slot.parts.filter(part => part.owner === uid).map(part => part.cidr))

test('from a part of our own, without asking the store', async () => {
  const { node } = await started()
  const [first] = await node.add('p1')
  const wanted = first?.slot.replace(/\d+\/28$/, last => String(Number.parseInt(last, 10) + 9)) as string
  const before = node.store.status().commits
  node.setUnavailable(true)
  assert.equal(await named(node, 'p2', wanted), [wanted])
  assert.is(node.store.status().commits, before)
})

test('from a free slot: exactly that address is claimed, the rest stays free for others', async () => {
  const { rig, node } = await started()
  assert.equal(await named(node, 'p1', '10.0.0.77'), ['10.0.0.77'])
  assert.equal(owned(rig, node.uid), ['10.0.0.77/32'])
  assert.equal(await named(node, 'p2', '10.0.0.78'), ['10.0.0.78'])
  assert.equal(owned(rig, node.uid), ['10.0.0.77/32', '10.0.0.78/32'])
  const other = rig.node('b')
  other.start()
  await settle()
  for (let i = 0; i < 254; i++) await other.add(`q${i}`)
  assert.is((await refusal(other.add('none'))).code, 'ipam.exhausted')
})

test('one that cools may be asked for', async () => {
  const { rig, node } = await started('10.0.0.0/28', 28)
  const [first] = await node.add('p1')
  await rig.clock.advance(1000)
  node.del('p1')
  assert.equal(await named(node, 'p2', first?.address as string), [first?.address])
})

test('a failed ADD puts the address back where it stood: others do not come to wait for its cool-down', async () => {
  const rig = new Rig()
  await rig.createPool('default', '10.0.0.0/28', 28)
  const node = rig.node('a')
  node.start()
  await settle()
  await node.add('p1')
  await node.add('p2')
  node.del('p1')
  assert.is((await refusal(node.add('p3', [4, 6], [], ['10.0.0.0']))).code, 'ipam.no-pool')
  assert.equal(node.ipam?.heldBy('p3'), [])
  assert.is((await node.add('p4'))[0]?.address, '10.0.0.2')
})

test('one family by name, the other as usual, in the order of the families', async () => {
  const rig = new Rig()
  await rig.createPool('v4', '10.0.0.0/24', 28)
  await rig.createPool('v6', 'fd00::/112')
  const node = rig.node('a')
  node.start()
  await settle()
  const addresses = await node.add('p1', [], [], ['fd00::7'])
  assert.equal(
    addresses.map(({ family }) => family),
    [4, 6],
  )
  assert.is(addresses[1]?.address, 'fd00::7')
  assert.equal(await named(node, 'p2', 'fd00::8', '10.0.0.200'), ['10.0.0.200', 'fd00::8'])
})

test('taken, outside every pool, of a family that the network has not, two of one family: refused, nothing kept', async () => {
  const { rig, node } = await started()
  await named(node, 'p1', '10.0.0.77')
  const refused: [string[], string, RegExp][] = [
    [['10.0.0.77'], 'taken', /10\.0\.0\.77 cannot be given: pod p1 holds it/],
    [['10.0.9.1'], 'outside', /10\.0\.9\.1 cannot be given: it is in no pool/],
    [['fd00::1'], 'outside', /fd00::1/],
    [['10.0.0.5', '10.0.0.6'], 'family', /10\.0\.0\.6 cannot be given: another address of its family/],
  ]
  for (const [addresses, reason, message] of refused) {
    const error = await refusal(named(node, 'p2', ...addresses))
    assert.is(error.code, 'ipam.address-refused', addresses.join())
    assert.is(error.data.reason, reason)
    assert.match(error.message, message)
    assert.is(error.retryable, false)
    assert.equal(node.ipam?.heldBy('p2'), [])
  }
  const error = await refusal(node.add('p2', [6], [], ['10.0.0.5']))
  assert.is(error.data.reason, 'family')
  assert.equal(await named(node, 'p3', '10.0.0.5'), ['10.0.0.5'])
  await rig.clock.advance(3000)
})

test('of a pool that is disabled or being removed: refused naming the pool', async () => {
  const { rig, node } = await started()
  const key = 'resources/ippools/default'
  const pool = rig.read<{ spec: object }>(key)
  rig.put(key, { ...pool, spec: { ...pool?.spec, disabled: true } })
  await settle()
  const error = await refusal(named(node, 'p1', '10.0.0.5'))
  assert.is(error.data.reason, 'pool')
  assert.match(error.message, /IPPool default is disabled/)
})

test('in a part of another node: it is asked for it, and gives; one that a pod holds it does not', async () => {
  const { rig, node } = await started()
  const other = rig.node('b')
  other.start()
  await settle()
  const slot = (await other.add('q1'))[0]?.slot as string
  const at = (offset: number) => formatIp(addressAt(parseCidr(slot), offset))
  const asked = [
    named(node, 'p1', at(7)),
    named(node, 'p2', at(9)),
    refusal(named(node, 'p3', at(0))),
  ] as const
  await rig.clock.advance(3000)
  assert.equal(await asked[0], [at(7)])
  assert.equal(await asked[1], [at(9)])
  const error = await asked[2]
  assert.is(error.code, 'ipam.address-taken')
  assert.match(error.message, /not free on node b: pod q1 holds it$/)
  assert.equal(owned(rig, node.uid), [`${at(7)}/32`, `${at(9)}/32`])
})

test('in a part of a node that does not answer: named, to be tried again, nothing changed', async () => {
  const { rig, node } = await started()
  const other = rig.node('b')
  other.start()
  await settle()
  await named(other, 'q1', '10.0.0.77')
  other.kill()
  const before = JSON.stringify(owned(rig, other.uid))
  const asked = refusal(named(node, 'p1', '10.0.0.77'))
  await rig.clock.advance(3000)
  const error = await asked
  assert.is(error.code, 'ipam.owner-silent')
  assert.match(error.message, /node b\b/)
  assert.is(error.retryable, true)
  assert.is(JSON.stringify(owned(rig, other.uid)), before)
})

test('two pods of one node ask for one free address at once: one gets it', async () => {
  const { node } = await started()
  const results = await Promise.allSettled([named(node, 'p1', '10.0.0.77'), named(node, 'p2', '10.0.0.77')])
  assert.equal(results.map(({ status }) => status).sort(), ['fulfilled', 'rejected'])
})

test('two nodes ask for one free address at once: one gets it, the other is told who has it', async () => {
  const { rig, node } = await started()
  const other = rig.node('b')
  other.start()
  await settle()
  const asked = Promise.allSettled([named(node, 'p', '10.0.0.77'), named(other, 'q', '10.0.0.77')])
  await rig.clock.advance(5000)
  const results = await asked
  assert.equal(results.map(({ status }) => status).sort(), ['fulfilled', 'rejected'])
  const [lost] = results.flatMap(result => (result.status === 'rejected' ? [result.reason] : []))
  assert.is(lost.code, 'ipam.address-taken')
})

test('rule 4: a claim in doubt is settled before the address is used', async () => {
  for (const fate of ['landed', 'lost'] as const) {
    const { rig, node } = await started()
    node.store.doubtNext(fate)
    const wish = named(node, 'p1', '10.0.0.77')
    await rig.clock.advance(3000)
    assert.equal(await wish, ['10.0.0.77'], fate)
    assert.equal(owned(rig, node.uid), ['10.0.0.77/32'])
  }
})

test('rule 4: a doubt that an earlier try left is settled by the next', async () => {
  const { node } = await started()
  for (let i = 0; i < 20; i++) node.store.doubtNext('lost')
  assert.is((await refusal(named(node, 'p1', '10.0.0.77'))).code, 'store.in-doubt')
  node.store.clearDoubts()
  assert.equal(await named(node, 'p2', '10.0.0.77'), ['10.0.0.77'])
})

test('rule 16: while the store counts as restored nothing free is claimed by name either', async () => {
  const { rig, node } = await started()
  const space = rig.read<object>('address-space')
  rig.put('address-space', { ...space, restored: { id: 'x', allowanceMs: 1000 } })
  await settle()
  const error = await refusal(named(node, 'p1', '10.0.0.77'))
  assert.is(error.code, 'ipam.not-confirmed')
  assert.equal(owned(rig, node.uid), [])
})

test('a kill while the claim was under way: after the restart the address can be had', async () => {
  const { rig, node } = await started()
  // The claim, and every attempt to settle it, are under way when the process dies.
  for (let i = 0; i < 20; i++) node.store.doubtNext('late')
  assert.is((await refusal(named(node, 'p1', '10.0.0.77'))).code, 'store.in-doubt')
  node.kill()
  node.landLate()
  node.start()
  await rig.clock.advance(5000)
  assert.equal(owned(rig, node.uid), ['10.0.0.77/32'])
  assert.equal(await named(node, 'p2', '10.0.0.77'), ['10.0.0.77'])
})

test.run()
