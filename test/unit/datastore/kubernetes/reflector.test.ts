/** Lists in pages, watches, failures and what the consumer is told of them, with answers by hand and time moved. */
import { test } from 'uvu'
import * as assert from 'uvu/assert'
import type { KubernetesObject } from '../../../../datastore/kubernetes/client.ts'
import { refused, unavailable } from '../../../../datastore/kubernetes/failure.ts'
import { Reflector, type ReflectorOptions } from '../../../../datastore/kubernetes/reflector.ts'
import { silentLog } from '../../../../lib/log.ts'
import { object, page, ScriptedClient } from '../../../fixtures/kubernetes/scripted-client.ts'
import { ManualClock, SeededRandom, settle } from '../../../fixtures/manual-clock.ts'

const asked = { verb: 'WATCH', path: '/api/v1/pods', server: 'https://scripted' }
const gone = () => refused(asked, 410, { message: 'too old resource version', reason: 'Expired' }, null)
const cut = () => unavailable(asked, 'the connection was cut', true)

const colourOf = ({ metadata }: KubernetesObject): string => metadata.labels?.colour ?? 'none'

function setUp(options: Partial<ReflectorOptions<string>> = {}) {
  const client = new ScriptedClient()
  const clock = new ManualClock()
  const told: string[] = []
  const reflector = new Reflector<string>(
    {
      path: '/api/v1/pods',
      slim: colourOf,
      onChange: changes => {
        for (const { key, before, after } of changes) told.push(`${key}: ${before} -> ${after}`)
      },
      ...options,
    },
    { client, clock, random: new SeededRandom(7), log: silentLog },
  )
  return {
    client,
    clock,
    reflector,
    /** What was told since the last call. */
    told: () => told.splice(0),
    lastAsked: () => client.asked.at(-1) ?? '',
  }
}

const painted = (name: string, version: number, colour: string, uid?: string) =>
  object(name, version, { namespace: 'ns', labels: { colour }, ...(uid === undefined ? {} : { uid }) })

/** Listed as of 10 with the object `a`, red, and being watched. */
async function watching(options: Partial<ReflectorOptions<string>> = {}) {
  const made = setUp(options)
  await settle()
  made.client.answer(page(10, [painted('a', 5, 'red')]))
  await settle()
  const watch = made.client.opened()
  made.told()
  return { ...made, watch }
}

test('a list in pages: each with the token of the last, one change for all, then a watch from its version', async () => {
  const { client, reflector, told } = setUp({ pageSize: 2, fieldSelector: 'spec.nodeName=n1' })
  await settle()
  client.answer(page(10, [painted('a', 3, 'red'), painted('b', 4, 'blue')], 'more'))
  await settle()
  assert.is(reflector.entries.size, 0)
  assert.is(reflector.isSynced, false)
  client.answer(page(10, [painted('c', 9, 'green')]))
  await reflector.synced()
  await settle()
  const watch = client.opened()
  assert.equal(client.asked.slice(0, 2), [
    'GET /api/v1/pods limit=2 fieldSelector=spec.nodeName=n1',
    'GET /api/v1/pods limit=2 continue=more fieldSelector=spec.nodeName=n1',
  ])
  assert.is(watch.query.resourceVersion, '10')
  assert.is(watch.query.allowWatchBookmarks, true)
  assert.is(watch.query.fieldSelector, 'spec.nodeName=n1')
  const seconds = Number(watch.query.timeoutSeconds)
  assert.ok(seconds >= 300 && seconds <= 600, String(seconds))
  assert.equal(told(), ['ns/a: null -> red', 'ns/b: null -> blue', 'ns/c: null -> green'])
  assert.equal(
    [...reflector.entries],
    [
      ['ns/a', 'red'],
      ['ns/b', 'blue'],
      ['ns/c', 'green'],
    ],
  )
  assert.is(reflector.problem(), null)
  await reflector.close()
})

test('the token of a page expires in the middle of a list: it starts over, and nothing of the half is told', async () => {
  const { client, clock, reflector, told, lastAsked } = setUp()
  await settle()
  client.answer(page(10, [painted('a', 3, 'red')], 'more'))
  await settle()
  client.fail(gone())
  await settle()
  assert.equal(told(), [])
  assert.match(reflector.problem() ?? '', /410 too old resource version/)
  await clock.advance(1_000)
  assert.is(lastAsked(), 'GET /api/v1/pods limit=250')
  client.answer(page(20, [painted('b', 15, 'blue')]))
  await settle()
  assert.equal(told(), ['ns/b: null -> blue'])
  await reflector.close()
})

