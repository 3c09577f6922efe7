/** What a commit may say when the connection or the server is lost around it: never "not made" of one that was. */
import { mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { suite } from 'uvu'
import * as assert from 'uvu/assert'
import { bindCluster } from '../../datastore/cluster.ts'
import type { EtcdOptions } from '../../datastore/etcd/options.ts'
import { EtcdStore } from '../../datastore/etcd/store.ts'
import type { Store } from '../../datastore/store.ts'
import { systemClock } from '../../lib/clock.ts'
import { isTwillError } from '../../lib/errors.ts'
import { silentLog } from '../../lib/log.ts'
import { systemRandom } from '../../lib/random.ts'
import { type CuttingProxy, startProxy } from '../fixtures/cutting-proxy.ts'
import { startEtcd, type TestEtcd } from '../fixtures/etcd.ts'
import { etcdctl } from '../fixtures/etcdctl.ts'
import { recordWatch } from '../fixtures/watch-record.ts'

interface Context {
  etcd: TestEtcd
  proxy: CuttingProxy
  /** Through the proxy. */
  store: EtcdStore
  /** Straight to etcd. */
  direct: EtcdStore
  /** Closed after the test, also after one that failed: what stays open keeps the process alive. */
  extra: { close(): Promise<void> }[]
}

const test = suite<Context>('etcd commit')

function open(endpoints: string[], options: Partial<EtcdOptions> = {}): EtcdStore {
  return new EtcdStore(
    { endpoints, backoffMs: { first: 5, last: 50 }, keepaliveMs: 200, callTimeoutMs: 1000, ...options },
    { clock: systemClock, random: systemRandom, log: silentLog },
  )
}

function also<T extends { close(): Promise<void> }>(context: Context, opened: T): T {
  context.extra.push(opened)
  return opened
}

test.before.each(async context => {
  context.extra = []
  context.etcd = await startEtcd({ safe: true })
  context.proxy = await startProxy(context.etcd)
  context.store = open([context.proxy.endpoint])
  context.direct = open([context.etcd.endpoint])
})
test.after.each(async context => {
  for (const each of context.extra.reverse()) await each.close()
  await context.store.close()
  await context.direct.close()
  await context.proxy.close()
  await context.etcd.remove()
})

type Said = 'committed' | 'not committed' | 'unavailable' | 'in-doubt'

async function create(store: Store, key: string, value: string): Promise<Said> {
  try {
    const outcome = await store.commit({ key, expected: 0, value })
    return outcome.committed ? 'committed' : 'not committed'
  } catch (error) {
    if (isTwillError(error, 'store.in-doubt')) return 'in-doubt'
    if (isTwillError(error, 'store.unavailable')) return 'unavailable'
    throw error
  }
}

/** Commits over whatever the key holds; yields what that was. */
async function settle(store: Store, key: string, value: string): Promise<{ before: string | null }> {
  for (;;) {
    const { entry } = await store.get(key)
    const outcome = await store.commit({ key, expected: entry?.modRevision ?? 0, value })
    if (outcome.committed) return { before: entry?.value ?? null }
  }
}

/** Creates one key after the other on some lanes, each by this caller alone, until `ended`. */
async function createMany(store: Store, ended: () => boolean): Promise<Map<string, Said>> {
  const said = new Map<string, Said>()
  const lane = async (name: number) => {
    for (let i = 0; !ended(); i++) {
      const key = `create/${name}-${i}`
      said.set(key, await create(store, key, `by ${name}`))
      // A refused connection answers at once; without this the loop starves the timers.
      if (said.get(key) === 'unavailable') await systemClock.sleep(1)
    }
  }
  await Promise.all([0, 1, 2, 3, 4, 5, 6, 7].map(lane))
  return said
}

/** Settles what is under way by overtaking it, then compares what was said with what is. */
async function assertTruthful(said: Map<string, Said>, direct: Store): Promise<void> {
  const { entries } = await direct.list('create/')
  const present = new Set(entries.map(entry => entry.key))
  for (const [key, word] of said) {
    if (word === 'committed') assert.ok(present.has(key), `${key} was reported as created and is not there`)
    if (word === 'unavailable')
      assert.not(present.has(key), `${key} was reported as not created and is there`)
    assert.is.not(word, 'not committed', `${key}: nobody else created it, so its own creation was missed`)
  }
}

const count = (said: Map<string, Said>, word: Said) =>
  [...said.values()].filter(value => value === word).length

test('the answer is lost: in doubt, and there', async ({ store, direct, proxy }) => {
  await store.get('warm')
  proxy.swallowAnswers(true)
  const said = create(store, 'k', '1')
  for (let tries = 0; (await direct.get('k')).entry === null; tries++) assert.ok(tries < 10_000)
  proxy.cut()
  assert.is(await said, 'in-doubt')
  proxy.swallowAnswers(false)
})

test('connections cut at random: no create that took place is reported as failed', async context => {
  const { store, direct, proxy } = context
  let rounds = 0
  const cutting = setInterval(() => {
    rounds++
    if (rounds % 3) proxy.cut()
    else proxy.cutAfter(rounds * 13)
  }, 15)
  const said = await createMany(store, () => rounds >= 150).finally(() => clearInterval(cutting))
  await assertTruthful(said, direct)
  assert.ok(count(said, 'committed') > 50, `only ${count(said, 'committed')} commits got through`)
  assert.ok(count(said, 'in-doubt') > 5, `only ${count(said, 'in-doubt')} commits were in doubt`)
})

test('etcd killed and started again: no create is misreported, the watch loses nothing', async context => {
  const { etcd, direct } = context
  const record = recordWatch(direct, 'create/')
  await record.until('snapshot', seen => seen.snapshots === 1)
  let ended = false
  const creating = createMany(direct, () => ended)
  also(context, {
    close: async () => {
      ended = true
    },
  })
  for (let i = 0; i < 3; i++) {
    await systemClock.sleep(150)
    await etcd.kill()
    await systemClock.sleep(50)
    await etcd.start()
  }
  await systemClock.sleep(150)
  ended = true
  const said = await creating
  await assertTruthful(said, direct)
  const { entries } = await direct.list('create/')
  await record.until('all keys', seen => seen.state.size === entries.length)
  assert.is(record.snapshots, 1)
  const revisions = record.events.map(event => event.modRevision)
  assert.equal(
    revisions,
    entries.map(entry => entry.modRevision).sort((a, b) => a - b),
  )
})

test('nobody listens: unavailable, nothing counted as sent', async ({ etcd, direct }) => {
  await etcd.kill()
  assert.is(await create(direct, 'k', '1'), 'unavailable')
  assert.is(direct.status().commits, 0)
  assert.not(direct.status().connected)
  assert.match(direct.status().reason ?? '', /etcd at http/)
})

test('a server that stalls: in doubt, until a further commit of the key settles it', async ({
  etcd,
  direct,
}) => {
  await direct.get('warm')
  etcd.freeze()
  const said = await create(direct, 'k', '1')
  etcd.thaw()
  assert.is(said, 'in-doubt')
  // Whether it landed is the server's race between the request and its cancellation: both are allowed.
  const settled = await settle(direct, 'k', 'settled')
  assert.ok(settled.before === null || settled.before === '1', String(settled.before))
  for (let i = 0; i < 20; i++) assert.is((await direct.get('k')).entry?.value, 'settled')
})

test('a value over the server limit is refused, for certain and for good', async ({ direct }) => {
  // The first is refused by the server's gRPC, the second by etcd itself.
  for (const size of [3_000_000, 1_800_000]) {
    const commit = direct.commit({ key: 'k', expected: 0, value: 'x'.repeat(size) })
    const error = await commit.catch(reason => reason)
    assert.ok(isTwillError(error, 'store.unavailable') && !error.retryable, String(error))
  }
  assert.is((await direct.get('k')).entry, null)
  assert.ok(direct.status().connected)
})

test('a full database: what it says of a commit is never wrong', async context => {
  const etcd = await startEtcd({ args: ['--quota-backend-bytes', '2000000'] })
  also(context, { close: () => etcd.remove() })
  const store = also(context, open([etcd.endpoint]))
  const said = new Map<string, Said>()
  // etcd looks at the size of what it has written, which is behind by a tenth of a second: a quick machine gets far beyond.
  for (let i = 0; i < 8 || (count(said, 'in-doubt') === 0 && i < 200); i++) {
    const keys = Array.from({ length: 8 }, (_, lane) => `create/${i}-${lane}`)
    await Promise.all(keys.map(async key => said.set(key, await create(store, key, 'x'.repeat(100_000)))))
  }
  assert.ok(count(said, 'committed') > 0 && count(said, 'in-doubt') > 0)
  await assertTruthful(said, store)
})

test('several endpoints: one that is dead is passed by, one that dies is left', async context => {
  const { etcd, proxy } = context
  const dead = await startProxy({ host: '127.0.0.1', port: 1 })
  await dead.close()
  const store = also(context, open([dead.endpoint, proxy.endpoint, etcd.endpoint]))
  assert.is(await create(store, 'a', '1'), 'committed')
  const record = recordWatch(store, '')
  await record.until('snapshot', seen => seen.snapshots === 1)
  assert.is(proxy.connections, 1)
  proxy.refuse(true)
  proxy.cut()
  let said: Said = 'unavailable'
  for (let tries = 0; said !== 'committed' && tries < 10; tries++)
    said = await create(store, `b${tries}`, '1')
  assert.is(said, 'committed')
  await record.until('event', seen => seen.events.length > 0)
})

test('an endpoint that falls silent is left, the watch with it', async context => {
  const { etcd, proxy } = context
  // Probes so rare that only the calls' own time-outs can tell.
  const store = also(context, open([proxy.endpoint, etcd.endpoint], { keepaliveMs: 600_000 }))
  const record = recordWatch(store, '')
  await record.until('snapshot', seen => seen.snapshots === 1)
  proxy.blackHole()
  assert.is(await create(store, 'a', '1'), 'in-doubt')
  assert.is(await create(store, 'b', '1'), 'committed')
  await record.until('event', seen => seen.state.has('b'))
  assert.is(record.snapshots, 1)
})

test('a wiped server at the same address is neither written nor believed', async context => {
  const { etcd, direct } = context
  const uid = await bindCluster(null, { store: direct, random: systemRandom })
  await create(direct, 'k', '1')
  const record = recordWatch(direct, '')
  await record.until('snapshot', seen => seen.state.has('k'))
  await etcd.wipe()
  const other = also(context, open([etcd.endpoint]))
  const otherUid = await bindCluster(null, { store: other, random: systemRandom })
  for (let i = 0; i < 20; i++) await create(other, `theirs/${i}`, '1')
  let error: unknown = null
  for (let tries = 0; !isTwillError(error, 'store.foreign-cluster') && tries < 200; tries++) {
    error = await direct.commit({ key: `probe/${tries}`, expected: 0, value: '1' }).catch(reason => reason)
    await systemClock.sleep(10)
  }
  assert.ok(isTwillError(error, 'store.foreign-cluster'))
  assert.match(direct.status().reason ?? '', new RegExp(`${uid}.*${otherUid}`))
  assert.equal((await other.list('probe/')).entries, [])
  await record.until('loss', seen =>
    seen.messages.some(message => message.type === 'connection' && !message.connected),
  )
  await systemClock.sleep(200)
  assert.equal([...record.state.keys()].sort(), ['cluster', 'k'])
})

test('a restored older snapshot: the watch tells the exact state, the revision is seen to go back', async context => {
  const { etcd, direct } = context
  await bindCluster(null, { store: direct, random: systemRandom })
  await create(direct, 'old', '1')
  const directory = await mkdtemp(join(tmpdir(), `twc-snapshot-${process.pid}-`))
  also(context, { close: () => rm(directory, { recursive: true }) })
  await etcdctl(etcd, 'snapshot', 'save', join(directory, 'snapshot.db'))
  const record = recordWatch(direct, '')
  await record.until('snapshot', seen => seen.snapshots === 1)
  for (let i = 0; i < 10; i++) await create(direct, `new/${i}`, '1')
  await record.until('events', seen => seen.events.length === 10)
  const { lastRevision } = direct.status()
  await etcd.restore(join(directory, 'snapshot.db'))
  await record.until('second snapshot', seen => seen.snapshots === 2)
  assert.equal([...record.state.keys()].sort(), ['cluster', 'old'])
  assert.ok((await direct.get('old')).revision < lastRevision)
  assert.is(direct.status().lastRevision, lastRevision)
  await create(direct, 'new/again', '1')
  await record.until('event', seen => seen.state.has('new/again'))
})

test.run()
