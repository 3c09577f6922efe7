import { test } from 'uvu'
import * as assert from 'uvu/assert'
import type { JournalRecord } from '../../../daemon/journal/records.ts'
import { TunnelAddresses } from '../../../daemon/node/tunnel.ts'
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

test('what the ledgers know is taken over, but never over what the journal says', async () => {
  const journal: JournalRecord[] = []
  const tunnel = new TunnelAddresses(
    { journaled: { addresses: [held('10.0.0.1', 1)], since: 1 } },
    {
      ipam: { allocate: async () => [], recorded() {}, release() {} },
      cluster: { complete: false, pools: () => [] },
      journal: { append: async record => void journal.push(record) },
      clock: systemClock,
      log: silentLog,
      changed() {},
    },
  )
  await tunnel.adopt([held('10.0.0.9', 1)])
  assert.equal(journal, [])
  await tunnel.adopt([{ ...held('fd00::9', 1), family: 6 }])
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
      },
      cluster: { complete: true, pools: () => [pool, pool6] },
      journal: { append: async () => undefined },
      clock,
      log: { ...silentLog, info: (...line: unknown[]) => void told.push(line) },
      changed() {},
    },
  )
  tunnel.check()
  await clock.advance(10_000)
  assert.equal(tunnel.byFamily(), { 6: 'fd00::1' })
  assert.is(told.length, 1)
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
      },
      cluster: { complete: true, pools: () => [pool] },
      journal: { append: async record => void journal.push(record) },
      clock: systemClock,
      log: silentLog,
      changed: () => calls.push('changed'),
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
      ipam: { allocate: async () => [held(`10.0.0.${next}`, next++)], recorded() {}, release() {} },
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

test.run()