test('events are told once each; a bookmark moves the version from which the next watch begins', async () => {
  const { client, clock, watch, reflector, told } = await watching()
  watch.event('MODIFIED', painted('a', 11, 'blue'))
  watch.event('ADDED', painted('b', 12, 'green'))
  watch.event('DELETED', painted('a', 13, 'blue'))
  assert.equal(told(), ['ns/a: red -> blue', 'ns/b: null -> green', 'ns/a: blue -> null'])
  watch.event('BOOKMARK', object('', 40))
  watch.end()
  await clock.advance(1_000)
  assert.is(client.opened().query.resourceVersion, '40')
  assert.equal(told(), [])
  assert.is(reflector.lists, 1)
  await reflector.close()
})

test('a watch that is cut goes on from its last event, without a list', async () => {
  const { client, clock, watch, reflector, told, lastAsked } = await watching()
  watch.event('ADDED', painted('b', 12, 'green'))
  watch.end(cut())
  await settle()
  assert.match(reflector.problem() ?? '', /the connection was cut/)
  assert.is(reflector.isConnected, false)
  await clock.advance(1_000)
  assert.is(lastAsked(), 'GET /api/v1/pods limit=1')
  client.answer(page(12, []))
  await settle()
  assert.match(lastAsked(), /^WATCH .*resourceVersion=12 /)
  client.opened()
  assert.is(reflector.problem(), null)
  assert.is(reflector.isConnected, true)
  assert.equal(told(), ['ns/b: null -> green'])
  await reflector.close()
})

test('200 with something that is no list empties nothing: it is asked again', async () => {
  const { client, clock, watch, reflector, told } = await watching()
  watch.end(gone())
  await settle()
  await clock.advance(1_000)
  for (const stranger of [
    { items: [] },
    { metadata: {}, items: [] },
    { metadata: { resourceVersion: '9' } },
  ]) {
    client.answer(stranger)
    await settle()
    assert.equal(told(), [])
    assert.match(reflector.problem() ?? '', /GET \/api\/v1\/pods: the answer is no list/)
    await clock.advance(30_000)
  }
  assert.equal([...reflector.entries.keys()], ['ns/a'])
  client.answer(page(20, []))
  await settle()
  assert.equal(told(), ['ns/a: red -> null'])
  await reflector.close()
})

test('a server that was restored to an older state is listed anew: the exact differences', async () => {
  const { client, clock, watch, reflector, told, lastAsked } = await watching()
  watch.event('ADDED', painted('b', 1_012, 'green'))
  told()
  watch.end(cut())
  await clock.advance(1_000)
  client.answer(page(998, [painted('a', 5, 'red')]))
  await settle()
  assert.is(lastAsked(), 'GET /api/v1/pods limit=250')
  client.answer(page(998, [painted('a', 5, 'red'), painted('c', 11, 'blue')]))
  await settle()
  assert.equal(told(), ['ns/b: green -> null', 'ns/c: null -> blue'])
  assert.is(client.opened().query.resourceVersion, '998')
  await reflector.close()
})

test('410 while nobody watched: the exact differences, an object of the same name as another one', async () => {
  const { client, clock, watch, reflector, told } = await watching()
  watch.event('ADDED', painted('same', 11, 'grey'))
  watch.event('ADDED', painted('changed', 12, 'grey'))
  watch.event('ADDED', painted('again', 13, 'grey', 'first'))
  told()
  watch.end(gone())
  await clock.advance(1_000)
  const again = painted('again', 50, 'grey', 'second')
  client.answer(
    page(60, [
      painted('same', 11, 'grey'),
      painted('changed', 55, 'pink'),
      again,
      painted('new', 58, 'white'),
    ]),
  )
  await settle()
  assert.equal(told(), [
    'ns/a: red -> null',
    'ns/changed: grey -> pink',
    'ns/again: grey -> null',
    'ns/again: null -> grey',
    'ns/new: null -> white',
  ])
  assert.is(client.opened().query.resourceVersion, '60')
  assert.is(reflector.lists, 2)
  await reflector.close()
})

test('failures in a row: pauses double up to 30 s, with jitter, and a watch that brings something ends the row', async () => {
  const { client, clock, reflector } = setUp()
  const pauses: number[] = []
  await settle()
  for (let failure = 0; failure < 9; failure++) {
    const requests = client.asked.length
    client.fail(cut())
    await settle()
    let waited = 0
    for (; client.asked.length === requests; waited += 50) await clock.advance(50)
    pauses.push(waited)
  }
  for (const [i, pause] of pauses.entries()) {
    const limit = Math.min(30_000, 500 * 2 ** i)
    assert.ok(pause >= limit / 2 && pause <= limit + 50, `pause ${i}: ${pause} of ${limit}`)
  }
  client.answer(page(10, []))
  await settle()
  const watch = client.opened()
  watch.event('ADDED', painted('a', 11, 'red'))
  const requests = client.asked.length
  watch.end(cut())
  await clock.advance(500)
  assert.is(client.asked.length, requests + 1)
  await reflector.close()
})

