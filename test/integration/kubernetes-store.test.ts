/**
 * The store on custom resources over a real API server: answers that are lost, a server that restarts with an empty past,
 * records of another cluster, and the address management on it.
 */
import { readFile } from 'node:fs/promises'
import { join } from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'
import { isDeepStrictEqual } from 'node:util'
import { test } from 'uvu'
import * as assert from 'uvu/assert'
import { connectKubernetes, type KubernetesClient } from '../../datastore/kubernetes/client.ts'
import { RECORDS_GROUP, RECORDS_VERSION } from '../../datastore/kubernetes/records.ts'
import { kubernetesStore } from '../../datastore/kubernetes/store.ts'
import type { Commit, KeyValue, Store } from '../../datastore/store.ts'
import { changeRecord } from '../../ipam/change-record.ts'
import { type IpamJournalRecord, replay } from '../../ipam/journal-records.ts'
import { createIpam, type NodeIpam } from '../../ipam/node-ipam.ts'
import { createPool } from '../../ipam/pools.ts'
import { systemClock } from '../../lib/clock.ts'
import { isTwillError, TwillError } from '../../lib/errors.ts'
import { silentLog } from '../../lib/log.ts'
import { systemRandom } from '../../lib/random.ts'
import { startProxy } from '../fixtures/cutting-proxy.ts'
import { etcdctl } from '../fixtures/etcdctl.ts'
import { apiRequests } from '../fixtures/kubernetes/api-request.ts'
import { startApiServer } from '../fixtures/kubernetes/api-server.ts'
import { applyDefinitions } from '../fixtures/kubernetes/definitions.ts'
import { recordWatch } from '../fixtures/watch-record.ts'

const server = await startApiServer()
const requests = apiRequests(server)
const proxy = await startProxy({ host: server.host, port: server.port })
const modules = { clock: systemClock, random: systemRandom, log: silentLog }
const ending: (() => unknown)[] = []
await applyDefinitions(server, requests)

const cutOff = server.kubeconfigFor('admin', ['system:masters'], {
  server: `https://127.0.0.1:${proxy.port}`,
})

/** @param beforeChange whenever something is about to be sent that changes something */
async function open(kubeconfig = server.kubeconfig, beforeChange = () => {}): Promise<Store> {
  const readBytes = (path: string) => readFile(path)
  const client = await connectKubernetes({ kubeconfig }, { ...modules, readFile: readBytes, environment: {} })
  const store = kubernetesStore({ ...modules, client: noticing(client, beforeChange) })
  ending.push(() => store.close().then(() => client.close()))
  return store
}

const noticing = (client: KubernetesClient, beforeChange: () => void): KubernetesClient => ({
  request(method, path, options) {
    if (method !== 'GET') beforeChange()
    return client.request(method, path, options)
  },
  watch: (...args) => client.watch(...args),
  status: () => client.status(),
  close: () => client.close(),
})

test.after(async () => {
  for (const end of ending) await end()
  await proxy.close()
  requests.close()
  await server.stop()
})

const failureOf = (promise: Promise<unknown>) =>
  promise.then(
    () => null,
    error => error,
  )

async function until<T>(what: string, ask: () => Promise<T | null | false | undefined>): Promise<T> {
  for (let waited = 0; waited < 60_000; waited += 50) {
    const answer = await ask()
    if (answer) return answer
    await sleep(50)
  }
  throw new Error(`not within a minute: ${what}`)
}

const direct = await open()
const entryOf = async (key: string): Promise<KeyValue | null> => (await direct.get(key)).entry

const LOST: readonly (readonly [name: string, commit: (before: number) => Commit, before: string | null])[] =
  [
    ['a creation', () => ({ key: 'slots/a/new', expected: 0, value: '1' }), null],
    ['an update', expected => ({ key: 'slots/a/old', expected, value: '2' }), '1'],
    ['a deletion', expected => ({ key: 'ledgers/a/x/gone', expected, value: null }), '1'],
  ]

for (const [name, commitOf, before] of LOST)
  test(`${name} whose answer is lost is in doubt, and was made`, async () => {
    const store = await open(cutOff, () => proxy.swallowAnswers(true))
    const { key } = commitOf(0)
    const expected = before === null ? 0 : (await direct.commit({ key, expected: 0, value: before })).revision
    await store.get(key)
    const failing = failureOf(store.commit(commitOf(expected)))
    await until('its effect', async () => (await entryOf(key))?.value !== (before ?? undefined))
    proxy.cut()
    const failure = await failing
    proxy.swallowAnswers(false)
    assert.ok(isTwillError(failure, 'store.in-doubt') && failure.retryable, String(failure))
    assert.is((await entryOf(key))?.value ?? null, commitOf(0).value)
  })

