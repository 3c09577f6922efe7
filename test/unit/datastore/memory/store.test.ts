import { test } from 'uvu'
import * as assert from 'uvu/assert'
import { MemoryCluster } from '../../../../datastore/memory/cluster.ts'
import { MemoryStore } from '../../../../datastore/memory/store.ts'
import type { WatchMessage } from '../../../../datastore/store.ts'
import { systemClock } from '../../../../lib/clock.ts'
import { isTwillError, type TwillError } from '../../../../lib/errors.ts'

function setUp() {
  const cluster = new MemoryCluster()
  const open = () => new MemoryStore({}, { cluster, clock: systemClock })
  return { cluster, store: open(), other: open() }
}

const settle = () => new Promise(resolve => setImmediate(resolve))
const rejection = (promise: Promise<unknown>): Promise<TwillError> =>
  promise.then(
    () => assert.unreachable('expected a rejection'),
    error => error,
  )

test('a commit in doubt that landed is there, a lost one is not', async () => {
  const { store, other } = setUp()
  store.doubtNext('landed')
  store.doubtNext('lost')
  const landed = await rejection(store.commit({ key: 'a', expected: 0, value: '1' }))
  const lost = await rejection(store.commit({ key: 'b', expected: 0, value: '1' }))
  assert.is(landed.code, 'store.in-doubt')
  assert.ok(landed.retryable)
  assert.is(lost.code, 'store.in-doubt')
  assert.is((await other.get('a')).entry?.value, '1')
  assert.is((await other.get('b')).entry, null)
})

test('a late commit lands after a read that did not see it, unless another commit came between', async () => {
  const { store, other } = setUp()
  store.doubtNext('late', 'b')
  store.doubtNext('late', 'a')
  await rejection(store.commit({ key: 'a', expected: 0, value: 'late' }))
  await rejection(store.commit({ key: 'b', expected: 0, value: 'late' }))
  assert.is((await store.get('a')).entry, null)
  await other.commit({ key: 'b', expected: 0, value: 'first' })
  assert.equal(
    store.landLate().map(outcome => outcome.committed),
    [true, false],
  )
  assert.is((await store.get('a')).entry?.value, 'late')
  assert.is((await store.get('b')).entry?.value, 'first')
})

test('an unavailable store rejects, changes nothing, and its watch goes on where it was', async () => {
  const { store, other } = setUp()
  const messages: WatchMessage[] = []
  store.watch('', message => messages.push(message))
  await settle()
  store.setUnavailable(true)
  await settle()
  assert.is((await rejection(store.commit({ key: 'a', expected: 0, value: '1' }))).code, 'store.unavailable')
  await other.commit({ key: 'x', expected: 0, value: '1' })
  await other.commit({ key: 'x', expected: 2, value: null })
  await settle()
  assert.equal(
    messages.map(message => message.type),
    ['connection', 'snapshot', 'connection'],
  )
  store.setUnavailable(false)
  await settle()
  const last = messages.at(-1)
  assert.equal(last?.type === 'events' && last.events, [
    { key: 'x', value: '1', modRevision: 2 },
    { key: 'x', value: null, modRevision: 3 },
  ])
})

test('compaction while away, and a restored snapshot, each bring a snapshot', async () => {
  const { cluster, store, other } = setUp()
  const messages: WatchMessage[] = []
  await other.commit({ key: 'x', expected: 0, value: '1' })
  const backup = cluster.snapshot()
  store.watch('', message => messages.push(message))
  await settle()
  store.setUnavailable(true)
  await settle()
  await other.commit({ key: 'x', expected: 2, value: null })
  cluster.compact()
  store.setUnavailable(false)
  await settle()
  assert.equal(messages.at(-1), { type: 'snapshot', entries: [], revision: 3 })
  assert.is(store.status().lastRevision, 3)
  cluster.restore(backup)
  await settle()
  assert.equal(messages.at(-1), {
    type: 'snapshot',
    entries: [{ key: 'x', value: '1', modRevision: 2 }],
    revision: 2,
  })
  assert.is(store.status().lastRevision, 3)
  assert.is((await store.get('x')).revision, 2)
})

test('changes elsewhere, and their compaction, leave a watch where it is', async () => {
  const { cluster, store, other } = setUp()
  const messages: WatchMessage[] = []
  store.watch('a/', message => messages.push(message))
  await settle()
  for (const key of ['b/1', 'b/2', 'b/3']) await other.commit({ key, expected: 0, value: '1' })
  cluster.compact()
  await other.commit({ key: 'a/x', expected: 0, value: '1' })
  await settle()
  assert.equal(messages.at(-1), {
    type: 'events',
    events: [{ key: 'a/x', value: '1', modRevision: 5 }],
    revision: 5,
  })
})

test('a list is in the order of bytes, also of keys that came and went since the last', async () => {
  const { cluster, other } = setUp()
  const keys = () => cluster.list('k/').map(({ key }) => key)
  // In UTF-16, as strings compare, the second is less than the first.
  for (const key of ['k/\uFFFD', 'k/\u{1F600}', 'j', 'l'])
    await other.commit({ key, expected: 0, value: '1' })
  assert.equal(keys(), ['k/\uFFFD', 'k/\u{1F600}'])
  await other.commit({ key: 'k/a', expected: 0, value: '1' })
  assert.equal(keys(), ['k/a', 'k/\uFFFD', 'k/\u{1F600}'])
  await other.commit({ key: 'k/\uFFFD', expected: 2, value: null })
  assert.equal(keys(), ['k/a', 'k/\u{1F600}'])
})

test('a closed store rejects for good', async () => {
  const { store } = setUp()
  await store.close()
  const error = await rejection(store.get('x'))
  assert.ok(isTwillError(error, 'store.unavailable') && !error.retryable)
})

test.run()
