/** The Namespaces that a node follows, as its store's watch of them. */
import { test } from 'uvu'
import * as assert from 'uvu/assert'
import { KubernetesFacts } from '../../../../datastore/kubernetes/facts.ts'
import { resourceStore } from '../../../../datastore/kubernetes/routed.ts'
import { silentLog } from '../../../../lib/log.ts'
import { object, page, ScriptedClient } from '../../../fixtures/kubernetes/scripted-client.ts'
import { ManualClock, SeededRandom, settle } from '../../../fixtures/manual-clock.ts'
import { recordWatch } from '../../../fixtures/watch-record.ts'

const NAMESPACES = '/api/v1/namespaces'

function setUp() {
  const client = new ScriptedClient()
  const modules = { client, clock: new ManualClock(), random: new SeededRandom(7), log: silentLog }
  const facts = new KubernetesFacts({ nodeName: 'node1' }, modules)
  const following = { now: 0 }
  const subscribe: KubernetesFacts['subscribe'] = subscriber => {
    const end = facts.subscribe(subscriber)
    following.now++
    return () => {
      following.now--
      end()
    }
  }
  const store = resourceStore({ ...modules, facts: { namespaces: facts.namespaces, subscribe } })
  return { client, facts, store, following }
}

const namespace = (name: string, version: number, zone: string) =>
  object(name, version, { labels: { zone }, annotations: {} })

const zones = (state: ReadonlyMap<string, string>) =>
  [...state].map(([key, value]) => [key, JSON.parse(value).metadata.labels.zone])

test('they come when the node knows them, change as it hears of them, and are asked for once', async () => {
  const { client, facts, store, following } = setUp()
  const record = recordWatch(store, 'resources/namespaces/')
  await settle()
  // Own pods, other pods.
  for (const _ of [1, 2]) client.answer(page(10, []))
  assert.is(record.snapshots, 0)
  client.answer(page(10, [namespace('a', 5, 'x'), namespace('b', 6, 'x')]))
  await settle()
  assert.equal(zones(record.state), [
    ['resources/namespaces/a', 'x'],
    ['resources/namespaces/b', 'x'],
  ])
  assert.equal([record.snapshots, record.events.length], [1, 0])
  // Of own pods, other pods, Namespaces.
  const [, , watch] = [client.opened(), client.opened(), client.opened()]
  watch?.event('MODIFIED', namespace('a', 11, 'y'))
  watch?.event('DELETED', namespace('b', 12, 'x'))
  watch?.event('ADDED', namespace('c', 13, 'z'))
  assert.equal(zones(record.state), [
    ['resources/namespaces/a', 'y'],
    ['resources/namespaces/c', 'z'],
  ])
  assert.is(client.asked.filter(each => each.startsWith(`GET ${NAMESPACES}`)).length, 1)
  assert.is(following.now, 1)
  await record.close()
  watch?.event('ADDED', namespace('d', 14, 'z'))
  assert.equal([record.state.size, following.now], [2, 0])
  await facts.close()
  await store.close()
})

test('one who follows later is told of what is there; other resources are watched as ever', async () => {
  const { client, facts, store } = setUp()
  await settle()
  for (const items of [[], [], [namespace('a', 5, 'x')], [], []]) client.answer(page(10, items))
  await settle()
  const late = recordWatch(store, 'resources/namespaces/')
  await settle()
  assert.equal(zones(late.state), [['resources/namespaces/a', 'x']])
  recordWatch(store, 'resources/ippools/')
  await settle()
  assert.match(client.asked.at(-1) as string, /^GET .*ippools limit=500$/)
  await facts.close()
  await store.close()
})

test.run()
