import { test } from 'uvu'
import * as assert from 'uvu/assert'
import type { JournalRecord } from '../../../daemon/journal/records.ts'
import { GRACE_MS, LEARN_MS, TunnelAddresses } from '../../../daemon/node/tunnel.ts'
import { ipPool } from '../../../datastore/resources/ippool.ts'
import type { HeldAddress } from '../../../ipam/ipam.ts'
import { systemClock } from '../../../lib/clock.ts'
import { silentLog } from '../../../lib/log.ts'
import { ManualClock, settle } from '../../fixtures/manual-clock.ts'

const pool = ipPool.parse({
  apiVersion: 'twill.network/v1alpha1',
  kind: 'IPPool',
  metadata: { name: 'pods', uid: 'p1' },
  spec: { cidr: '10.0.0.0/16' },
})
const held = (address: string, generation: number): HeldAddress => ({
  family: 4,
  address,
  poolUid: 'p1',
  slot: '10.0.0.0/26',
  generation,
})
const lost = (generation: number) => {
  const { poolUid, slot } = held('', generation)
  return { poolUid, slot, cidr: slot, generation, holders: [] }
}

const standing = () => 'stays' as const

test('what the ledgers know is taken over, but never over what the journal says', async () => {
  const journal: JournalRecord[] = []
  const tunnel = new TunnelAddresses(
    { journaled: { addresses: [held('10.0.0.1', 1)], since: 1 } },
    {
      ipam: { allocate: async () => [], recorded() {}, release() {}, standing },
      cluster: { complete: false, pools: () => [] },
      journal: { append: async record => void journal.push(record) },
      clock: systemClock,
      log: silentLog,
      changed() {},
      holdsPods: () => true,
    },
  )
  await tunnel.adopt([{ id: 'tunnel-4', held: held('10.0.0.9', 1) }])
  assert.equal(journal, [])
  await tunnel.adopt([{ id: 'tunnel-6', held: { ...held('fd00::9', 1), family: 6 } }])
  assert.equal(tunnel.byFamily(), { 4: '10.0.0.1', 6: 'fd00::9' })
  assert.is(journal.length, 1)
})

test('a family without an address to have keeps no other from its own, and is told of once', async () => {
  const told: unknown[] = []
  const clock = new ManualClock()
  const pool6 = ipPool.parse({ ...pool, metadata: { name: 'six', uid: 'p6' }, spec: { cidr: 'fd00::/64' } })
  const tunnel = new TunnelAddresses(
    { journaled: null },
    {
      ipam: {
        async allocate({ families: [family] }) {
          if (family === 4) throw new Error('no enabled pool for IPv4')
          return [{ ...held('fd00::1', 1), family: 6 }]
        },
        recorded() {},
        release() {},
        standing,
      },
      cluster: { complete: true, pools: () => [pool, pool6] },
      journal: { append: async () => undefined },
      clock,
      log: { ...silentLog, info: (...line: unknown[]) => void told.push(line) },
      changed() {},
      holdsPods: () => true,
    },
  )
  tunnel.check()
  await clock.advance(10_000)
  assert.equal(tunnel.byFamily(), { 6: 'fd00::1' })
  assert.is(told.length, 1)
  tunnel.stop()
})

test('however often pools change, an address that is not to be had is asked for at one pace', async () => {
  const clock = new ManualClock()
  let asked = 0
  const tunnel = new TunnelAddresses(
    { journaled: null },
    {
      ipam: {
        async allocate() {
          asked++
          throw new Error('no address is free')
        },
        recorded() {},
        release() {},
        standing,
      },
      cluster: { complete: true, pools: () => [pool] },
      journal: { append: async () => undefined },
      clock,
      log: silentLog,
      changed() {},
      holdsPods: () => true,
    },
  )
  for (let change = 0; change < 20; change++) {
    tunnel.check()
    await clock.advance(7)
  }
  asked = 0
  await clock.advance(5000)
  assert.ok(asked <= 11, `${asked} times`)
  tunnel.stop()
})

