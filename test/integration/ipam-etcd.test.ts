/** The address management on a real etcd: what it costs, what a restart of etcd does to it, and races for pools. */
import { suite } from 'uvu'
import * as assert from 'uvu/assert'
import { EtcdStore } from '../../datastore/etcd/store.ts'
import type { LedgerRecord } from '../../datastore/records/ledger.ts'
import type { IPPool } from '../../datastore/resources/ippool.ts'
import { type IpamJournalRecord, replay } from '../../ipam/journal-records.ts'
import { createIpam, type NodeIpam } from '../../ipam/node-ipam.ts'
import { createPool } from '../../ipam/pools.ts'
import { systemClock } from '../../lib/clock.ts'
import { isTwillError } from '../../lib/errors.ts'
import { silentLog } from '../../lib/log.ts'
import { systemRandom } from '../../lib/random.ts'
import { startEtcd, type TestEtcd } from '../fixtures/etcd.ts'

interface Context {
  etcd: TestEtcd
  stores: EtcdStore[]
  ipams: NodeIpam[]
}

const test = suite<Context>('addresses in etcd')

test.before.each(async context => {
  context.etcd = await startEtcd({ safe: true })
  context.stores = []
  context.ipams = []
})

test.after.each(async context => {
  for (const ipam of context.ipams) await ipam.stop()
  for (const store of context.stores) await store.close()
  await context.etcd.remove()
})

function open(context: Context): EtcdStore {
  const modules = { clock: systemClock, random: systemRandom, log: silentLog }
  const store = new EtcdStore({ endpoints: [context.etcd.endpoint], callTimeoutMs: 2000 }, modules)
  context.stores.push(store)
  return store
}

const modulesOf = (store: EtcdStore) => ({ store, clock: systemClock, random: systemRandom, log: silentLog })

function pool(name: string, cidr: string): IPPool {
  return {
    apiVersion: 'twill.network/v1alpha1',
    kind: 'IPPool',
    metadata: { name },
    spec: {
      cidr,
      encapsulation: 'Always',
      routes: 'Datastore',
      natOutgoing: true,
      disabled: false,
      allowedUses: ['pod', 'tunnel'],
    },
  }
}

async function run(context: Context, store: EtcdStore, records: IpamJournalRecord[] = [], nodeUid = 'uid-1') {
  const journal = { append: async (record: IpamJournalRecord) => void records.push(record) }
  const ipam = createIpam(
    { nodeUid, nodeName: nodeUid, boot: 'b', journaled: replay(records), journalIntact: true },
    { ...modulesOf(store), journal },
  )
  context.ipams.push(ipam)
  ipam.start()
  await ipam.ready()
  return ipam
}

const holder = (id: string) => ({
  id,
  kind: 'pod' as const,
  network: 'twill',
  containerId: id,
  ifName: 'eth0',
  pod: null,
  since: 1,
})

async function add(ipam: NodeIpam, id: string) {
  const addresses = await ipam.allocate({ holder: holder(id), families: [], pools: [] })
  ipam.recorded(id)
  return addresses
}

async function ledgered(store: EtcdStore): Promise<string[]> {
  const { entries } = await store.list('ledgers/')
  return entries.flatMap(entry =>
    Object.values((JSON.parse(entry.value) as LedgerRecord).generations).flatMap(Object.keys),
  )
}

async function twoFamilies(context: Context): Promise<EtcdStore> {
  const store = open(context)
  await createPool(pool('v4', '10.0.0.0/16'), modulesOf(store))
  await createPool(pool('v6', 'fd00::/112'), modulesOf(store))
  return store
}

test('a burst of 100 dual-stack pods costs at most 10 transactions, and all stand in the ledger', async context => {
  const store = await twoFamilies(context)
  const ipam = await run(context, store)
  await add(ipam, 'tunnel')
  await ipam.settled()
  const before = store.status().commits
  await Promise.all(Array.from({ length: 100 }, (_, i) => add(ipam, `p${i}`)))
  await ipam.settled()
  const commits = store.status().commits - before
  assert.ok(commits <= 10, `${commits} commits`)
  const addresses = await ledgered(store)
  assert.is(addresses.length, 202)
  assert.is(new Set(addresses).size, 202)
})

test('etcd away: addresses go out and come back; afterwards the ledger agrees', async context => {
  const store = await twoFamilies(context)
  const ipam = await run(context, store)
  await add(ipam, 'before')
  await ipam.settled()
  await context.etcd.kill()
  for (let i = 0; i < 10; i++) await add(ipam, `away${i}`)
  ipam.release('away3')
  ipam.release('before')
  await context.etcd.start()
  await ipam.settled()
  assert.is((await ledgered(store)).length, 18)
})

test('a daemon that starts again has its parts and its addresses, and the ledger follows', async context => {
  const store = await twoFamilies(context)
  const records: IpamJournalRecord[] = []
  const first = await run(context, store, records)
  const held = await add(first, 'p1')
  await first.stop()
  const second = createIpam(
    { nodeUid: 'uid-1', nodeName: 'uid-1', boot: 'b', journaled: replay(records), journalIntact: true },
    { ...modulesOf(store), journal: { append: async record => void records.push(record) } },
  )
  context.ipams.push(second)
  second.restore([{ holder: holder('p1'), addresses: held }])
  second.start()
  await second.ready()
  assert.equal(second.heldBy('p1'), held)
  const next = await add(second, 'p2')
  await second.settled()
  assert.equal((await ledgered(store)).sort(), [...held, ...next].map(({ address }) => address).sort())
})

test('overlapping pools written at the same instant from two clients: exactly one gets in', async context => {
  const [one, two] = [open(context), open(context)]
  await Promise.all([one.get('cluster'), two.get('cluster')])
  const results = await Promise.all([
    createPool(pool('one', '10.0.0.0/16'), modulesOf(one)).catch(error => error),
    createPool(pool('two', '10.0.0.0/20'), modulesOf(two)).catch(error => error),
  ])
  assert.is(results.filter(result => isTwillError(result, 'ipam.pool-overlap')).length, 1)
  const { entries } = await one.list('resources/ippools/')
  assert.is(entries.length, 1)
})

test('nodes that claim at once get parts of their own', async context => {
  await twoFamilies(context)
  const ipams = await Promise.all([1, 2, 3, 4].map(i => run(context, open(context), [], `uid-${i}`)))
  const held = await Promise.all(ipams.map((ipam, i) => add(ipam, `p${i}`)))
  const slots = held.flatMap(addresses => addresses.map(({ slot }) => slot))
  assert.is(new Set(slots).size, 8)
})

test.run()
