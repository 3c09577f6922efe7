/** The contract of datastore/store.ts, held against every implementation: memory, embedded, a real etcd, a real API server. */
import * as files from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { suite, type Test } from 'uvu'
import * as assert from 'uvu/assert'
import { ApiServer } from '../../daemon/api/server.ts'
import type { Status } from '../../daemon/api/types.ts'
import { bindCluster } from '../../datastore/cluster.ts'
import { EmbeddedDatabase } from '../../datastore/embedded/database.ts'
import { StoreService } from '../../datastore/embedded/service.ts'
import { SocketStore } from '../../datastore/embedded/socket-store.ts'
import { EmbeddedStore } from '../../datastore/embedded/store.ts'
import { EtcdStore } from '../../datastore/etcd/store.ts'
import { CLUSTER_KEY } from '../../datastore/keys.ts'
import { connectKubernetes, type KubernetesClient } from '../../datastore/kubernetes/client.ts'
import { RECORD_KINDS, RECORDS_GROUP, RECORDS_VERSION } from '../../datastore/kubernetes/records.ts'
import { kubernetesStore } from '../../datastore/kubernetes/store.ts'
import { MemoryCluster } from '../../datastore/memory/cluster.ts'
import { MemoryStore } from '../../datastore/memory/store.ts'
import type { Store } from '../../datastore/store.ts'
import { systemClock } from '../../lib/clock.ts'
import { isTwillError } from '../../lib/errors.ts'
import { silentLog } from '../../lib/log.ts'
import { systemRandom } from '../../lib/random.ts'
import { startEtcd } from '../fixtures/etcd.ts'
import { apiRequests } from '../fixtures/kubernetes/api-request.ts'
import { startApiServer } from '../fixtures/kubernetes/api-server.ts'
import { applyDefinitions } from '../fixtures/kubernetes/definitions.ts'
import { recordWatch } from '../fixtures/watch-record.ts'

interface Backend {
  readonly name: string
  /** Another client of an empty store; a number each is empty for itself. */
  open(space: number): Store | Promise<Store>
  close(): Promise<void>
}

function memoryBackend(): Backend {
  const clusters = new Map<number, MemoryCluster>()
  return {
    name: 'memory',
    open(space) {
      const cluster = clusters.get(space) ?? new MemoryCluster()
      clusters.set(space, cluster)
      return new MemoryStore({}, { cluster, clock: systemClock })
    },
    async close() {},
  }
}

async function embeddedBackend(): Promise<Backend> {
  const folder = await files.mkdtemp(join(tmpdir(), `twill-embedded-${process.pid}-`))
  const databases = new Map<number, EmbeddedDatabase>()
  return {
    name: 'embedded',
    async open(space) {
      const path = join(folder, String(space))
      const database =
        databases.get(space) ?? (await EmbeddedDatabase.open({ path }, { files, log: silentLog }))
      databases.set(space, database)
      return new EmbeddedStore({ database, clock: systemClock })
    },
    async close() {
      for (const database of databases.values()) await database.close()
      await files.rm(folder, { recursive: true })
    },
  }
}

/** One client has the store, the other reaches it by the socket of the first one's daemon. */
async function socketBackend(): Promise<Backend> {
  const folder = await files.mkdtemp(join(tmpdir(), `twill-socket-${process.pid}-`))
  const opened = new Map<number, Awaited<ReturnType<typeof serve>>>()
  const serve = async (space: number) => {
    const socketPath = join(folder, `${space}.sock`)
    const database = await EmbeddedDatabase.open(
      { path: join(folder, String(space)) },
      { files, log: silentLog },
    )
    const store = new StoreService({ database, clock: systemClock })
    const server = new ApiServer(
      { socketPath, metricsAddress: null },
      { status: () => ({}) as Status, metrics: async () => '', store },
    )
    await server.listen()
    return { server, database, socketPath }
  }
  return {
    name: 'embedded, over its socket',
    async open(space) {
      const known = opened.get(space)
      if (known !== undefined) return new EmbeddedStore({ database: known.database, clock: systemClock })
      const served = await serve(space)
      opened.set(space, served)
      return new SocketStore({ socketPath: served.socketPath }, { clock: systemClock, log: silentLog })
    },
    async close() {
      for (const { server, database } of opened.values()) {
        await server.close()
        await database.close()
      }
      await files.rm(folder, { recursive: true })
    },
  }
}

async function etcdBackend(): Promise<Backend> {
  const etcd = await startEtcd()
  return {
    name: 'etcd',
    open: space =>
      new EtcdStore(
        { endpoints: [etcd.endpoint], prefix: `/space-${space}/` },
        { clock: systemClock, random: systemRandom, log: silentLog },
      ),
    close: () => etcd.remove(),
  }
}