test('a lost tunnel address is released, journaled away, and replaced by one that is ours', async () => {
  const journal: JournalRecord[] = []
  const calls: string[] = []
  const tunnel = new TunnelAddresses(
    { journaled: { addresses: [held('10.0.0.1', 1)], since: 1 } },
    {
      ipam: {
        async allocate({ holder }) {
          calls.push(`allocate ${holder.id}`)
          return [held('10.0.0.65', 7)]
        },
        recorded: id => void calls.push(`recorded ${id}`),
        release: id => void calls.push(`release ${id}`),
        standing,
      },
      cluster: { complete: true, pools: () => [pool] },
      journal: { append: async record => void journal.push(record) },
      clock: systemClock,
      log: silentLog,
      changed: () => calls.push('changed'),
      holdsPods: () => true,
    },
  )
  assert.is(tunnel.lose('an attachment', lost(1)), false)
  assert.is(tunnel.lose('tunnel-6', lost(1)), false)
  assert.is(tunnel.lose('tunnel-4', lost(0)), false)
  assert.equal(tunnel.byFamily(), { 4: '10.0.0.1' })
  assert.is(tunnel.lose('tunnel-4', lost(1)), true)
  assert.equal(tunnel.byFamily(), {}, 'from this instant nobody is told of it')
  await new Promise(resolve => setTimeout(resolve, 10))
  assert.equal(tunnel.byFamily(), { 4: '10.0.0.65' })
  assert.equal(calls, ['release tunnel-4', 'changed', 'allocate tunnel-4', 'recorded tunnel-4', 'changed'])
  assert.equal(
    journal.map(record =>
      record.t === 'tunnel' ? record.addresses.map(({ address }) => address) : record.t,
    ),
    [[], ['10.0.0.65']],
  )
})

test('a tunnel address that is lost on its way into the journal is never used', async () => {
  const journal: JournalRecord[] = []
  let next = 1
  const tunnel = new TunnelAddresses(
    { journaled: null },
    {
      ipam: { allocate: async () => [held(`10.0.0.${next}`, next++)], recorded() {}, release() {}, standing },
      cluster: { complete: true, pools: () => [pool] },
      journal: {
        async append(record) {
          journal.push(record)
          if (journal.length === 1) assert.is(tunnel.lose('tunnel-4', lost(1)), true)
        },
      },
      clock: new ManualClock(),
      log: silentLog,
      changed() {},
      holdsPods: () => true,
    },
  )
  tunnel.check()
  await settle()
  assert.equal(tunnel.byFamily(), { 4: '10.0.0.2' })
  assert.equal(
    journal.map(record => record.t === 'tunnel' && record.addresses.map(({ address }) => address)),
    [['10.0.0.1'], [], ['10.0.0.2']],
  )
})

const other = ipPool.parse({
  ...pool,
  metadata: { name: 'others', uid: 'p2' },
  spec: { cidr: '10.8.0.0/16' },
})
const inOther = (last: number): HeldAddress => ({
  ...held(`10.8.0.${last}`, 1),
  poolUid: 'p2',
  slot: '10.8.0.0/26',
})

/** With an address in p1, told to peers; p2 is another pool, if there is one. */
function replacing(options: {
  standings: Record<string, 'stays' | 'replaced' | 'given-up'>
  pools?: (typeof pool)[]
  journaled?: (HeldAddress & { holder?: string })[]
  holdsPods?: boolean
}) {
  const clock = new ManualClock()
  const calls: string[] = []
  const journal: string[] = []
  const state = { ...options, journalFails: false, next: 1 }
  const tunnel = new TunnelAddresses(
    { journaled: { addresses: options.journaled ?? [held('10.0.0.1', 1)], since: 1 } },
    {
      ipam: {
        async allocate({ holder, pools }) {
          calls.push(`allocate ${holder.id} of ${pools.join()}`)
          return [inOther(state.next++)]
        },
        recorded: id => void calls.push(`recorded ${id}`),
        release: id => void calls.push(`release ${id}`),
        standing: uid => state.standings[uid] ?? 'stays',
      },
      cluster: { complete: true, pools: () => state.pools ?? [pool, other] },
      journal: {
        async append(record) {
          if (state.journalFails) throw new Error('disk full')
          if (record.t !== 'tunnel') return
          const ids = record.addresses.map(({ address, holder }) => `${address} ${holder ?? ''}`.trim())
          journal.push(ids.join(', '))
        },
      },
      clock,
      log: silentLog,
      changed: () => calls.push(`changed: ${seen().join(' beside ')}`),
      holdsPods: () => state.holdsPods ?? true,
    },
  )
  const seen = () => [
    Object.values(tunnel.byFamily()).join() || 'none',
    tunnel
      .beside()
      .map(({ address }) => address)
      .join() || 'none',
  ]
  return { clock, calls, journal, state, tunnel, seen }
}

test('an address of a pool that is drained is replaced, make before break', async () => {
  const { clock, calls, journal, state, tunnel, seen } = replacing({ standings: {} })
  tunnel.check()
  await clock.advance(1000)
  assert.equal(calls, [], 'one that stays is left alone')
  state.standings = { p1: 'replaced' }
  tunnel.check()
  tunnel.check()
  await clock.advance(LEARN_MS - 1)
  assert.equal(seen(), ['10.0.0.1', '10.8.0.1'])
  await clock.advance(1)
  assert.equal(seen(), ['10.8.0.1', '10.0.0.1'])
  await clock.advance(GRACE_MS - 1)
  assert.equal(seen(), ['10.8.0.1', '10.0.0.1'])
  await clock.advance(1)
  assert.equal(seen(), ['10.8.0.1', 'none'])
  assert.equal(calls, [
    'allocate tunnel-4b of others',
    'recorded tunnel-4b',
    'changed: 10.0.0.1 beside 10.8.0.1',
    'changed: 10.8.0.1 beside 10.0.0.1',
    'release tunnel-4',
    'changed: 10.8.0.1 beside none',
  ])
  assert.equal(journal, ['10.0.0.1, 10.8.0.1 tunnel-4b', '10.8.0.1 tunnel-4b'])
  tunnel.stop()
})

