import { test } from 'uvu'
import * as assert from 'uvu/assert'
import { MemoryStore } from '../../../datastore/memory/store.ts'
import type { AddressSpaceRecord } from '../../../datastore/records/address-space.ts'
import type { SlotRecord } from '../../../datastore/records/slot.ts'
import type { IPPool } from '../../../datastore/resources/ippool.ts'
import { auditDatastore } from '../../../ipam/audit/read.ts'
import { purgePool } from '../../../ipam/pool-leftovers.ts'
import { deletePool, keepPool } from '../../../ipam/pool-removal.ts'
import { createPool, ensureFirstPools, listPools, updatePool } from '../../../ipam/pools.ts'
import { emptySlot } from '../../../ipam/slot.ts'
import { parseCidr } from '../../../lib/address.ts'
import { isTwillError } from '../../../lib/errors.ts'
import { settle } from '../../fixtures/manual-clock.ts'
import { holder, pool, Rig, withPod } from './rig.ts'

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

async function deletion(rig: Rig, drain: boolean) {
  const deleted = deletePool('one', { drain, waitMs: 1000 }, rig.modules)
  await rig.clock.advance(5000)
  return deleted
}

/** Keys and records of pools that are not in the address space. */
const left = (rig: Rig) => {
  const known = new Set(space(rig).map(({ uid }) => uid))
  return ['slots/', 'ledgers/']
    .flatMap(prefix => rig.under(prefix).map(([key]) => key))
    .filter(key => !known.has(key.split('/')[1] ?? ''))
}

test('a pool in use is not deleted, and stays open; who uses it is told', async () => {
  const rig = new Rig()
  const node = await withPod(rig)
  const refused = await deletion(rig, false)
  assert.equal(refused.removed || [refused.closed, refused.users.map(({ uid, parts }) => [uid, parts])], [
    false,
    [['uid-a', 1]],
  ])
  assert.equal(refused.removed || refused.users[0]?.holders.map(({ holder }) => holder), ['p1'])
  assert.is(space(rig)[0]?.state, 'open')
  await node.add('p2')
})

test('a pod that no ledger had when the pool was closed: it is open again', async () => {
  const rig = new Rig()
  await rig.createPool('one', '10.0.0.0/24')
  const node = rig.node('a', { lingerMs: 3000 })
  node.start()
  await settle()
  await node.add('p1')
  const deleted = deletePool('one', { drain: false }, rig.modules)
  await rig.clock.advance(20_000)
  const refused = await deleted
  assert.is(refused.removed || refused.closed, false)
  assert.is(space(rig)[0]?.state, 'open')
})

test('a pool that nobody uses any more goes, with the parts that nodes kept in reserve, and all its records', async () => {
  const rig = new Rig()
  const node = await withPod(rig)
  node.del('p1')
  await rig.clock.advance(5000)
  assert.equal(await deletion(rig, false), { removed: true })
  assert.equal(space(rig), [])
  assert.is((await listPools(rig.operator)).length, 0)
  assert.equal(left(rig), [])
  assert.equal((await auditDatastore(rig.operator)).findings, [])
  await rig.createPool('again', '10.0.0.0/24')
  await settle()
  await node.add('p2')
})

test('a drained pool is closed at once, and removed when the last address has come back', async () => {
  const rig = new Rig()
  const node = await withPod(rig)
  const waiting = await deletion(rig, true)
  assert.equal(waiting.removed || [waiting.closed, waiting.users.map(({ uid }) => uid)], [true, ['uid-a']])
  assert.is(await outcome(node.add('p2')), 'ipam.no-pool')
  node.del('p1')
  await rig.clock.advance(5000)
  assert.equal(await deletion(rig, true), { removed: true })
  assert.equal(left(rig), [])
})

test('a pool that was written past Twill and that nobody could enter is deleted', async () => {
  const rig = new Rig()
  await rig.createPool('one', '10.0.0.0/24')
  rig.put('resources/ippools/two', pool('two', '10.0.0.0/25'))
  assert.equal(await deletePool('two', { drain: false }, rig.modules), { removed: true })
  assert.is(rig.read('resources/ippools/two'), null)
  assert.equal(
    space(rig).map(({ name }) => name),
    ['one'],
  )
  assert.is(await outcome(deletePool('two', { drain: false }, rig.modules)), 'resource.not-found')
})

