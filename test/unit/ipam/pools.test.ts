import { test } from 'uvu'
import * as assert from 'uvu/assert'
import { MemoryStore } from '../../../datastore/memory/store.ts'
import type { AddressSpaceRecord } from '../../../datastore/records/address-space.ts'
import type { SlotRecord } from '../../../datastore/records/slot.ts'
import type { IPPool } from '../../../datastore/resources/ippool.ts'
import { deletePool } from '../../../ipam/pool-removal.ts'
import { createPool, ensureFirstPools, listPools, updatePool } from '../../../ipam/pools.ts'
import { isTwillError } from '../../../lib/errors.ts'
import { settle } from '../../fixtures/manual-clock.ts'
import { pool, Rig } from './rig.ts'

const space = (rig: Rig) => rig.read<AddressSpaceRecord>('address-space')?.pools ?? []

async function outcome(promise: Promise<unknown>): Promise<string> {
  return promise.then(
    () => 'done',
    error => (isTwillError(error) ? error.code : String(error)),
  )
}

/** Another client of the same store. */
const client = (rig: Rig) => ({
  store: new MemoryStore({}, { cluster: rig.cluster, clock: rig.clock }),
  random: rig.random,
  clock: rig.clock,
})

test('a pool is entered in the address space under its uid', async () => {
  const rig = new Rig()
  const created = await rig.createPool('one', '10.0.0.0/16')
  const entry = { uid: created.metadata.uid, name: 'one', cidr: '10.0.0.0/16', blockSize: 26, state: 'open' }
  assert.equal(space(rig), [entry])
  assert.is(rig.read<IPPool>('resources/ippools/one')?.metadata.uid, created.metadata.uid)
})

test('overlapping pools written at the same instant from two nodes: exactly one gets in', async () => {
  const rig = new Rig()
  const results = await Promise.all([
    outcome(createPool(pool('one', '10.0.0.0/16'), client(rig))),
    outcome(createPool(pool('two', '10.0.128.0/24'), client(rig))),
  ])
  assert.equal(results.sort(), ['done', 'ipam.pool-overlap'])
  assert.is(space(rig).length, 1)
  assert.is((await listPools(rig.operator)).length, 1)
})

test('the refusal names both pools', async () => {
  const rig = new Rig()
  await rig.createPool('one', '10.0.0.0/16')
  await rig.createPool('two', '10.0.128.0/24').then(
    () => assert.unreachable(),
    error => assert.match(error.message, /two \(10\.0\.128\.0\/24\).*one \(10\.0\.0\.0\/16\)/),
  )
})

test('the same name at the same instant: one pool', async () => {
  const rig = new Rig()
  const results = await Promise.all([
    outcome(createPool(pool('one', '10.0.0.0/16'), client(rig))),
    outcome(createPool(pool('one', '10.1.0.0/16'), client(rig))),
  ])
  assert.is(results.filter(result => result === 'done').length, 1)
  assert.is(space(rig).length, 1)
  assert.is(rig.read<IPPool>('resources/ippools/one')?.spec.cidr, space(rig)[0]?.cidr)
})

for (const doubt of ['landed', 'lost'] as const)
  test(`a creation in doubt (${doubt}) takes place, and is reported as done`, async () => {
    const rig = new Rig()
    rig.operator.doubtNext(doubt, 'address-space')
    rig.operator.doubtNext(doubt, 'resources/ippools/one')
    assert.is(await outcome(rig.createPool('one', '10.0.0.0/16')), 'done')
    assert.is(space(rig).length, 1)
    assert.is((await listPools(rig.operator)).length, 1)
  })

test('a creation that stopped after its entry is finished by the next', async () => {
  const rig = new Rig()
  const modules = client(rig)
  modules.store.doubtNext('late', 'resources/ippools/one')
  modules.store.doubtNext('late', 'resources/ippools/one')
  assert.is(await outcome(createPool(pool('one', '10.0.0.0/16'), modules)), 'store.in-doubt')
  assert.is(await outcome(rig.createPool('one', '10.0.0.0/16')), 'done')
  assert.is(space(rig).length, 1)
})