test('Retry-After of a server that is asked too much is waited for', async () => {
  const { client, clock, reflector } = setUp()
  await settle()
  client.fail(refused({ ...asked, verb: 'GET' }, 429, 'too many requests', 7_000))
  await clock.advance(6_900)
  assert.is(client.asked.length, 1)
  await clock.advance(200)
  assert.is(client.asked.length, 2)
  await reflector.close()
})

test('watches that end at once and bring nothing are not asked for without pause', async () => {
  const { client, clock, watch, reflector } = await watching()
  watch.end()
  await settle()
  assert.is(client.asked.length, 2)
  await clock.advance(500)
  assert.is(client.asked.length, 3)
  client.opened().end()
  await clock.advance(499)
  assert.is(client.asked.length, 3)
  await clock.advance(501)
  assert.is(client.asked.length, 4)
  await reflector.close()
})

test('nor are those that bring the same each time', async () => {
  const { client, clock, watch, reflector } = await watching()
  for (let each = watch, i = 0; i < 10; i++) {
    each.event('MODIFIED', painted('a', 11, 'blue'))
    each.end()
    await clock.advance(100)
    assert.is(client.asked.length, 2 + i, 'none within 100 ms')
    await clock.advance(400)
    each = client.opened()
  }
  await reflector.close()
})

test('an object that cannot be read is named; its last readable value stays, not that of another of its name', async () => {
  const slim = (read: KubernetesObject) => {
    if (colourOf(read) === 'none') throw new Error('expected a colour')
    return colourOf(read)
  }
  const { watch, reflector, told } = await watching({ slim })
  const colourless = (name: string, version: number, uid?: string) =>
    object(name, version, { namespace: 'ns', ...(uid === undefined ? {} : { uid }) })
  watch.event('MODIFIED', colourless('a', 11))
  assert.is(reflector.entries.get('ns/a'), 'red')
  assert.is(reflector.problem(), '/api/v1/pods: ns/a cannot be read: expected a colour')
  watch.event('MODIFIED', painted('a', 12, 'blue'))
  assert.is(reflector.problem(), null)
  watch.event('MODIFIED', colourless('a', 13, 'other'))
  watch.event('ADDED', colourless('b', 14))
  assert.equal(told(), ['ns/a: red -> blue', 'ns/a: blue -> null'])
  assert.match(reflector.problem() ?? '', /ns\/a cannot be read: expected a colour \(and 1 more\)/)
  watch.event('DELETED', colourless('a', 15, 'other'))
  watch.event('DELETED', colourless('b', 16))
  assert.is(reflector.problem(), null)
  assert.equal(told(), [])
  await reflector.close()
})

test('a listener that throws stops nothing', async () => {
  let calls = 0
  const onChange = () => {
    calls++
    throw new Error('listener')
  }
  const { watch, reflector } = await watching({ onChange })
  watch.event('ADDED', painted('b', 11, 'red'))
  assert.is(calls, 2)
  assert.is(reflector.entries.size, 2)
  await reflector.close()
})

test('closed in the middle of a list, of a watch or of a pause: it ends, and tells nothing more', async () => {
  const listing = setUp()
  await settle()
  const ending = listing.reflector.close()
  listing.client.answer(page(10, [painted('a', 3, 'red')]))
  await ending
  assert.equal(listing.told(), [])

  const followed = await watching()
  await followed.reflector.close()
  followed.watch.event('ADDED', painted('b', 11, 'red'))
  assert.equal(followed.told(), [])

  const pausing = setUp()
  await settle()
  pausing.client.fail(cut())
  await settle()
  const ended = pausing.reflector.close()
  await pausing.clock.advance(60_000)
  await ended
})

test('a page that comes again and again, of a cache before the server, is no list', async () => {
  const { client, reflector, told, lastAsked, clock } = setUp({ pageSize: 1 })
  await settle()
  const cached = page(10, [painted('a', 3, 'red')], 'more')
  client.answer(cached)
  await settle()
  assert.match(lastAsked(), /continue=more/)
  client.answer(cached)
  await settle()
  assert.match(reflector.problem() ?? '', /next page is the same again/)
  assert.equal([told(), client.idle], [[], true])
  await clock.advance(1_000)
  assert.not.match(lastAsked(), /continue/)
  await reflector.close()
})

test.run()