test('a pool that is entered while it is deleted as one that nobody entered leaves no entry', async () => {
  const rig = new Rig()
  rig.put('resources/ippools/two', pool('two', '10.0.0.0/25'))
  const { store } = rig.modules
  const entered = {
    ...store,
    get: store.get.bind(store),
    list: store.list.bind(store),
    commit: (change: Parameters<typeof store.commit>[0]) => {
      if (change.value === null && change.key === 'resources/ippools/two')
        rig.put('address-space', {
          v: 1,
          pools: [{ uid: 'u', name: 'two', cidr: '10.0.0.0/25', blockSize: 26, state: 'open' }],
          restored: null,
        })
      return store.commit(change)
    },
  }
  assert.equal(
    await deletePool('two', { drain: false }, { ...rig.modules, store: entered as typeof store }),
    { removed: true },
  )
  assert.equal(space(rig), [])
})

test('a deletion that waits is taken back: the pool hands out again, and who still waits is told', async () => {
  const rig = new Rig()
  const node = await withPod(rig)
  await deletion(rig, true)
  assert.is(await keepPool('one', rig.modules), true)
  assert.is(await keepPool('one', rig.modules), false)
  await rig.clock.advance(100)
  await node.add('p2')
  const waiting = outcome(deletePool('one', { drain: true }, rig.modules))
  await rig.clock.advance(1000)
  await keepPool('one', rig.modules)
  await rig.clock.advance(1000)
  assert.is(await waiting, 'resource.in-use')
  assert.is(space(rig)[0]?.state, 'open')
  assert.is(await outcome(keepPool('none', rig.modules)), 'resource.not-found')
})

test('what nodes themselves hold of a pool: replaced while it is drained, given up when nobody else is left', async () => {
  const rig = new Rig()
  const node = await withPod(rig)
  let told = 0
  const watching = rig.node('b')
  const ipam = watching.start({ onPools: () => told++ })
  await rig.clock.advance(100)
  const uid = space(rig)[0]?.uid ?? ''
  assert.is(ipam.standing(uid, 'tunnel'), 'stays')
  const before = told
  await deletion(rig, true)
  assert.is(ipam.standing(uid, 'tunnel'), 'replaced')
  assert.ok(told > before)
  node.del('p1')
  await rig.clock.advance(5000)
  const own = { ...holder('t'), kind: 'tunnel' as const }
  await keepPool('one', rig.modules)
  await rig.clock.advance(100)
  await watching.ipam?.allocate({ holder: own, families: [4], pools: [] })
  watching.ipam?.recorded('t')
  await rig.clock.advance(5000)
  const waiting = await deletion(rig, false)
  assert.equal(
    waiting.removed || waiting.users.map(each => each.uid),
    ['uid-b'],
    'no pod: it waits for nodes',
  )
  assert.is(ipam.standing(uid, 'tunnel'), 'given-up')
  await keepPool('one', rig.modules)
  await rig.clock.advance(100)
  assert.is(ipam.standing(uid, 'tunnel'), 'stays')
  assert.is(ipam.standing(uid, 'ipam'), 'replaced', 'it is not meant for that')
})

test('a pod that no ledger had when the pool was drained: no node gives up what the pod may need', async () => {
  const rig = new Rig()
  await rig.createPool('one', '10.0.0.0/24')
  const [a, b] = [rig.node('a'), rig.node('b')]
  a.start()
  const ipam = b.start()
  await settle()
  await ipam.allocate({ holder: { ...holder('t'), kind: 'tunnel' }, families: [4], pools: [] })
  ipam.recorded('t')
  await rig.clock.advance(5000)
  await a.add('p1')
  await deletion(rig, true)
  assert.equal([space(rig)[0]?.state, space(rig)[0]?.emptied], ['closed', undefined])
  assert.is(ipam.standing(space(rig)[0]?.uid ?? '', 'tunnel'), 'replaced')
})

