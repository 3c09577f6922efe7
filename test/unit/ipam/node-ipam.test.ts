import { test } from 'uvu'
import * as assert from 'uvu/assert'
import { PREFIX } from '../../../datastore/keys.ts'
import type { LedgerRecord } from '../../../datastore/records/ledger.ts'
import type { SlotRecord } from '../../../datastore/records/slot.ts'
import { settle } from '../../fixtures/manual-clock.ts'
import { holder, Rig, refused } from './rig.ts'

const slotsOf = (rig: Rig) => rig.under<SlotRecord>('slots/')
const ledgersOf = (rig: Rig) => rig.under<LedgerRecord>('ledgers/')

async function started(cidr = '10.0.0.0/24', blockSize = 28) {
  const rig = new Rig()
  const pool = await rig.createPool('default', cidr, blockSize)
  const node = rig.node('a')
  node.start()
  await settle()
  return { rig, pool, node }
}

test('an address comes from a part that this node has claimed, and stands in the ledger once recorded', async () => {
  const { rig, pool, node } = await started()
  const [held] = await node.add('p1')
  assert.is(held?.poolUid, pool.metadata.uid)
  await rig.clock.advance(5000)
  const [[key, ledger] = []] = ledgersOf(rig)
  assert.match(key ?? '', /uid-a$/)
  assert.is(ledger?.generations[String(held?.generation)]?.[held?.address ?? '']?.holder, 'p1')
  const [[, slot] = []] = slotsOf(rig)
  assert.is(slot?.parts[0]?.owner, 'uid-a')
})

test('allocation is idempotent by holder', async () => {
  const { node } = await started()
  assert.equal(await node.add('p1'), await node.add('p1'))
})

test('an address that was not recorded is not in the ledger', async () => {
  const { rig, node } = await started()
  await node.ipam?.allocate({ holder: holder('p1'), families: [4], pools: [] })
  await node.add('p2')
  await rig.clock.advance(5000)
  const entries = ledgersOf(rig).flatMap(([, ledger]) =>
    Object.values(ledger.generations).flatMap(Object.values),
  )
  assert.equal(
    entries.map(entry => entry.holder),
    ['p2'],
  )
})

test('released addresses cool, and go out last, oldest first', async () => {
  const { rig, node } = await started('10.0.0.0/28', 28)
  const taken: string[] = []
  for (let i = 0; i < 16; i++) taken.push((await node.add(`p${i}`))[0]?.address ?? '')
  assert.is(new Set(taken).size, 16)
  assert.is(await refused(node.add('none')), 'ipam.exhausted')
  for (const i of [5, 3]) {
    node.del(`p${i}`)
    await rig.clock.advance(10)
  }
  assert.is((await node.add('q1'))[0]?.address, taken[5])
  assert.is((await node.add('q2'))[0]?.address, taken[3])
})

test('cooling addresses wait while another part can be claimed', async () => {
  const { node } = await started('10.0.0.0/27', 28)
  const first = await node.add('p0')
  for (let i = 1; i < 16; i++) await node.add(`p${i}`)
  node.del('p0')
  const next = await node.add('q')
  assert.is.not(next[0]?.slot, first[0]?.slot)
})

test('a burst of 100 dual-stack pods costs at most 10 commits, claims included', async () => {
  const rig = new Rig()
  await rig.createPool('v4', '10.0.0.0/16')
  await rig.createPool('v6', 'fd00::/112')
  const node = rig.node('a')
  node.start({ lowWater: 16 })
  await settle()
  await node.add('tunnel', [])
  await rig.clock.advance(5000)
  const before = node.store.status().commits
  for (let i = 0; i < 100; i++) {
    await node.add(`p${i}`, [])
    await rig.clock.advance(8)
  }
  await rig.clock.advance(5000)
  const commits = node.store.status().commits - before
  assert.ok(commits <= 10, `${commits} commits`)
  const entries = ledgersOf(rig).flatMap(([, ledger]) =>
    Object.values(ledger.generations).flatMap(Object.keys),
  )
  assert.is(entries.length, 202)
})