test('cidr and blockSize are immutable, the rest may change', async () => {
  const rig = new Rig()
  await rig.createPool('one', '10.0.0.0/16')
  const { operator: store } = rig
  assert.is(await outcome(updatePool(pool('one', '10.1.0.0/16'), { store })), 'document.invalid')
  assert.is(await outcome(updatePool(pool('one', '10.0.0.0/16', 28), { store })), 'document.invalid')
  assert.is(await outcome(updatePool(pool('none', '10.0.0.0/16'), { store })), 'resource.not-found')
  const disabled = pool('one', '10.0.0.0/16')
  disabled.spec.disabled = true
  assert.is((await updatePool(disabled, { store })).changed, true)
  assert.is((await updatePool(disabled, { store })).changed, false)
})

test('first pools come only if there is none, once, whoever asks at the same time', async () => {
  const rig = new Rig()
  const first = [
    { name: 'v4', spec: { cidr: '10.0.0.0/16' } },
    { name: 'v6', spec: { cidr: 'fd00::/112' } },
  ]
  await Promise.all([1, 2, 3].map(() => ensureFirstPools(first, client(rig))))
  assert.equal(
    space(rig).map(entry => entry.name),
    ['v4', 'v6'],
  )
  for (const entry of space(rig))
    assert.is(rig.read<IPPool>(`resources/ippools/${entry.name}`)?.metadata.uid, entry.uid)
  await ensureFirstPools([{ name: 'other', spec: { cidr: '10.9.0.0/16' } }], client(rig))
  assert.is(space(rig).length, 2)
})

test('a pool in use is not deleted, and stays open', async () => {
  const rig = new Rig()
  await rig.createPool('one', '10.0.0.0/24')
  const node = rig.node('a')
  node.start()
  await settle()
  await node.add('p1')
  await rig.clock.advance(5000)
  assert.is(await outcome(deletePool('one', { drain: false }, rig.modules)), 'resource.in-use')
  assert.is(space(rig)[0]?.state, 'open')
})

test('a pool that nobody uses any more goes, with the parts that nodes kept in reserve', async () => {
  const rig = new Rig()
  await rig.createPool('one', '10.0.0.0/24')
  const node = rig.node('a')
  node.start()
  await settle()
  await node.add('p1')
  node.del('p1')
  await rig.clock.advance(5000)
  const deletion = deletePool('one', { drain: false }, rig.modules)
  await rig.clock.advance(5000)
  assert.equal(await deletion, { removed: true })
  assert.equal(space(rig), [])
  assert.is((await listPools(rig.operator)).length, 0)
  assert.equal(
    rig.under<SlotRecord>('slots/').flatMap(([, slot]) => slot.parts.map(part => part.owner)),
    [null],
  )
  await rig.createPool('again', '10.0.0.0/24')
  await settle()
  await node.add('p2')
})

test('a drained pool is closed at once, and removed when the last address has come back', async () => {
  const rig = new Rig()
  await rig.createPool('one', '10.0.0.0/24')
  const node = rig.node('a')
  node.start()
  await settle()
  await node.add('p1')
  const drain = async () => {
    const deletion = deletePool('one', { drain: true, waitMs: 1000 }, rig.modules)
    await rig.clock.advance(5000)
    return deletion
  }
  assert.equal(await drain(), { removed: false, parts: 1, owners: ['uid-a'] })
  assert.is(await outcome(node.add('p2')), 'ipam.no-pool')
  node.del('p1')
  await rig.clock.advance(5000)
  assert.equal(await drain(), { removed: true })
})

test('a pool written around createPool is entered by the first daemon; an overlapping one is a condition', async () => {
  const rig = new Rig()
  await rig.createPool('one', '10.0.0.0/24')
  const node = rig.node('a')
  node.start()
  await settle()
  rig.put('resources/ippools/raw', pool('raw', '10.1.0.0/24'))
  rig.put('resources/ippools/bad', pool('bad', '10.0.0.0/25'))
  await rig.clock.advance(5000)
  assert.equal(
    space(rig).map(entry => entry.name),
    ['one', 'raw'],
  )
  assert.equal(
    node.ipam?.conditions().map(condition => condition.pool),
    ['bad'],
  )
  assert.is((await node.add('p1', [4], ['raw']))[0]?.address.startsWith('10.1.0.'), true)
  assert.is(await outcome(node.add('p2', [4], ['bad'])), 'ipam.no-pool')
})