test('a removal that has gone too far is not taken back: what is left of it can only be finished', async () => {
  const rig = new Rig()
  await rig.createPool('one', '10.0.0.0/24')
  await outcome(deletePool('one', { drain: true }, { store: killedAfter(rig, 2), clock: rig.clock }))
  assert.is(await outcome(keepPool('one', rig.modules)), 'resource.in-use')
  rig.put('resources/ippools/one', null)
  assert.is(await outcome(keepPool('one', rig.modules)), 'resource.not-found')
  assert.is(space(rig)[0]?.state, 'closed')
  assert.equal(await deletion(rig, false), { removed: true })
  assert.equal(space(rig), [])
})

test('taken back in the very moment in which it is removed: it stays, or whoever takes it back is told that it goes', async () => {
  for (let moment = 0; moment < 16; moment++) {
    const rig = new Rig()
    await rig.createPool('one', '10.0.0.0/24')
    const { store } = client(rig)
    let [steps, isKept] = [0, false]
    const keep = async () => {
      if (steps++ === moment) isKept = await keepPool('one', rig.modules).catch(() => false)
    }
    const { commit, get, list } = store
    store.commit = asked => keep().then(() => commit.call(store, asked))
    store.get = asked => keep().then(() => get.call(store, asked))
    store.list = asked => keep().then(() => list.call(store, asked))
    await outcome(deletePool('one', { drain: true }, { store, clock: rig.clock }))
    const isWhole = space(rig)[0]?.state === 'open' && (await listPools(rig.operator)).length === 1
    if (isKept) assert.ok(isWhole, `at step ${moment}`)
    else assert.equal([space(rig), await listPools(rig.operator)], [[], []], `at step ${moment}`)
  }
})

/** Commits up to the limit, then the store is away: as when the command is killed between two of them. */
function killedAfter(rig: Rig, commits: number): MemoryStore {
  const store = new MemoryStore({}, { cluster: rig.cluster, clock: rig.clock })
  const { commit } = store
  let left = commits
  store.commit = async asked => {
    if (left-- <= 0) store.setUnavailable(true)
    return commit.call(store, asked)
  }
  return store
}

for (const commits of [0, 1, 2, 3, 4, 5, 6, 7])
  test(`a removal killed after ${commits} of its commits: again, or by the daemons, all of it goes`, async () => {
    const rig = new Rig()
    const node = await withPod(rig)
    node.del('p1')
    await rig.clock.advance(5000)
    const killed = outcome(
      deletePool('one', { drain: true }, { store: killedAfter(rig, commits), clock: rig.clock }),
    )
    await rig.clock.advance(5000)
    assert.is(await killed, commits < 6 ? 'store.unavailable' : 'done')
    if (space(rig).length > 0) assert.equal(await deletion(rig, true), { removed: true })
    await rig.clock.advance(200_000)
    assert.equal([left(rig), space(rig), await listPools(rig.operator)], [[], [], []])
    assert.equal((await auditDatastore(rig.operator)).findings, [])
  })

/** Its pod gone, the pool is out of the address space, and its deletion was killed before slots and ledgers went. */
async function halfDeleted() {
  const rig = new Rig()
  const node = await withPod(rig)
  node.del('p1')
  await rig.clock.advance(5000)
  const killed = outcome(deletePool('one', { drain: true }, { store: killedAfter(rig, 4), clock: rig.clock }))
  await rig.clock.advance(5000)
  await killed
  return { rig, node }
}

test('created again at once with the same CIDR, while daemons clear away what the first one left', async () => {
  const { rig, node } = await halfDeleted()
  assert.equal(space(rig), [])
  assert.ok(left(rig).length > 0)
  const again = await rig.createPool('one', '10.0.0.0/24')
  await rig.clock.advance(100)
  await node.add('p2')
  await rig.clock.advance(200_000)
  assert.equal(left(rig), [])
  assert.is(rig.under(`slots/${again.metadata.uid}`).length, 1)
  assert.is(rig.under(`ledgers/${again.metadata.uid}`).length, 1)
  assert.equal((await auditDatastore(rig.operator)).findings, [])
})

