/** Watches and revisions of the store on custom resources, with answers by hand and time moved. */
import { test } from 'uvu'
import * as assert from 'uvu/assert'
import type { KubernetesObject } from '../../../../datastore/kubernetes/client.ts'
import { refused } from '../../../../datastore/kubernetes/failure.ts'
import { kubernetesStore } from '../../../../datastore/kubernetes/store.ts'
import { isTwillError } from '../../../../lib/errors.ts'
import { silentLog } from '../../../../lib/log.ts'
import { object, page, ScriptedClient } from '../../../fixtures/kubernetes/scripted-client.ts'
import { ManualClock, SeededRandom, settle } from '../../../fixtures/manual-clock.ts'
import { recordWatch } from '../../../fixtures/watch-record.ts'

const SLOTS = '/apis/records.twill.network/v1/slots'
const asked = { verb: 'WATCH', path: SLOTS, server: 'https://scripted' }
const gone = () => refused(asked, 410, { message: 'too old resource version', reason: 'Expired' }, null)

const slot = (name: string, version: number) =>
  object(name, version, { spec: { key: `slots/p/${name}`, value: String(version) } })

/** Listed as of 100 with one slot, and being watched. */
async function watching() {
  const client = new ScriptedClient()
  const clock = new ManualClock()
  const store = kubernetesStore({ client, clock, random: new SeededRandom(7), log: silentLog })
  const record = recordWatch(store, 'slots/p/')
  await settle()
  client.answer(page(100, [slot('a', 90)]))
  await settle()
  return { client, clock, store, record, watch: client.opened(), lastAsked: () => client.asked.at(-1) ?? '' }
}

test('a server that forgets faster than it lists is not asked without pause', async () => {
  const { client, clock, watch, store, record } = await watching()
  watch.end(gone())
  await settle()
  assert.is(client.asked.length, 2)
  await clock.advance(1_000)
  assert.is(client.asked.length, 3)
  client.answer(page(110, [slot('b', 105)]))
  await settle()
  assert.equal([record.snapshots, [...record.state]], [2, [['slots/p/b', '105']]])
  client.failWatch(gone())
  await settle()
  assert.is(client.asked.length, 4)
  await store.close()
})

test('before a watch goes on it is asked how new the store is; one that went back is listed anew', async () => {
  const { client, clock, watch, store, record, lastAsked } = await watching()
  watch.event('MODIFIED', slot('a', 120))
  watch.end()
  await clock.advance(1_000)
  assert.is(lastAsked(), `GET ${SLOTS} limit=1`)
  client.answer(page(120, [slot('a', 120)]))
  await settle()
  const second = client.opened()
  assert.is(second.query.resourceVersion, 120)
  second.event('BOOKMARK', object('', 130))
  second.end()
  await clock.advance(1_000)
  client.answer(page(95, [slot('a', 90)]))
  await settle()
  assert.match(lastAsked(), /^GET .* labelSelector=.*limit=500/)
  client.answer(page(95, [slot('a', 90)]))
  await settle()
  assert.equal([record.snapshots, [...record.state]], [2, [['slots/p/a', '90']]])
  assert.is(client.opened().query.resourceVersion, 95)
  await store.close()
})

test('after the store went back a deletion is told by a revision of now', async () => {
  const { client, store } = await watching()
  const read = store.get('slots/p/a')
  await settle()
  client.answer(page(95, [slot('a', 90)]))
  assert.is((await read).revision, 95)
  const deleting = store.commit({ key: 'slots/p/a', expected: 90, value: null })
  await settle()
  client.answer(page(95, [slot('a', 90)]))
  await settle()
  client.answer({})
  const { revision } = await deleting
  assert.ok(revision > 95 && revision <= 100, String(revision))
  await store.close()
})

const CLUSTER = (uid: string) =>
  object('cluster', 1, { spec: { key: 'cluster', value: JSON.stringify({ v: 1, uid }) } })

test('a deletion names the object that it means, and means none of another cluster', async () => {
  const { client, store } = await watching()
  store.expectCluster('ours')
  const remove = async (object: object) => {
    const removing = store.commit({ key: 'slots/p/a', expected: 90, value: null })
    removing.catch(() => {})
    await settle()
    client.answer(page(100, [CLUSTER('ours')]))
    await settle()
    // From here on another server answers.
    client.answer(page(100, [object as KubernetesObject]))
    await settle()
    return { removing }
  }
  const theirs = object('a', 90, { spec: { key: 'slots/p/a', value: '1', cluster: 'theirs' } })
  const { removing: refused } = await remove(theirs)
  const failure = await refused.then(
    () => null,
    error => error,
  )
  assert.ok(isTwillError(failure, 'store.foreign-cluster'), String(failure))
  const ours = object('a', 90, { spec: { key: 'slots/p/a', value: '1', cluster: 'ours' } })
  const { removing } = await remove(ours)
  assert.match(client.asked.at(-1) as string, /^DELETE /)
  const { preconditions } = client.body as { preconditions: object }
  assert.equal(preconditions, { uid: 'uid-of-a', resourceVersion: '90' })
  client.answer({})
  assert.ok((await removing).committed)
  await store.close()
})

test('closed while a server is silent: a watch does not wait for its answer', async () => {
  const { client, clock, watch, store } = await watching()
  watch.end()
  await clock.advance(1_000)
  assert.is(client.asked.length, 3)
  await store.close()
  const other = kubernetesStore({ client, clock, random: new SeededRandom(7), log: silentLog })
  recordWatch(other, 'slots/p/')
  await settle()
  assert.is(client.asked.length, 4)
  await other.close()
})

test.run()
