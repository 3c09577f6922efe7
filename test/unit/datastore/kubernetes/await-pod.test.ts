/** ADD's waiting for its pod: what it asks, how long it waits, and when it goes on without. */
import { test } from 'uvu'
import * as assert from 'uvu/assert'
import { awaitPod } from '../../../../datastore/kubernetes/await-pod.ts'
import { KubernetesFacts, type PodIdentity } from '../../../../datastore/kubernetes/facts.ts'
import { refused, unavailable } from '../../../../datastore/kubernetes/failure.ts'
import type { TwillError } from '../../../../lib/errors.ts'
import { silentLog } from '../../../../lib/log.ts'
import { object, page, ScriptedClient } from '../../../fixtures/kubernetes/scripted-client.ts'
import { ManualClock, SeededRandom, settle } from '../../../fixtures/manual-clock.ts'

const asked = { verb: 'GET', path: '/pod', server: 'https://scripted' }
const notFound = () => refused(asked, 404, { kind: 'Status', reason: 'NotFound' }, null)
const WEB = { namespace: 'shop', name: 'web', uid: 'uid-of-web' }
const STATIC = { namespace: 'shop', name: 'web', uid: '0123456789abcdef0123456789abcdef' }
const web = (version: number, fields: { uid?: string; metadata?: object } = {}) =>
  object('web', version, { namespace: 'shop', labels: { app: 'web' }, ...fields })

/** Everything listed: no pod, one namespace, and being followed. */
async function setUp() {
  const client = new ScriptedClient()
  const clock = new ManualClock()
  const modules = { client, clock, random: new SeededRandom(1), log: silentLog }
  const facts = new KubernetesFacts({ nodeName: 'n1' }, modules)
  await settle()
  for (const items of [[], [], [object('shop', 1)], [], []]) client.answer(page(10, items))
  await settle()
  const [own] = [0, 1, 2, 3, 4].map(() => client.opened())
  const requests = client.asked.length
  return {
    client,
    clock,
    facts,
    own: own as NonNullable<typeof own>,
    /** Its end, and whether it has come. */
    add(identity: PodIdentity) {
      const attempt = { done: false, result: undefined as unknown }
      awaitPod(identity, { facts, ...modules }).then(
        pod => Object.assign(attempt, { done: true, result: pod?.labels.app ?? null }),
        (error: TwillError) => Object.assign(attempt, { done: true, result: error.code }),
      )
      return attempt
    },
    asked: () => client.asked.slice(requests),
  }
}

test('what is followed: own pods by their node, others without the unbound and the ended', async () => {
  const { client, facts } = await setUp()
  const lists = client.asked
    .filter(each => each.startsWith('GET'))
    .map(each => each.replace(/ limit=\d+/, ''))
  assert.equal(lists, [
    'GET /api/v1/pods fieldSelector=spec.nodeName=n1',
    'GET /api/v1/pods fieldSelector=spec.nodeName!=n1,spec.nodeName!=,status.phase!=Succeeded,status.phase!=Failed',
    'GET /api/v1/namespaces',
    'GET /api/v1/nodes',
    'GET /apis/networking.k8s.io/v1/networkpolicies',
  ])
  await facts.close()
})

test('a pod that is known: at once, without a request', async () => {
  const { own, add, asked, facts } = await setUp()
  own.event('ADDED', web(11))
  const attempt = add(WEB)
  await settle()
  assert.equal(attempt, { done: true, result: 'web' })
  assert.equal(asked(), [])
  await facts.close()
})

test('one that the watch does not know yet: a single read says it', async () => {
  const { client, add, asked, facts } = await setUp()
  const attempt = add(WEB)
  await settle()
  client.answer(web(11))
  await settle()
  assert.equal(attempt, { done: true, result: 'web' })
  assert.equal(asked(), ['GET /api/v1/namespaces/shop/pods/web'])
  await facts.close()
})

test('one that comes while it waits; two of one name in quick succession: only that of the UID counts', async () => {
  const { client, own, add, clock, asked, facts } = await setUp()
  const attempt = add(WEB)
  await settle()
  client.answer(web(11, { uid: 'the-one-before' }))
  await clock.advance(2_000)
  own.event('ADDED', web(11, { uid: 'the-one-before' }))
  await settle()
  assert.is(attempt.done, false)
  own.event('DELETED', web(12, { uid: 'the-one-before' }))
  own.event('ADDED', web(13))
  await settle()
  assert.equal(attempt, { done: true, result: 'web' })
  assert.is(asked().length, 1)
  await facts.close()
})

test('one that never comes: after 5 s the runtime is told to try again', async () => {
  const { client, add, clock, facts } = await setUp()
  const attempt = add(WEB)
  await settle()
  client.fail(notFound())
  await clock.advance(4_999)
  assert.is(attempt.done, false)
  await clock.advance(1)
  assert.equal(attempt, { done: true, result: 'kubernetes.pod-unknown' })
  await facts.close()
})

test('a static pod: by the hash that its mirror bears; without a mirror it starts all the same', async () => {
  const { client, own, add, clock, facts } = await setUp()
  const first = add(STATIC)
  await settle()
  client.fail(notFound())
  await clock.advance(5_000)
  assert.equal(first, { done: true, result: null })
  const mirror = web(11)
  const annotations = { 'kubernetes.io/config.hash': STATIC.uid }
  own.event('ADDED', { ...mirror, metadata: { ...mirror.metadata, annotations } })
  const second = add(STATIC)
  await settle()
  assert.equal(second, { done: true, result: 'web' })
  await facts.close()
})

test('a pod of a namespace that the cluster does not have is not waited for', async () => {
  const { client, add, facts } = await setUp()
  const attempt = add({ ...WEB, namespace: 'podman' })
  await settle()
  client.fail(notFound())
  await settle()
  assert.equal(attempt, { done: true, result: null })
  await facts.close()
})

test('while the API server is away pods go on without: not connected, or lost in the middle', async () => {
  const { client, own, add, clock, facts } = await setUp()
  const during = add(WEB)
  await settle()
  client.fail(unavailable(asked, 'cut', true))
  await settle()
  assert.equal(during, { done: true, result: null })
  const behind = add(WEB)
  await settle()
  client.fail(refused(asked, 404, 'default backend', null))
  await settle()
  assert.equal(behind, { done: true, result: null })
  own.end(unavailable(asked, 'cut', true))
  await settle()
  const after = add(WEB)
  await settle()
  assert.equal(after, { done: true, result: null })
  const closing = facts.close()
  await clock.advance(60_000)
  await closing
})

test('a server that has gone silent holds up no pod longer than 5 s', async () => {
  const { add, clock, facts } = await setUp()
  const attempt = add(WEB)
  await settle()
  await clock.advance(4_999)
  assert.is(attempt.done, false)
  await clock.advance(1)
  assert.equal(attempt, { done: true, result: null })
  await facts.close()
})

test('a subscriber is told of what is there, then of changes; one that throws keeps nothing from the others', async () => {
  const { own, facts } = await setUp()
  const told: string[] = []
  facts.subscribe({
    pods: () => {
      throw new Error('listener')
    },
  })
  own.event('ADDED', web(11))
  const end = facts.subscribe({
    pods: changes => told.push(...changes.map(({ key, after }) => `${key} ${after?.state ?? 'gone'}`)),
    namespaces: changes => told.push(...changes.map(({ key }) => key)),
  })
  own.event('DELETED', web(12))
  end()
  own.event('ADDED', web(13))
  assert.equal(told, ['shop/web pending', 'shop', 'shop/web gone'])
  await facts.close()
})

test.run()