async function kubernetesBackend(): Promise<Backend> {
  const server = await startApiServer()
  const requests = apiRequests(server)
  await applyDefinitions(server, requests)
  const clients: KubernetesClient[] = []
  let used = 0
  return {
    name: 'kubernetes',
    async open(space) {
      // Custom resources know no prefix: what another test left goes.
      if (space !== used)
        for (const { plural } of RECORD_KINDS)
          await requests.send('DELETE', `/apis/${RECORDS_GROUP}/${RECORDS_VERSION}/${plural}`)
      used = space
      const modules = { clock: systemClock, random: systemRandom, log: silentLog }
      const readFile = (path: string) => files.readFile(path)
      const client = await connectKubernetes(
        { kubeconfig: server.kubeconfig },
        { ...modules, readFile, environment: {} },
      )
      clients.push(client)
      return kubernetesStore({ ...modules, client })
    },
    async close() {
      for (const client of clients) client.close()
      requests.close()
      await server.stop()
    },
  }
}

interface Context {
  a: Store
  b: Store
}

function describe(backend: Backend): Test<Context> {
  const test = suite<Context>(backend.name)
  let space = 0
  test.before.each(async context => {
    space++
    context.a = await backend.open(space)
    context.b = await backend.open(space)
  })
  test.after.each(async context => {
    await context.a.close()
    await context.b.close()
  })
  test.after(() => backend.close())
  return test
}

function addCommitTests(test: Test<Context>): void {
  test('a key is created once', async ({ a, b }) => {
    const first = await a.commit({ key: 'k/ü', expected: 0, value: 'äöü' })
    assert.ok(first.committed)
    const second = await b.commit({ key: 'k/ü', expected: 0, value: 'other' })
    const entry = { key: 'k/ü', value: 'äöü', modRevision: first.revision }
    assert.ok(!second.committed && second.revision >= first.revision)
    assert.equal(!second.committed && second.current, entry)
    const read = await b.get('k/ü')
    assert.equal(read.entry, entry)
    assert.ok(read.revision >= first.revision)
  })

  test('a change needs the revision it was made from', async ({ a, b }) => {
    const created = await a.commit({ key: 'k', expected: 0, value: '1' })
    const changed = await a.commit({ key: 'k', expected: created.revision, value: '2' })
    assert.ok(changed.committed && changed.revision > created.revision)
    const stale = await b.commit({ key: 'k', expected: created.revision, value: '3' })
    assert.ok(!stale.committed && stale.current?.value === '2')
    const absent = await b.commit({ key: 'none', expected: created.revision, value: '3' })
    assert.equal(!absent.committed && absent.current, null)
  })

  test('the same value once more is a change: what was decided before it cannot land any more', async ({
    a,
    b,
  }) => {
    const created = await a.commit({ key: 'k', expected: 0, value: '1' })
    const again = await a.commit({ key: 'k', expected: created.revision, value: '1' })
    assert.ok(again.committed && again.revision > created.revision)
    assert.is((await b.get('k')).entry?.modRevision, again.revision)
    assert.not((await b.commit({ key: 'k', expected: created.revision, value: '2' })).committed)
  })

  test('a deletion compares too, and what was deleted can be created again', async ({ a }) => {
    const created = await a.commit({ key: 'k', expected: 0, value: '1' })
    assert.not((await a.commit({ key: 'k', expected: created.revision - 1, value: null })).committed)
    const deleted = await a.commit({ key: 'k', expected: created.revision, value: null })
    assert.ok(deleted.committed && deleted.revision > created.revision)
    assert.is((await a.get('k')).entry, null)
    assert.not((await a.commit({ key: 'k', expected: created.revision, value: '2' })).committed)
    assert.ok((await a.commit({ key: 'k', expected: 0, value: '2' })).committed)
  })

  test('of many at the same instant exactly one wins', async ({ a, b }) => {
    const outcomes = await Promise.all(
      Array.from({ length: 20 }, (_, i) =>
        (i % 2 ? a : b).commit({ key: 'k', expected: 0, value: String(i) }),
      ),
    )
    assert.is(outcomes.filter(outcome => outcome.committed).length, 1)
    const winner = outcomes.findIndex(outcome => outcome.committed)
    for (const outcome of outcomes) if (!outcome.committed) assert.is(outcome.current?.value, String(winner))
  })

  test('status counts commits, and remembers the highest revision and when the last answer came', async ({
    a,
  }) => {
    assert.equal([a.status().lastRevision, a.status().lastAnswerMs], [0, null])
    await a.get('k')
    const outcome = await a.commit({ key: 'k', expected: 0, value: '1' })
    const { lastRevision, lastAnswerMs, ...status } = a.status()
    assert.equal(status, { connected: true, reason: null, commits: 1 })
    assert.type(lastAnswerMs, 'number')
    assert.ok(lastRevision >= outcome.revision)
  })
}

function addListTests(test: Test<Context>): void {
  test('a list is sorted by key, within its prefix, at one revision', async ({ a }) => {
    for (const key of ['p/b', 'p/a', 'p', 'pp/x', 'p/a/c', 'o'])
      await a.commit({ key, expected: 0, value: key })
    const { entries, revision } = await a.list('p/')
    assert.equal(
      entries.map(entry => entry.key),
      ['p/a', 'p/a/c', 'p/b'],
    )
    assert.ok(entries.every(entry => entry.value === entry.key && entry.modRevision <= revision))
    assert.equal((await a.list('nothing/')).entries, [])
    assert.is((await a.list('')).entries.length, 6)
  })
}

