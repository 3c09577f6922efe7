import { test } from 'uvu'
import * as assert from 'uvu/assert'
import { z } from 'zod'
import { MemoryCluster } from '../../../datastore/memory/cluster.ts'
import { MemoryStore } from '../../../datastore/memory/store.ts'
import { Mirror, type MirrorChange } from '../../../datastore/mirror.ts'
import { recordParser } from '../../../datastore/record.ts'
import { systemClock } from '../../../lib/clock.ts'
import { silentLog } from '../../../lib/log.ts'

interface Thing {
  readonly v: 1
  readonly n: number
}

const parse = recordParser(z.object({ v: z.literal(1), n: z.number() }))
const text = (n: number) => JSON.stringify({ v: 1, n })
const settle = () => new Promise(resolve => setImmediate(resolve))

function setUp() {
  const cluster = new MemoryCluster()
  const store = new MemoryStore({}, { cluster, clock: systemClock })
  const told: string[] = []
  const number = (entry: MirrorChange<Thing>['before']) => (entry === null ? '-' : String(entry.value.n))
  const mirror = new Mirror<Thing>(
    {
      prefix: 'things/',
      parse,
      onChange: changes => {
        for (const { key, before, after } of changes) told.push(`${key} ${number(before)}>${number(after)}`)
      },
      onAside: record => told.push(`${record.key} ${record.problem}`),
    },
    { store, log: silentLog },
  )
  const put = (key: string, value: string | null) =>
    cluster.commit({ key, expected: cluster.get(key)?.modRevision ?? 0, value })
  return { cluster, store, mirror, told, put }
}

test('what is there, then what changes', async () => {
  const { mirror, told, put } = setUp()
  put('things/a', text(1))
  put('other/a', text(9))
  await mirror.synced()
  put('things/a', text(2))
  put('things/b', text(3))
  put('things/a', null)
  await settle()
  assert.equal(told, ['things/a ->1', 'things/a 1>2', 'things/b ->3', 'things/a 2>-'])
  assert.equal([...mirror.entries], [['things/b', { value: { v: 1, n: 3 }, modRevision: 5 }]])
  assert.is(mirror.revision, 6)
  assert.ok(mirror.connected)
})

test('a change says whether the watch has shown all that came before it', async () => {
  const { cluster, store, mirror, put } = setUp()
  put('things/a', text(1))
  await mirror.synced()
  const told: string[] = []
  mirror.subscribe(changes => told.push(...changes.map(({ key, gapless }) => `${key} ${gapless}`)))
  put('things/a', text(2))
  put('things/a', null)
  put('things/b', text(1))
  put('things/b', 'damaged')
  put('things/b', null)
  put('things/c', text(1))
  await settle()
  const events = ['things/a true', 'things/a true', 'things/b true', 'things/b false', 'things/c true']
  assert.equal(told.splice(0), ['things/a false', ...events])
  store.setUnavailable(true)
  await settle()
  put('things/c', null)
  put('things/d', text(1))
  cluster.compact()
  store.setUnavailable(false)
  while (told.length < 2) await settle()
  assert.equal(told, ['things/c false', 'things/d false'])
})

test('who subscribes while another is told hears of each record once', async () => {
  const { mirror, put } = setUp()
  await mirror.synced()
  const heard: string[] = []
  let calls = 0
  mirror.subscribe(() => {
    if (calls++ === 0) mirror.subscribe(changes => heard.push(...changes.map(({ key }) => key)))
  })
  put('things/a', text(1))
  await settle()
  assert.equal(heard, ['things/a'])
})

test('a snapshot after compaction is told as exact differences', async () => {
  const { cluster, store, mirror, told, put } = setUp()
  for (const key of ['same', 'changed', 'deleted']) put(`things/${key}`, text(1))
  await mirror.synced()
  told.length = 0
  store.setUnavailable(true)
  await settle()
  assert.not(mirror.connected)
  put('things/changed', text(2))
  put('things/deleted', null)
  put('things/new', text(4))
  cluster.compact()
  store.setUnavailable(false)
  await settle()
  assert.equal(told, ['things/deleted 1>-', 'things/changed 1>2', 'things/new ->4'])
})

test('a restored store that reuses a revision for another value is noticed', async () => {
  const { cluster, store, mirror, told, put } = setUp()
  const backup = cluster.snapshot()
  put('things/a', text(1))
  await mirror.synced()
  store.setUnavailable(true)
  await settle()
  cluster.restore(backup)
  put('things/a', text(7))
  store.setUnavailable(false)
  await settle()
  assert.equal(told, ['things/a ->1', 'things/a 1>7'])
  assert.is(mirror.revision, 2)
})

test('a damaged or newer record is set aside, told once, and the last readable value stays', async () => {
  const { cluster, store, mirror, told, put } = setUp()
  put('things/a', text(1))
  await mirror.synced()
  put('things/a', '{"v":1,"n":')
  put('things/b', '{"v":2,"n":"words"}')
  put('things/c', '{"v":1,"n":"words"}')
  await settle()
  assert.equal(told, ['things/a ->1', 'things/a damaged', 'things/b newer', 'things/c damaged'])
  assert.equal(mirror.entries.get('things/a'), { value: { v: 1, n: 1 }, modRevision: 2 })
  assert.match(mirror.aside.get('things/c')?.reason ?? '', /things\/c is damaged: n: /)
  store.setUnavailable(true)
  await settle()
  cluster.compact()
  put('things/b', text(5))
  cluster.compact()
  store.setUnavailable(false)
  await settle()
  assert.equal(told.slice(4), ['things/b ->5'])
  assert.equal([...mirror.aside.keys()].sort(), ['things/a', 'things/c'])
  put('things/a', null)
  put('things/c', null)
  await settle()
  assert.equal(told.slice(5), ['things/a 1>-'])
  assert.is(mirror.aside.size, 0)
})

test('who subscribes late is told of what is there, then of changes, until it ends', async () => {
  const { mirror, told, put } = setUp()
  put('things/a', text(1))
  await mirror.synced()
  const heard: string[] = []
  const end = mirror.subscribe(changes => {
    for (const { key, before, after } of changes)
      heard.push(`${key} ${before?.value.n ?? '-'}>${after?.value.n ?? '-'}`)
  })
  assert.equal(heard, ['things/a ->1'])
  put('things/a', text(2))
  await settle()
  end()
  put('things/b', text(3))
  await settle()
  assert.equal(heard, ['things/a ->1', 'things/a 1>2'])
  assert.equal(told, ['things/a ->1', 'things/a 1>2', 'things/b ->3'])
})

test('a listener that throws does not stop the mirror', async () => {
  const cluster = new MemoryCluster()
  const store = new MemoryStore({}, { cluster, clock: systemClock })
  const onChange = () => {
    throw new Error('listener')
  }
  const mirror = new Mirror<Thing>({ prefix: '', parse, onChange }, { store, log: silentLog })
  cluster.commit({ key: 'a', expected: 0, value: text(1) })
  await mirror.synced()
  cluster.commit({ key: 'b', expected: 0, value: text(1) })
  await settle()
  assert.is(mirror.entries.size, 2)
})

test.run()