test('killed in between: the later of the two is told, the other goes after its grace', async () => {
  const journaled = [held('10.0.0.1', 1), { ...inOther(1), holder: 'tunnel-4b' }]
  const { clock, calls, journal, tunnel, seen } = replacing({ standings: { p1: 'replaced' }, journaled })
  tunnel.check()
  assert.equal(seen(), ['10.8.0.1', '10.0.0.1'])
  await clock.advance(GRACE_MS)
  assert.equal(seen(), ['10.8.0.1', 'none'])
  assert.equal(calls, ['release tunnel-4', 'changed: 10.8.0.1 beside none'])
  assert.equal(journal, ['10.8.0.1 tunnel-4b'])
  tunnel.stop()
})

test('a journal that cannot be written: the old address is kept, and given back later', async () => {
  const { clock, calls, state, tunnel, seen } = replacing({ standings: { p1: 'replaced' } })
  tunnel.check()
  await clock.advance(LEARN_MS)
  state.journalFails = true
  await clock.advance(GRACE_MS)
  assert.equal(seen(), ['10.8.0.1', '10.0.0.1'])
  state.journalFails = false
  await clock.advance(GRACE_MS)
  assert.equal(seen(), ['10.8.0.1', 'none'])
  assert.is(calls.filter(call => call.startsWith('release')).length, 1)
  tunnel.stop()
})

test('one that could not be journaled keeps no pool that is left meanwhile', async () => {
  const { clock, calls, state, tunnel } = replacing({ standings: { p1: 'replaced' } })
  state.journalFails = true
  tunnel.check()
  await settle()
  state.standings.p2 = 'replaced'
  await clock.advance(60_000)
  assert.equal(calls.slice(-1), ['release tunnel-4b'])
  tunnel.stop()
})

test('one that could not be journaled and is lost meanwhile is not taken up again', async () => {
  const { calls, state, tunnel } = replacing({ standings: { p1: 'replaced' } })
  state.journalFails = true
  tunnel.check()
  await settle()
  const { poolUid, slot, generation } = inOther(1)
  const part = { poolUid, slot, cidr: slot, generation, holders: ['tunnel-4b'] }
  assert.is(tunnel.lose('tunnel-4b', part), true)
  assert.equal(calls.slice(-1), ['release tunnel-4b'])
  assert.is(tunnel.lose('tunnel-4b', part), false)
  tunnel.stop()
})

test('the old one is lost before the new one was told: told at once', async () => {
  const { clock, tunnel, seen } = replacing({ standings: { p1: 'replaced' } })
  tunnel.check()
  await clock.advance(1)
  assert.is(tunnel.lose('tunnel-4', lost(1)), true)
  assert.equal(seen(), ['10.8.0.1', 'none'])
  await clock.advance(GRACE_MS)
  assert.equal(seen(), ['10.8.0.1', 'none'])
  tunnel.stop()
})

test('no other pool: it stays while a pod may need it, and is given up when nobody else is left', async () => {
  const { clock, calls, state, journal, tunnel, seen } = replacing({
    standings: { p1: 'replaced' },
    pools: [pool],
  })
  tunnel.check()
  await clock.advance(60_000)
  assert.equal([calls, seen()], [[], ['10.0.0.1', 'none']])
  state.standings = { p1: 'given-up' }
  tunnel.check()
  await clock.advance(1000)
  assert.equal(seen(), ['10.0.0.1', 'none'], 'pods live here')
  state.holdsPods = false
  tunnel.check()
  await clock.advance(1)
  assert.equal(seen(), ['none', 'none'])
  assert.equal(
    calls.filter(call => !call.startsWith('changed')),
    ['release tunnel-4'],
  )
  assert.equal(journal, [''])
  state.standings = {}
  tunnel.check()
  await clock.advance(1)
  assert.equal(seen(), ['10.8.0.1', 'none'], 'the pool is kept after all')
  tunnel.stop()
})

test('two that the ledgers know of one family: the later is told', async () => {
  const { tunnel, seen } = replacing({ standings: {}, journaled: [] })
  await tunnel.adopt([
    { id: 'tunnel-4', held: held('10.0.0.1', 1) },
    { id: 'tunnel-4b', held: inOther(1) },
  ])
  assert.equal(seen(), ['10.8.0.1', '10.0.0.1'])
  tunnel.stop()
})

test.run()