function addWatchTests(test: Test<Context>): void {
  test('a watch: snapshot, then every change once, in order', async ({ a, b }) => {
    await a.commit({ key: 'w/before', expected: 0, value: '0' })
    const record = recordWatch(b, 'w/')
    await record.until('snapshot', seen => seen.snapshots === 1)
    assert.equal([...record.state], [['w/before', '0']])
    let revision = 0
    for (let i = 1; i <= 50; i++) {
      await a.commit({ key: `other/${i}`, expected: 0, value: 'x' })
      revision = (await a.commit({ key: 'w/k', expected: revision, value: String(i) })).revision
    }
    await a.commit({ key: 'w/k', expected: revision, value: null })
    await record.until('deletion', seen => seen.events.at(-1)?.value === null)
    assert.equal(
      record.events.map(event => event.value),
      [...Array.from({ length: 50 }, (_, i) => String(i + 1)), null],
    )
    const revisions = record.events.map(event => event.modRevision)
    assert.equal(
      revisions,
      [...new Set(revisions)].sort((x, y) => x - y),
    )
    assert.equal([...record.state], [['w/before', '0']])
    assert.is(record.messages.filter(message => message.type === 'connection').length, 1)
  })

  test('watches of one store do not disturb each other; a closed one is silent', async ({ a }) => {
    const one = recordWatch(a, 'one/')
    const two = recordWatch(a, 'two/')
    await one.until('snapshot', seen => seen.snapshots === 1)
    await two.until('snapshot', seen => seen.snapshots === 1)
    await one.close()
    const heard = one.messages.length
    await a.commit({ key: 'one/k', expected: 0, value: '1' })
    await a.commit({ key: 'two/k', expected: 0, value: '2' })
    await two.until('event', seen => seen.events.length === 1)
    assert.is(one.messages.length, heard)
    assert.equal([...two.state], [['two/k', '2']])
  })

  test('nothing is said before watch() has returned', async ({ a }) => {
    let returned = false
    const early: boolean[] = []
    const watch = a.watch('', () => early.push(!returned))
    returned = true
    for (let waited = 0; early.length === 0 && waited < 30_000; waited += 10)
      await new Promise(resolve => setTimeout(resolve, 10))
    await watch.close()
    assert.ok(early.length > 0 && !early.includes(true))
  })
}

function addClusterTests(test: Test<Context>): void {
  test('the first gives the cluster its UID, all others find it', async ({ a, b }) => {
    const uids = await Promise.all([a, b].map(store => bindCluster(null, { store, random: systemRandom })))
    assert.is(uids[0], uids[1])
    assert.is(await bindCluster(uids[0] as string, { store: b, random: systemRandom }), uids[0])
    assert.ok((await a.commit({ key: 'k', expected: 0, value: '1' })).committed)
    assert.is((await b.get('k')).entry?.value, '1')
  })

  test('a store of another cluster is neither read nor written nor watched, until it is ours', async ({
    a,
    b,
  }) => {
    const foreign = { v: 1, uid: 'theirs' }
    const { revision } = await b.commit({ key: CLUSTER_KEY, expected: 0, value: JSON.stringify(foreign) })
    await rejects(bindCluster('ours', { store: a, random: systemRandom }))
    await rejects(a.get('k'))
    await rejects(a.list(''))
    await rejects(a.commit({ key: 'k', expected: 0, value: '1' }))
    assert.is((await b.get('k')).entry, null)
    assert.not(a.status().connected)
    assert.match(a.status().reason ?? '', /ours.*theirs/)
    const record = recordWatch(a, '')
    await record.until('word of it', seen => seen.messages.length === 1)
    assert.is(record.messages[0]?.type === 'connection' && record.messages[0].connected, false)
    await b.commit({ key: CLUSTER_KEY, expected: revision, value: JSON.stringify({ v: 1, uid: 'ours' }) })
    await record.until('snapshot', seen => seen.snapshots === 1)
    assert.ok((await a.commit({ key: 'k', expected: 0, value: '1' })).committed)
  })

  test('a store without identity is foreign to a node that has one', async ({ a }) => {
    await rejects(bindCluster('ours', { store: a, random: systemRandom }))
    await rejects(a.commit({ key: CLUSTER_KEY, expected: 0, value: JSON.stringify({ v: 1, uid: 'ours' }) }))
  })
}

async function rejects(promise: Promise<unknown>): Promise<void> {
  const error = await promise.then(
    () => null,
    reason => reason,
  )
  assert.ok(isTwillError(error, 'store.foreign-cluster'), `expected store.foreign-cluster, got ${error}`)
}

for (const backend of [
  memoryBackend(),
  await embeddedBackend(),
  await socketBackend(),
  await etcdBackend(),
  await kubernetesBackend(),
]) {
  const test = describe(backend)
  addCommitTests(test)
  addListTests(test)
  addWatchTests(test)
  addClusterTests(test)
  test.run()
}