test('a doubt is settled by a write that is one, although it says the same', async () => {
  const before = await entryOf('slots/a/old')
  const { wrote, modRevision } = await changeRecord<string>(doubting(direct), {
    key: 'slots/a/old',
    parse: text => JSON.parse(text),
    step: () => 2 as unknown as string,
  })
  assert.ok(wrote && modRevision > before!.modRevision)
  assert.is((await entryOf('slots/a/old'))?.modRevision, modRevision)
})

/** The answer to its first commit is lost. */
function doubting(store: Store): Store {
  let first = true
  return {
    get: key => store.get(key),
    list: prefix => store.list(prefix),
    async commit(commit: Commit) {
      const outcome = await store.commit(commit)
      if (!first) return outcome
      first = false
      throw new TwillError('store.in-doubt', 'the answer is lost', {}, { retryable: true })
    },
    watch: (prefix, listener) => store.watch(prefix, listener),
    expectCluster: uid => store.expectCluster(uid),
    status: () => store.status(),
    close: async () => {},
  }
}

test('what never left is not in doubt', async () => {
  const store = await open(cutOff)
  proxy.refuse(true)
  const failure = await failureOf(store.commit({ key: 'slots/a/never', expected: 0, value: '1' }))
  proxy.refuse(false)
  assert.ok(isTwillError(failure, 'store.unavailable'), String(failure))
  assert.is(await entryOf('slots/a/never'), null)
})

test('a watch over a cut tells each change once; after a restart of the server without its past it begins anew', async () => {
  const store = await open(cutOff)
  const record = recordWatch(store, 'slots/w/')
  await record.until('snapshot', seen => seen.snapshots === 1)
  let revision = 0
  for (let i = 1; i <= 20; i++) {
    if (i % 7 === 0) proxy.cut()
    revision = (await direct.commit({ key: 'slots/w/k', expected: revision, value: String(i) })).revision
  }
  await record.until('the last', seen => seen.events.at(-1)?.value === '20')
  assert.equal(
    record.events.map(({ value }) => value),
    Array.from({ length: 20 }, (_, i) => String(i + 1)),
  )
  assert.is(record.snapshots, 1)
  proxy.refuse(true)
  proxy.cut()
  await direct.commit({ key: 'slots/w/k', expected: revision, value: null })
  await direct.commit({ key: 'slots/w/other', expected: 0, value: '1' })
  await server.kill()
  await server.compact()
  await server.start()
  proxy.refuse(false)
  await until('a second snapshot', async () => record.snapshots === 2)
  assert.equal([...record.state], [['slots/w/other', '1']])
})

test('the server is restored to an older state: watches begin anew, and revisions are those of now', async () => {
  const store = await open()
  const kept = await store.commit({ key: 'slots/r/kept', expected: 0, value: '1' })
  assert.ok(kept.committed)
  const backup = join(server.folder, 'backup')
  await etcdctl(server.etcd, 'snapshot', 'save', backup)
  for (let i = 0; i < 50; i++) await store.commit({ key: `slots/r/lost${i}`, expected: 0, value: '1' })
  const record = recordWatch(store, 'slots/r/')
  await record.until('snapshot', seen => seen.snapshots === 1)
  await server.kill()
  await server.etcd.restore(backup)
  await server.start()
  await until('a second snapshot', async () => record.snapshots === 2)
  assert.equal([...record.state], [['slots/r/kept', '1']])
  const added = await until('the server', () =>
    store.commit({ key: 'slots/r/added', expected: 0, value: '1' }).catch(() => null),
  )
  await record.until('what came after', seen => seen.state.has('slots/r/added'))
  const removed = await store.commit({ key: 'slots/r/added', expected: added.revision, value: null })
  assert.ok(removed.committed)
  const { revision } = await store.get('slots/r/added')
  assert.ok(removed.revision <= revision, `deleted at ${removed.revision}, read at ${revision}`)
})

