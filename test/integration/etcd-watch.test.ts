/** Watches of a real etcd through connections that are cut, fall silent, and lose their history. */
import { suite } from 'uvu'
import * as assert from 'uvu/assert'
import type { EtcdOptions } from '../../datastore/etcd/options.ts'
import { EtcdStore } from '../../datastore/etcd/store.ts'
import type { Store } from '../../datastore/store.ts'
import { systemClock } from '../../lib/clock.ts'
import { silentLog } from '../../lib/log.ts'
import { systemRandom } from '../../lib/random.ts'
import { type CuttingProxy, startProxy } from '../fixtures/cutting-proxy.ts'
import { startEtcd, type TestEtcd } from '../fixtures/etcd.ts'
import { compact } from '../fixtures/etcdctl.ts'
import { recordWatch, type WatchRecord } from '../fixtures/watch-record.ts'

const EVENTS = 4000
const KEYS = 40

interface Context {
  etcd: TestEtcd
  proxy: CuttingProxy
  /** Through the proxy. */
  store: Store
  /** Straight to etcd. */
  direct: Store
  /** Closed after the test, also after one that failed: what stays open keeps the process alive. */
  extra: { close(): Promise<void> }[]
}

const test = suite<Context>('etcd watch')

function open(endpoint: string, extra: Partial<EtcdOptions> = {}): EtcdStore {
  return new EtcdStore(
    {
      endpoints: [endpoint],
      backoffMs: { first: 5, last: 50 },
      keepaliveMs: 200,
      keepaliveTimeoutMs: 1000,
      callTimeoutMs: 3000,
      ...extra,
    },
    { clock: systemClock, random: systemRandom, log: silentLog },
  )
}

function also<T extends { close(): Promise<void> }>(context: Context, opened: T): T {
  context.extra.push(opened)
  return opened
}

test.before.each(async context => {
  context.extra = []
  context.etcd = await startEtcd()
  context.proxy = await startProxy(context.etcd)
  context.store = open(context.proxy.endpoint)
  // A busy machine must not cost the writer its connection.
  context.direct = open(context.etcd.endpoint, { keepaliveMs: 10_000, callTimeoutMs: 10_000 })
})
test.after.each(async context => {
  for (const each of context.extra.reverse()) await each.close()
  await context.store.close()
  await context.direct.close()
  await context.proxy.close()
  await context.etcd.remove()
})

/** Creates, changes and deletes keys under w/, `count` changes in all; returns their values in order. */
async function write(store: Store, count: number): Promise<(string | null)[]> {
  const values = Array.from({ length: count }, (_, i) => (i >= KEYS && i % 7 === 6 ? null : `value ${i}`))
  const chain = async (lane: number) => {
    let { modRevision: expected } = (await store.get(`w/${lane}`)).entry ?? { modRevision: 0 }
    for (let i = lane; i < count; i += KEYS) {
      const value = values[i] as string | null
      const outcome = await store.commit({ key: `w/${lane}`, expected, value })
      assert.ok(outcome.committed)
      expected = value === null ? 0 : outcome.revision
    }
  }
  await Promise.all(Array.from({ length: KEYS }, (_, lane) => chain(lane)))
  return values
}

function assertEachOnce(record: WatchRecord, from: number, count: number): void {
  const revisions = record.events.map(event => event.modRevision)
  assert.equal(
    revisions,
    Array.from({ length: count }, (_, i) => from + i + 1),
    'every revision once, in order',
  )
}

async function assertState(record: WatchRecord, store: Store): Promise<void> {
  const { entries } = await store.list('w/')
  const actual = [...record.state].sort(([a], [b]) => Buffer.compare(Buffer.from(a), Buffer.from(b)))
  assert.equal(
    actual,
    entries.map(({ key, value }) => [key, value]),
  )
}

/** A watcher that is cut off while EVENTS changes take place, then let in again. */
async function beAway({ store, direct, proxy }: Context): Promise<{ record: WatchRecord; from: number }> {
  const record = recordWatch(store, 'w/')
  await record.until('snapshot', seen => seen.snapshots === 1)
  const { revision } = await direct.get('w/0')
  proxy.refuse(true)
  proxy.cut()
  await record.until('loss', seen => seen.messages.at(-1)?.type === 'connection')
  await write(direct, EVENTS)
  return { record, from: revision }
}

test('cut at many places of a 4,000-event catch-up: each event once, in order', async context => {
  const { record, from } = await beAway(context)
  const { proxy, direct } = context
  // The server sends a thousand revisions at a time, about 80 kB: the first eight cuts are within one such message.
  const cuts = [200, 700, 1500, 3000, 7000, 20_000, 40_000, 55_000, 100_000, 100, 110_000, 30_000, 100_000]
  const before = proxy.connections
  proxy.cutEach(cuts)
  proxy.refuse(false)
  await record.until('all events', seen => seen.events.length >= EVENTS)
  assert.ok(proxy.connections - before > 8, `cut only ${proxy.connections - before - 1} times`)
  assert.is(record.snapshots, 1)
  assertEachOnce(record, from, EVENTS)
  await assertState(record, direct)
})

