/** A pool over what nodes live by: it is not entered, and where it was, nobody is given anything of it. */
import { test } from 'uvu'
import * as assert from 'uvu/assert'
import type { AddressSpaceRecord } from '../../../datastore/records/address-space.ts'
import type { SlotRecord } from '../../../datastore/records/slot.ts'
import type { IPPool } from '../../../datastore/resources/ippool.ts'
import { type Vital, vitalOf } from '../../../ipam/covered.ts'
import { messageOf } from '../../../lib/errors.ts'
import { settle } from '../../fixtures/manual-clock.ts'
import { pool, Rig, type RigNode } from './rig.ts'

const OWN = vitalOf('10.66.0.9', 'the address of this node')
const entered = (rig: Rig) =>
  (rig.read<AddressSpaceRecord>('address-space')?.pools ?? []).map(({ name }) => name)
const conditions = (node: RigNode) => (node.ipam?.conditions() ?? []).map(({ reason }) => reason)
const owners = (rig: Rig) => [
  ...new Set(rig.under<SlotRecord>('slots/').flatMap(([, { parts }]) => parts.map(({ owner }) => owner))),
]
const why = async (node: RigNode, id: string) => messageOf(await node.add(id).catch(error => error))

/** Registers another node at this address. */
function register(rig: Rig, name: string, address: string) {
  const record = {
    v: 1,
    name,
    uid: `uid-${name}`,
    incarnation: 'b',
    hostAddresses: [],
    vteps: [],
    tunnel: {},
  }
  rig.put(`nodes/${name}`, { ...record, underlay: { 4: address } })
}

test('written straight into the store over another node: not entered, no uid, told, and gone when it is deleted', async () => {
  const rig = new Rig()
  register(rig, 'far', '10.66.3.4')
  const node = rig.node('a')
  node.start()
  rig.put('resources/ippools/bad', pool('bad', '10.66.0.0/16'))
  rig.put('resources/ippools/good', pool('good', '10.0.0.0/16'))
  await settle()
  assert.equal(entered(rig), ['good'])
  assert.is(rig.read<IPPool>('resources/ippools/bad')?.metadata.uid, undefined)
  const reason = 'IPPool bad (10.66.0.0/16) covers 10.66.3.4, the address of node far'
  assert.equal(conditions(node), [reason])
  assert.match((await node.add('p1'))[0]?.address ?? '', /^10\.0\./)
  register(rig, 'far', '10.67.3.4')
  await rig.clock.advance(3_600_000)
  assert.equal([entered(rig).sort(), conditions(node)], [['bad', 'good'], []])
})

test('twillctl and daemons create none; what another node registers takes none out of use that is entered', async () => {
  const rig = new Rig()
  register(rig, 'far', '10.66.3.4')
  const refused = await rig.createPool('bad', '10.66.0.0/16').catch(error => error)
  assert.is(refused.code, 'ipam.pool-covers')
  assert.equal([entered(rig), rig.read('resources/ippools/bad')], [[], null])
  await rig.createPool('good', '10.0.0.0/16')
  const node = rig.node('a')
  node.start()
  await settle()
  register(rig, 'evil', '10.0.0.1')
  await rig.clock.advance(60_000)
  assert.equal(conditions(node), [])
  assert.is((await node.add('p1')).length, 1)
})

test('an entered pool whose document lost its uid is the same, whatever a node registered meanwhile', async () => {
  const rig = new Rig()
  await rig.createPool('one', '10.0.0.0/16')
  const node = rig.node('a')
  node.start()
  await settle()
  register(rig, 'evil', '10.0.0.1')
  const { metadata, ...rest } = rig.read<IPPool>('resources/ippools/one') as IPPool
  const { uid, ...kept } = metadata
  rig.put('resources/ippools/one', { ...rest, metadata: kept })
  await rig.clock.advance(5_000)
  assert.is(rig.read<IPPool>('resources/ippools/one')?.metadata.uid, uid)
  assert.equal(conditions(node), [])
})

test('what this node itself lives by: a pool of before gives nothing more, says why, and keeps only what is held', async () => {
  const rig = new Rig()
  await rig.createPool('old', '10.66.0.0/16')
  let vitals: readonly Vital[] = []
  const node = rig.node('a')
  const ipam = node.start({ lowWater: 1, vitals: () => vitals })
  await settle()
  await node.add('p1')
  vitals = OWN
  ipam.recheckPools()
  await settle()
  const covers = 'covers 10.66.0.9, the address of this node'
  assert.equal(conditions(node), [
    `IPPool old (10.66.0.0/16) ${covers}: it is not used here, and its pods are cut off`,
  ])
  assert.match(await why(node, 'p2'), new RegExp(`IPPool old ${covers}, and is not used here`))
  assert.is(ipam.room().ok, false)
  const { poolUid = '' } = ipam.ownParts()[0] ?? {}
  assert.is(ipam.standing(poolUid, 'tunnel'), 'replaced')
  await rig.createPool('new', '10.0.0.0/16')
  await settle()
  assert.match((await node.add('p2'))[0]?.address ?? '', /^10\.0\./)
  assert.is(
    ipam.ownParts().some(part => part.poolUid === poolUid),
    true,
    'p1 lives',
  )
  node.del('p1')
  await rig.clock.advance(120_000)
  assert.is(
    ipam.ownParts().some(part => part.poolUid === poolUid),
    false,
  )
  vitals = []
  ipam.recheckPools()
  await settle()
  assert.equal([conditions(node), ipam.standing(poolUid, 'tunnel')], [[], 'stays'])
})

test('at a start without the store the journal names it, as it does when the address comes later', async () => {
  const rig = new Rig()
  await rig.createPool('old', '10.66.0.0/16')
  const node = rig.node('a')
  node.start({ lowWater: 1 })
  await settle()
  await node.add('p1')
  assert.ok(owners(rig).includes('uid-a'))
  node.kill()
  node.store.setUnavailable(true)
  let vitals: readonly Vital[] = OWN
  const ipam = node.start({ vitals: () => vitals })
  await settle()
  assert.match(conditions(node).join(), /^IPPool old .* covers 10\.66\.0\.9/)
  assert.match(await why(node, 'p2'), /covers 10\.66\.0\.9/)
  vitals = []
  ipam.recheckPools()
  assert.equal(conditions(node), [])
  assert.match((await node.add('p2'))[0]?.address ?? '', /^10\.66\./)
})

test.run()