test('rule 7, 8: out of term nothing goes out; what runs keeps its address; a confirmation ends it', async () => {
  const { rig, node } = await started()
  const [held] = await node.add('p1')
  await rig.clock.advance(1000)
  node.setUnavailable(true)
  await rig.clock.advance(3_500_000)
  assert.is(await refused(node.add('p2')), 'granted')
  await rig.clock.advance(200_000)
  assert.is(await refused(node.add('p3')), 'ipam.not-confirmed')
  assert.is(node.ipam?.room().ok, false)
  assert.equal(node.ipam?.heldBy('p1'), [held])
  node.setUnavailable(false)
  await rig.clock.advance(2000)
  assert.is(await refused(node.add('p3')), 'granted')
})

test('rule 7: a paused machine is out of term by REALTIME', async () => {
  const { rig, node } = await started()
  await node.add('p1')
  await rig.clock.advance(1000)
  node.setUnavailable(true)
  rig.clock.jumpRealtime(3_700_000)
  assert.is(await refused(node.add('p2')), 'ipam.not-confirmed')
})

test('rule 7: a clock set back gives no longer term', async () => {
  const { rig, node } = await started()
  await node.add('p1')
  await rig.clock.advance(1000)
  node.setUnavailable(true)
  rig.clock.jumpRealtime(-86_400_000)
  await rig.clock.advance(3_700_000)
  assert.is(await refused(node.add('p2')), 'ipam.not-confirmed')
})

test('rule 7: the term runs from before the request was sent, however long its answer takes', async () => {
  const { rig, node } = await started()
  await node.add('p1')
  const get = node.store.get.bind(node.store)
  node.store.get = async key => {
    const answer = await get(key)
    if (key.startsWith('slots/')) await node.process.sleep(1_800_000)
    return answer
  }
  // Asked every tenth of the hour, and answered half an hour later.
  await rig.clock.advance(1_200_000)
  node.setUnavailable(true)
  await rig.clock.advance(3_600_000)
  assert.is(await refused(node.add('p2')), 'ipam.not-confirmed')
})

test('rule 7: a restart of the daemon without the store goes on from the journal; a reboot does not', async () => {
  const { rig, node } = await started()
  const [held] = await node.add('p1')
  await rig.clock.advance(1000)
  node.setUnavailable(true)
  node.kill()
  node.start()
  await settle()
  const [next] = await node.add('p2')
  assert.is(next?.slot, held?.slot)
  assert.is.not(next?.address, held?.address)
  node.reboot()
  node.start()
  await settle()
  assert.is(await refused(node.add('p3')), 'ipam.not-confirmed')
  node.setUnavailable(false)
  await rig.clock.advance(2000)
  assert.is(await refused(node.add('p3')), 'granted')
})

test('rule 5: cool-down survives a restart of the daemon', async () => {
  const { rig, node } = await started('10.0.0.0/28', 28)
  for (let i = 0; i < 16; i++) await node.add(`p${i}`)
  node.del('p7')
  await rig.clock.advance(100)
  node.del('p2')
  await rig.clock.advance(1000)
  const cooling = node.attachments.size
  node.kill()
  node.start()
  await settle()
  assert.is(cooling, 14)
  const first = (await node.add('q'))[0]?.address
  const second = (await node.add('r'))[0]?.address
  assert.is(first?.endsWith('.7'), true)
  assert.is(second?.endsWith('.2'), true)
})

test('rule 17: after a reboot the addresses of dead pods cool anew and leave the ledger', async () => {
  const { rig, node } = await started('10.0.0.0/28', 28)
  await node.add('p0')
  await node.add('p1')
  await rig.clock.advance(5000)
  node.reboot()
  node.start()
  await rig.clock.advance(5000)
  const entries = ledgersOf(rig).flatMap(([, ledger]) =>
    Object.values(ledger.generations).flatMap(Object.keys),
  )
  assert.equal(entries, [])
  const next = await node.add('q')
  assert.is(next[0]?.address, '10.0.0.2')
})