test('a record of another cluster is neither read nor written over, by the server itself', async () => {
  const { revision } = await direct.commit({ key: 'cluster', expected: 0, value: '{"v":1,"uid":"ours"}' })
  assert.ok(revision > 0)
  const path = `/apis/${RECORDS_GROUP}/${RECORDS_VERSION}/slots`
  const foreign = await open()
  foreign.expectCluster('theirs')
  const refused = await failureOf(foreign.commit({ key: 'slots/f/k', expected: 0, value: '1' }))
  assert.ok(isTwillError(refused, 'store.foreign-cluster'), String(refused))
  await direct.commit({ key: 'slots/f/k', expected: 0, value: '1' })
  const { body } = await requests.send('GET', path)
  const object = body.items.find(({ spec }: { spec: { key: string } }) => spec.key === 'slots/f/k')
  object.spec.cluster = 'theirs'
  const marked = await requests.send('PUT', `${path}/${object.metadata.name}`, object)
  const ours = await open()
  ours.expectCluster('ours')
  assert.ok(isTwillError(await failureOf(ours.get('slots/f/k')), 'store.foreign-cluster'))
  const expected = Number(marked.body.metadata.resourceVersion)
  const written = await failureOf(ours.commit({ key: 'slots/f/k', expected, value: '2' }))
  assert.ok(isTwillError(written, 'store.foreign-cluster'), String(written))
  assert.is((await entryOf('slots/f/k'))?.modRevision, expected)
  await direct.commit({ key: 'slots/f/k', expected, value: null })
})

async function node(uid: string): Promise<{ ipam: NodeIpam; store: Store }> {
  const records: IpamJournalRecord[] = []
  const store = await open()
  const ipam = createIpam(
    { nodeUid: uid, nodeName: uid, boot: 'b', journaled: replay(records), journalIntact: true },
    { ...modules, store, journal: { append: async record => void records.push(record) } },
  )
  ending.unshift(() => ipam.stop())
  ipam.start()
  await ipam.ready()
  return { ipam, store }
}

const holder = (id: string) => ({
  ...{ id, kind: 'pod' as const, network: 'twill', containerId: id, ifName: 'eth0', pod: null, since: 1 },
})

test('nodes that start pods at once take parts of their own; a burst of 100 pods costs few commits', async () => {
  const store = direct
  for (const [name, cidr] of [
    ['v4', '10.0.0.0/16'],
    ['v6', 'fd00::/112'],
  ] as const)
    await createPool(
      {
        apiVersion: 'twill.network/v1alpha1',
        kind: 'IPPool',
        metadata: { name },
        spec: { cidr, natOutgoing: true, disabled: false, allowedUses: ['pod', 'tunnel'] },
      },
      { ...modules, store },
    )
  const nodes = await Promise.all(['uid-1', 'uid-2'].map(node))
  const add = async (ipam: NodeIpam, id: string) => {
    const held = await ipam.allocate({ holder: holder(id), families: [], pools: [] })
    ipam.recorded(id)
    return held
  }
  const first = await Promise.all(nodes.map(({ ipam }, i) => add(ipam, `first-${i}`)))
  assert.is(new Set(first.flatMap(held => held.map(({ slot }) => slot))).size, 4)
  const [{ ipam, store: its }] = nodes as [{ ipam: NodeIpam; store: Store }]
  await ipam.settled()
  const [begun, before] = [performance.now(), its.status().commits]
  await Promise.all(Array.from({ length: 100 }, (_, i) => add(ipam, `p${i}`)))
  const given = performance.now() - begun
  await ipam.settled()
  const commits = its.status().commits - before
  console.log(
    `100 dual-stack pods: given in ${given.toFixed(0)} ms, ${commits} commits in ${(performance.now() - begun).toFixed(0)} ms`,
  )
  assert.ok(commits <= 15, `${commits} commits`)
  const { entries } = await store.list('ledgers/')
  const held = entries.flatMap(({ value }) =>
    Object.values(JSON.parse(value).generations).flatMap(each => Object.keys(each as object)),
  )
  assert.is(new Set(held).size, 204)
})

test('slots that somebody deletes as kubectl does are there again as they were, and nothing counts as restored', async () => {
  const slots = async () =>
    (await direct.list('slots/')).entries
      .map(({ key, value }) => ({ key, value: JSON.parse(value) }))
      .filter(({ value }) => value.parts !== undefined)
  const before = await slots()
  assert.ok(before.length >= 4)
  await requests.send('DELETE', `/apis/${RECORDS_GROUP}/${RECORDS_VERSION}/slots`)
  await until('its slots', async () => isDeepStrictEqual(await slots(), before))
  const space = (await entryOf('address-space'))?.value ?? '{}'
  assert.is(JSON.parse(space).restored ?? null, null)
})

test.run()
