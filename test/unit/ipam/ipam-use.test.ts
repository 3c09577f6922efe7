/** Pools for other plugins (ADDRESSES.md rule 18): who takes from them, what never goes out, when parts are claimed. */
import { test } from 'uvu'
import * as assert from 'uvu/assert'
import type { SlotRecord } from '../../../datastore/records/slot.ts'
import { deletePool } from '../../../ipam/pool-removal.ts'
import { createPool } from '../../../ipam/pools.ts'
import { parseIp } from '../../../lib/address.ts'
import { isTwillError } from '../../../lib/errors.ts'
import { settle } from '../../fixtures/manual-clock.ts'
import { holder, pool, Rig, type RigNode } from './rig.ts'

/** A cluster with a pool for pods and one for ipam, and a node in it. */
async function started(
  options: { cidr?: string; blockSize?: number; gateway?: string; lowWater?: number } = {},
) {
  const { cidr = '10.50.0.0/24', blockSize = 28, gateway, lowWater = 0 } = options
  const rig = new Rig()
  await rig.createPool('pods', '10.0.0.0/24', 28)
  const lan = pool('lan', cidr, blockSize)
  const spec = { ...lan.spec, allowedUses: ['ipam' as const], ...(gateway === undefined ? {} : { gateway }) }
  const { metadata } = await createPool({ ...lan, spec }, rig.modules)
  const node = rig.node('a')
  node.start({ lowWater })
  await settle()
  return { rig, node, lan: metadata.uid }
}

const allocate = async (node: RigNode, id: string, pools: string[] = []) => {
  const addresses = await node.ipam!.allocate({
    holder: { ...holder(id), kind: 'ipam' },
    families: [],
    pools,
  })
  return addresses.map(({ address }) => address)
}

const refusal = (promise: Promise<unknown>) =>
  promise.then(
    () => 'granted',
    error => (isTwillError(error) ? error.code : String(error)),
  )

const partsOf = (rig: Rig, poolUid: string) =>
  rig.under<SlotRecord>(`slots/${poolUid}/`).flatMap(([, { parts }]) => parts)

test('rule 18: pods never take from a pool for ipam, attachments of other plugins from nothing else', async () => {
  const { node, lan } = await started()
  assert.is.not((await node.add('pod'))[0]?.poolUid, lan)
  assert.is(await refusal(node.add('pod2', [4], ['lan'])), 'ipam.no-pool')
  assert.match(String(await allocate(node, 'one')), /^10\.50\.0\./)
  assert.is(await refusal(allocate(node, 'two', ['pods'])), 'ipam.no-pool')
})

test('rule 18, CNI-244: network address, broadcast address and the default gateway never go out', async () => {
  const { node } = await started({ cidr: '10.50.0.0/28' })
  const taken: string[] = []
  while ((await refusal(allocate(node, `h${taken.length}`))) === 'granted')
    taken.push(node.ipam!.heldBy(`h${taken.length}`)[0]!.address)
  assert.equal(
    taken,
    Array.from({ length: 13 }, (_, i) => `10.50.0.${i + 2}`),
  )
  for (let i = 0; i < 13; i++) node.ipam!.release(`h${i}`)
  assert.equal(await allocate(node, 'again'), ['10.50.0.2'])
})

test('rule 18: nor does a gateway of the operator`s, also after a restart without the store', async () => {
  const { rig, node } = await started({ cidr: '10.50.0.0/29', blockSize: 29, gateway: '10.50.0.3' })
  assert.equal([await allocate(node, 'a'), await allocate(node, 'b')], [['10.50.0.1'], ['10.50.0.2']])
  await rig.clock.advance(1000)
  node.kill()
  node.setUnavailable(true)
  node.start({ lowWater: 0 })
  await settle()
  const taken: string[] = []
  for (const id of ['c', 'd', 'e', 'f']) taken.push(...(await allocate(node, id)))
  assert.equal(taken, ['10.50.0.1', '10.50.0.2', '10.50.0.4', '10.50.0.5'])
})

test('IPv6: the subnet-router anycast address and the gateway are left out, the last address is not', async () => {
  const { node } = await started({ cidr: 'fd50::/126', blockSize: 126 })
  assert.equal([await allocate(node, 'a'), await allocate(node, 'b')], [['fd50::2'], ['fd50::3']])
  assert.is(await refusal(allocate(node, 'c')), 'ipam.exhausted')
})

test('asked for by name they are refused, saying what they are', async () => {
  const { node } = await started({ gateway: '10.50.0.3' })
  const why = (address: string) =>
    node
      .ipam!.allocate({
        holder: { ...holder('p'), kind: 'ipam' },
        families: [],
        pools: [],
        addresses: [parseIp(address)],
      })
      .then(String, error => error.message)
  assert.is(await why('10.50.0.3'), '10.50.0.3 cannot be given: it is the gateway of IPPool lan')
  for (const last of ['0', '255'])
    assert.match(await why(`10.50.0.${last}`), 'it is the network or broadcast address of IPPool lan')
})

test('a slot of which nothing may go out is claimed, and another after it', async () => {
  const { node } = await started({ cidr: '10.50.0.0/30', blockSize: 32 })
  assert.equal(await allocate(node, 'a'), ['10.50.0.2'])
  assert.is(await refusal(allocate(node, 'b')), 'ipam.exhausted')
})

test('parts for ipam are claimed at the first need, and ahead of need only from then on', async () => {
  const { rig, node, lan } = await started({ lowWater: 16 })
  await rig.clock.advance(1000)
  assert.equal(partsOf(rig, lan), [])
  await allocate(node, 'a')
  await rig.clock.advance(1000)
  assert.is(partsOf(rig, lan).length, 2)
})

test('CNI-171: there is room when a part has some, or when one could be claimed', async () => {
  const { rig, node } = await started({ cidr: '10.50.0.0/28' })
  const room = (pools: string[] = [], families: (4 | 6)[] = []) =>
    node.ipam!.room({ use: 'ipam', pools, families }).ok
  assert.is(room(), true)
  assert.is(room(['lan'], [4]), true)
  assert.is(room(['pods']), false)
  assert.is(room([], [6]), false)
  node.setUnavailable(true)
  assert.is(room(), false)
  node.setUnavailable(false)
  for (let i = 0; i < 13; i++) {
    await allocate(node, `h${i}`)
    await rig.clock.advance(10)
    node.setUnavailable(true)
    assert.is(room(), i < 12)
    node.setUnavailable(false)
  }
  assert.is(room(), false)
  assert.is(node.ipam!.room().ok, false)
})

test('a pool whose addresses are lent is not deleted', async () => {
  const { rig, node } = await started()
  await allocate(node, 'a')
  node.ipam!.recorded('a')
  await rig.clock.advance(5000)
  const refused = await deletePool('lan', { drain: false }, rig.modules)
  assert.equal(refused.removed || refused.users[0]?.holders.map(({ kind }) => kind), ['ipam'])
  node.ipam!.release('a')
  await rig.clock.advance(5000)
  const deleted = deletePool('lan', { drain: false }, rig.modules)
  await rig.clock.advance(5000)
  assert.is(await refusal(deleted), 'granted')
})

test.run()