test('rule 17: with a damaged journal, who stands in the ledger keeps his address', async () => {
  const { rig, node } = await started('10.0.0.0/28', 28)
  const [held] = await node.add('p0')
  await rig.clock.advance(5000)
  node.kill()
  node.attachments.clear()
  node.journalIntact = false
  node.start()
  await rig.clock.advance(5000)
  for (let i = 0; i < 15; i++) assert.is.not((await node.add(`q${i}`))[0]?.address, held?.address)
  assert.is(await refused(node.add('full')), 'ipam.exhausted')
  assert.equal(node.ipam?.heldBy('p0'), [held])
})

test('rule 17: a claim that meets its own forgotten part, before the watch has shown it, finds out who lives there', async () => {
  const { rig, node } = await started('10.0.0.0/24', 28)
  const [held] = await node.add('p0')
  await rig.clock.advance(5000)
  node.kill()
  node.attachments.clear()
  node.records.length = 0
  node.journalIntact = false
  let show = () => {}
  const shown = new Promise<void>(resolve => {
    show = resolve
  })
  const { store } = node
  const watch = store.watch.bind(store)
  store.watch = (prefix, listener) =>
    watch(prefix, message => {
      if (prefix === PREFIX.slots) void shown.then(() => listener(message))
      else listener(message)
    })
  node.start()
  await rig.clock.advance(100)
  assert.is.not((await node.add('q'))[0]?.address, held?.address)
  show()
  await rig.clock.advance(5000)
  await node.ipam?.ready()
  assert.equal(node.ipam?.heldBy('p0'), [held])
})

test('with a journal that is whole, what only the ledger knows is gone', async () => {
  const { rig, node } = await started('10.0.0.0/28', 28)
  await node.add('p0')
  await rig.clock.advance(5000)
  node.kill()
  node.attachments.clear()
  node.start()
  await rig.clock.advance(5000)
  const entries = ledgersOf(rig).flatMap(([, ledger]) =>
    Object.values(ledger.generations).flatMap(Object.keys),
  )
  assert.equal(entries, [])
})

for (const doubt of ['landed', 'lost', 'late'] as const)
  test(`rule 4: a claim in doubt (${doubt}) is settled by a further commit before it counts`, async () => {
    const { rig, node } = await started()
    node.store.doubtNext(doubt)
    const [held] = await node.add('p1')
    node.landLate()
    await rig.clock.advance(5000)
    const owned = slotsOf(rig).flatMap(([, slot]) => slot.parts.filter(part => part.owner === 'uid-a'))
    const own = node.ipam?.ownParts() ?? []
    assert.equal(
      own.map(part => part.cidr),
      owned.map(part => part.cidr),
    )
    assert.equal(
      owned.map(part => part.generation),
      [held?.generation],
    )
  })

test('rule 3, 4: killed with a claim in doubt, the next life settles it and owns what landed late', async () => {
  const { rig, node } = await started()
  // Nothing that this life sends is answered any more, so that it cannot settle the claim itself.
  for (let i = 0; i < 50; i++) node.store.doubtNext('late')
  void node.add('p1').catch(() => {})
  await settle()
  node.kill()
  node.start()
  node.landLate()
  await rig.clock.advance(5000)
  const owned = slotsOf(rig).flatMap(([, slot]) => slot.parts.filter(part => part.owner === 'uid-a'))
  assert.equal(
    node.ipam?.ownParts().map(part => part.generation),
    owned.map(part => part.generation),
  )
  assert.ok(owned.length > 0)
  assert.ok(node.ipam?.ownParts().every(part => part.usable))
})

test('rule 4: what an earlier life wrote into the ledger cannot land after the first commit of this one', async () => {
  const { rig, node } = await started()
  await node.add('p1')
  await rig.clock.advance(5000)
  await node.add('p2')
  node.store.doubtNext('late', ledgersOf(rig)[0]?.[0])
  node.store.doubtNext('late', ledgersOf(rig)[0]?.[0])
  await rig.clock.advance(300)
  node.kill()
  node.attachments.delete('p2')
  node.start()
  await rig.clock.advance(5000)
  node.landLate()
  const entries = ledgersOf(rig).flatMap(([, ledger]) =>
    Object.values(ledger.generations).flatMap(Object.values),
  )
  assert.equal(
    entries.map(entry => entry.holder),
    ['p1'],
  )
})