test('cut again and again while changes go on: each event once, in order', async ({
  store,
  direct,
  proxy,
}) => {
  const record = recordWatch(store, 'w/')
  await record.until('snapshot', seen => seen.snapshots === 1)
  const { revision } = await direct.get('w/0')
  const harass = setInterval(() => proxy.cut(), 30)
  await write(direct, 1500).finally(() => clearInterval(harass))
  await record.until('all events', seen => seen.events.length >= 1500)
  assert.ok(proxy.connections > 3)
  assertEachOnce(record, revision, 1500)
  await assertState(record, direct)
})

test('history compacted while away: a snapshot with the exact state, deletions included', async context => {
  const { direct, proxy, etcd } = context
  await write(direct, 200)
  const { record } = await beAway(context)
  const stays = await direct.commit({ key: 'w/stays', expected: 0, value: 'x' })
  await compact(etcd, stays.revision)
  proxy.refuse(false)
  await record.until('second snapshot', seen => seen.snapshots === 2)
  await assertState(record, direct)
  assert.is(record.events.length, 0)
  await direct.commit({ key: 'w/stays', expected: stays.revision, value: null })
  await record.until('event', seen => seen.events.length === 1)
  await assertState(record, direct)
})

test('compacted up to where the watcher was: no snapshot is needed', async context => {
  const { record, from } = await beAway(context)
  await compact(context.etcd, from)
  context.proxy.refuse(false)
  await record.until('all events', seen => seen.events.length >= EVENTS)
  assert.is(record.snapshots, 1)
  assertEachOnce(record, from, EVENTS)
})

test('a quiet watch follows by progress notices: compaction costs it no snapshot', async context => {
  const etcd = await startEtcd({ args: ['--experimental-watch-progress-notify-interval', '100ms'] })
  also(context, { close: () => etcd.remove() })
  const proxy = also(context, await startProxy(etcd))
  const direct = also(context, open(etcd.endpoint))
  const store = also(context, open(proxy.endpoint))
  const record = recordWatch(store, 'w/')
  await record.until('snapshot', seen => seen.snapshots === 1)
  let { revision } = await direct.commit({ key: 'other', expected: 0, value: '0' })
  for (let i = 0; i < 20; i++)
    revision = (await direct.commit({ key: 'other', expected: revision, value: String(i) })).revision
  await systemClock.sleep(1500)
  await compact(etcd, revision)
  proxy.cut()
  await direct.commit({ key: 'w/k', expected: 0, value: '1' })
  await record.until('event', seen => seen.events.length === 1)
  assert.is(record.snapshots, 1)
})

test('a black-holed connection is noticed by keepalive', async ({ store, direct, proxy }) => {
  const record = recordWatch(store, 'w/')
  await record.until('snapshot', seen => seen.snapshots === 1)
  proxy.blackHole()
  const values = await write(direct, 100)
  await record.until('all events', seen => seen.events.length >= values.length)
  assert.equal(
    record.messages.filter(message => message.type === 'connection').map(message => message.connected),
    [true, false, true],
  )
})

test('an idle connection is left in peace, and kept by the server', async ({ store, proxy }) => {
  await store.get('warm')
  await systemClock.sleep(2000)
  await store.get('again')
  assert.is(proxy.connections, 1)
})

test('a catch-up larger than a message may be arrives in fragments', async context => {
  const { direct, proxy } = context
  const small = also(context, open(proxy.endpoint, { maxMessageBytes: 4 * 1024 * 1024 }))
  const record = recordWatch(small, 'w/')
  await record.until('snapshot', seen => seen.snapshots === 1)
  const { revision } = await direct.get('w/0')
  proxy.refuse(true)
  proxy.cut()
  const value = 'x'.repeat(1_000_000)
  for (let i = 0; i < 12; i++) await direct.commit({ key: `w/big-${i}`, expected: 0, value })
  proxy.refuse(false)
  await record.until('all events', seen => seen.events.length >= 12)
  assertEachOnce(record, revision, 12)
})

test('a list of more than 4 MiB, and of more keys than a page', async context => {
  const { direct, etcd } = context
  const small = also(context, open(etcd.endpoint, { maxMessageBytes: 4 * 1024 * 1024 }))
  const value = 'y'.repeat(20_000)
  const put = async (lane: number) => {
    for (let i = lane; i < 700; i += 16) await direct.commit({ key: `big/${i}`, expected: 0, value })
  }
  await Promise.all(Array.from({ length: 16 }, (_, lane) => put(lane)))
  const { entries } = await small.list('big/')
  assert.is(entries.length, 700)
  assert.is(new Set(entries.map(entry => entry.key)).size, 700)
  assert.ok(entries.every(entry => entry.value === value))
})

test.run()