test('a copy of a pool under another name and CIDR, uid and all, is not used', async () => {
  const rig = new Rig()
  const one = await rig.createPool('one', '10.0.0.0/24')
  const copy = pool('copy', '10.0.0.0/16')
  rig.put('resources/ippools/copy', { ...copy, metadata: { ...copy.metadata, uid: one.metadata.uid } })
  const node = rig.node('a')
  node.start()
  await rig.clock.advance(5000)
  assert.is(await outcome(node.add('p', [4], ['copy'])), 'ipam.no-pool')
  assert.is(node.ipam?.conditions()[0]?.pool, 'copy')
})

for (const [what, spec, said] of [
  ['shrunk', { cidr: '10.0.0.0/26' }, 'cidr is 10.0.0.0/26 and was entered as 10.0.0.0/24'],
  ['moved', { cidr: '10.9.0.0/24' }, 'cidr is 10.9.0.0/24 and was entered as 10.0.0.0/24'],
  ['cut anew', { blockSize: 28 }, 'blockSize is 28 and was entered as 26'],
] as const)
  test(`a pool ${what} straight in the store: told, nothing goes out, nobody loses anything, and it can be put right`, async () => {
    const rig = new Rig()
    const one = await rig.createPool('one', '10.0.0.0/24')
    const node = rig.node('a')
    node.start()
    await settle()
    await node.add('p1')
    rig.put('resources/ippools/one', { ...one, spec: { ...one.spec, ...spec } })
    await rig.clock.advance(5000)
    assert.equal(
      node.ipam?.conditions().map(({ pool: name, reason }) => [name, reason.includes(said)]),
      [['one', true]],
    )
    assert.is(await outcome(node.add('p2')), 'ipam.no-pool')
    assert.is(node.lost.length, 0)
    assert.is(node.ipam?.heldBy('p1').length, 1)
    assert.is(space(rig)[0]?.cidr, '10.0.0.0/24')
    assert.is(await outcome(updatePool(pool('one', '10.0.0.0/26'), rig.modules)), 'document.invalid')
    assert.is((await updatePool(pool('one', '10.0.0.0/24'), rig.modules)).changed, true)
    await rig.clock.advance(5000)
    assert.equal(node.ipam?.conditions(), [])
    await node.add('p2')
  })

test('an entry of a version that kept no block size gets it from the first daemon', async () => {
  const rig = new Rig()
  await rig.createPool('one', '10.0.0.0/24', 28)
  const record = rig.read<AddressSpaceRecord>('address-space') as AddressSpaceRecord
  const old = record.pools.map(({ blockSize: _, ...entry }) => entry)
  rig.put('address-space', { ...record, pools: old })
  rig.node('a').start()
  await rig.clock.advance(5000)
  assert.is(space(rig)[0]?.blockSize, 28)
})

test('a creation begun with another block size is not taken over: its resource may be about to appear', async () => {
  const rig = new Rig()
  const modules = client(rig)
  modules.store.doubtNext('late', 'resources/ippools/one')
  modules.store.doubtNext('late', 'resources/ippools/one')
  await outcome(createPool(pool('one', '10.0.0.0/16', 28), modules))
  await rig.createPool('one', '10.0.0.0/16').then(
    () => assert.unreachable(),
    error =>
      assert.is(
        error.message,
        'IPPool one (10.0.0.0/16, blockSize 26) collides with IPPool one (10.0.0.0/16, blockSize 28), whose creation was begun',
      ),
  )
})

test('rule 18: what a pool for ipam is cannot be changed, nor can another become one', async () => {
  const { modules } = new Rig()
  const lan = pool('lan', '10.50.0.0/16')
  const forIpam = { ...lan, spec: { ...lan.spec, allowedUses: ['ipam' as const], gateway: '10.50.0.9' } }
  const refusal = (document: IPPool) =>
    updatePool(document, modules).then(
      () => 'granted',
      error => (isTwillError(error, 'document.invalid') ? error.data.field : String(error)),
    )
  await createPool(forIpam, modules)
  assert.is(await refusal(lan), 'spec.allowedUses')
  assert.is(await refusal({ ...forIpam, spec: { ...forIpam.spec, gateway: '10.50.0.1' } }), 'spec.gateway')
  await createPool(pool('pods', '10.60.0.0/16'), modules)
  const pods = pool('pods', '10.60.0.0/16')
  assert.is(await refusal({ ...pods, spec: { ...pods.spec, allowedUses: ['ipam'] } }), 'spec.allowedUses')
  assert.is(await refusal({ ...pods, spec: { ...pods.spec, allowedUses: ['pod'] } }), 'granted')
})

test.run()