test('a claim counts only while its pool is open: closed in between, it is given back', async () => {
  const { rig, pool, node } = await started()
  const space = rig.read<{ pools: object[] }>('address-space')
  node.setUnavailable(true)
  await settle()
  rig.put('address-space', { ...space, pools: space?.pools.map(entry => ({ ...entry, state: 'closed' })) })
  // The watch has not told yet: the claim is tried with what was known before.
  node.setUnavailable(false)
  assert.ok(['ipam.exhausted', 'ipam.no-pool'].includes(await refused(node.add('p1'))))
  await rig.clock.advance(5000)
  const owned = slotsOf(rig).flatMap(([, slot]) => slot.parts.filter(part => part.owner !== null))
  assert.equal(owned, [], pool.metadata.uid)
})

test('many nodes that claim at once get different parts, all of the pool', async () => {
  const rig = new Rig()
  await rig.createPool('default', '10.0.0.0/26', 28)
  const nodes = ['a', 'b', 'c', 'd'].map(name => rig.node(name))
  for (const node of nodes) node.start()
  await settle()
  const held = await Promise.all(nodes.map(node => node.add(`p-${node.name}`)))
  assert.is(new Set(held.map(([address]) => address?.slot)).size, 4)
})

test('a part that somebody else owns now is lost, and its holders are named', async () => {
  const { rig, node } = await started()
  await node.add('p1')
  await rig.clock.advance(1000)
  const [[key, slot] = []] = slotsOf(rig)
  rig.put(key ?? '', {
    ...slot,
    generation: 9,
    parts: slot?.parts.map(part => ({ ...part, owner: 'uid-x', generation: 9 })),
  })
  await rig.clock.advance(1000)
  assert.is(node.lost.length, 1)
  assert.equal(node.lost[0]?.holders, ['p1'])
  assert.equal(node.ipam?.ownParts(), [])
})

test('rule 8, 11: nothing goes out of a fenced part until its owner has lifted the fence', async () => {
  const { rig, node } = await started('10.0.0.0/28', 28)
  await node.add('p1')
  await rig.clock.advance(1000)
  const liveness = rig.read<object>('liveness/uid-a')
  rig.put('liveness/uid-a', { ...liveness, removed: { fence: 'f', by: 'kube', endsWith: 'recreation' } })
  const [[key, slot] = []] = slotsOf(rig)
  const fence = { id: 'f', allowanceMs: 1 }
  rig.put(key ?? '', { ...slot, parts: slot?.parts.map(part => ({ ...part, fence })) })
  await rig.clock.advance(1000)
  assert.is(await refused(node.add('p2')), 'ipam.not-confirmed')
  rig.put('liveness/uid-a', { ...liveness, removed: { fence: 'f', by: 'me', endsWith: 'return' } })
  assert.is(await refused(node.add('p2')), 'granted')
  assert.is(slotsOf(rig)[0]?.[1].parts[0]?.fence, null)
})

test('a journal that cannot be written: no part is claimed', async () => {
  const { rig, node } = await started()
  node.journalFails = true
  let failed = false
  await node.add('p1').catch(() => {
    failed = true
  })
  assert.ok(failed)
  assert.equal(slotsOf(rig), [])
  node.journalFails = false
  await node.add('p1')
})

test('both families or none: the IPv4 address goes back when there is no IPv6 one', async () => {
  const rig = new Rig()
  await rig.createPool('v4', '10.0.0.0/28', 28)
  await rig.createPool('v6', 'fd00::/128', 128)
  const node = rig.node('a')
  node.start()
  await settle()
  await node.add('p1', [])
  assert.is(await refused(node.add('p2', [])), 'ipam.exhausted')
  assert.is(node.ipam?.ownParts().find(part => part.cidr.startsWith('10.'))?.held, 1)
})

test('an address asked from a pool by name comes from it; a pool that is not there is named', async () => {
  const rig = new Rig()
  await rig.createPool('one', '10.1.0.0/24')
  const two = await rig.createPool('two', '10.2.0.0/24')
  const node = rig.node('a')
  node.start()
  await settle()
  assert.is((await node.add('p1', [4], ['two']))[0]?.poolUid, two.metadata.uid)
  assert.is(await refused(node.add('p2', [4], ['three'])), 'ipam.no-pool')
})

test.run()