test('a node that comes back after its parts, and then their pool, have gone: its pods are told lost, no restore is seen', async () => {
  const rig = new Rig()
  const node = await withPod(rig)
  rig.node('b').start()
  node.kill()
  const alive = rig.read<object>('liveness/uid-a')
  rig.put('liveness/uid-a', { ...alive, removed: { fence: 'f', by: 'ops', endsWith: 'return' } })
  rig.put('nodes/a', null)
  await rig.clock.advance(3_800_000)
  assert.equal(await deletion(rig, true), { removed: true })
  rig.register(node)
  rig.beat(node)
  node.start()
  await rig.clock.advance(300_000)
  assert.is(rig.read<AddressSpaceRecord>('address-space')?.restored, null)
  assert.equal(
    node.lost.map(({ holders }) => holders),
    [['p1']],
  )
  assert.equal(node.ipam?.ownParts(), [])
  assert.equal(left(rig), [])
  assert.equal((await auditDatastore(rig.operator)).findings, [])
})

test('a ledger that is written while a removed pool is cleared away is not forgotten', async () => {
  const { rig } = await halfDeleted()
  const [ledger = '', value] = rig.under('ledgers/')[0] ?? []
  assert.ok(ledger)
  const { store } = client(rig)
  const { commit } = store
  store.commit = async asked => {
    if (asked.key === ledger) rig.put(ledger, value)
    return commit.call(store, asked)
  }
  assert.is(await purgePool(store, ledger.split('/')[1] ?? ''), false)
  await rig.clock.advance(200_000)
  assert.equal(left(rig), [])
})

test('rule 16: while a restored store is marked nothing is deleted; nor are parts that are entered again', async () => {
  const rig = new Rig()
  const node = await withPod(rig)
  const record = rig.read<AddressSpaceRecord>('address-space') as AddressSpaceRecord
  const slots = rig.under<SlotRecord>('slots/')
  for (const [key] of slots) rig.put(key, null)
  rig.put('resources/ippools/one', null)
  rig.put('address-space', { ...record, pools: [] })
  assert.is(await purgePool(rig.operator, record.pools[0]?.uid ?? ''), true)
  await rig.clock.advance(600_000)
  assert.ok(rig.read<AddressSpaceRecord>('address-space')?.restored, 'who is in term takes it for what it is')
  assert.is(rig.under('slots/').length, 1)
  assert.is(node.ipam?.heldBy('p1').length, 1)
  assert.is(await purgePool(rig.operator, record.pools[0]?.uid ?? ''), false, 'its owner is back')
  rig.put('slots/pool-x/10.9.0.0-26', emptySlot(parseCidr('10.9.0.0/26')))
  assert.is(await purgePool(rig.operator, 'pool-x'), false, 'its owner may be about to come back')
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

test('two pools of one CIDR written straight into the store: one is used, the same by every node, the other told', async () => {
  const rig = new Rig()
  const nodes = [rig.node('a'), rig.node('b')]
  for (const node of nodes) node.start()
  await settle()
  for (const name of ['one', 'two']) {
    const { metadata, ...rest } = pool(name, '10.0.0.0/24')
    rig.put(`resources/ippools/${name}`, { ...rest, metadata: { ...metadata, uid: `uid-${name}` } })
  }
  await rig.clock.advance(5000)
  const [entered, ...others] = space(rig)
  assert.equal(others, [])
  const refused = entered?.name === 'one' ? 'two' : 'one'
  const given = new Set<string>()
  for (const node of nodes) {
    assert.equal(
      node.ipam?.conditions().map(condition => condition.pool),
      [refused],
    )
    for (let i = 0; i < 70; i++) given.add((await node.add(`${node.name}${i}`))[0]?.address ?? '')
    assert.is(await outcome(node.add('none', [4], [refused])), 'ipam.no-pool')
  }
  assert.is(given.size, 140)
  rig.put(`resources/ippools/${refused}`, null)
  await rig.clock.advance(5000)
  for (const node of nodes) assert.equal(node.ipam?.conditions(), [])
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
