/** What a restart without the store knows of the cluster: all of what was written, or nothing. */
import { mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { suite } from 'uvu'
import * as assert from 'uvu/assert'
import { Cluster } from '../../../daemon/node/cluster.ts'
import {
  type ClusterSnapshot,
  decodeSnapshot,
  encodeSnapshot,
  type KnownCluster,
  type SnapshotOwner,
} from '../../../daemon/node/snapshot.ts'
import { recallWhenAway, SnapshotFile } from '../../../daemon/node/snapshot-file.ts'
import { recalledCondition } from '../../../daemon/status.ts'
import { RoutedStore } from '../../../datastore/kubernetes/routed.ts'
import { MemoryCluster } from '../../../datastore/memory/cluster.ts'
import { MemoryStore } from '../../../datastore/memory/store.ts'
import type { Store } from '../../../datastore/store.ts'
import { Watched } from '../../../ipam/watched.ts'
import { silentLog } from '../../../lib/log.ts'
import { ManualClock, settle } from '../../fixtures/manual-clock.ts'
import { node, pool } from './cluster-facts.ts'

const test = suite('snapshot of the cluster')
const folder = mkdtempSync(join(tmpdir(), 'twill-snapshot-'))
test.after(() => rmSync(folder, { recursive: true }))

const OWNER: SnapshotOwner = { clusterUid: 'c', nodeUid: 'n', boot: 'b:1' }
const SLOT = 'slots/uid-v4/10.244.1.0-26'

function known(): KnownCluster {
  const slots = new Map([
    [
      SLOT,
      {
        v: 1 as const,
        generation: 2,
        requests: [],
        parts: [{ cidr: '10.244.1.0/26', owner: 'n', generation: 2, claim: 'x', fence: null, cooling: {} }],
      },
    ],
  ])
  return { pools: [pool('v4', '10.244.0.0/16')], nodes: [node(1), node(2)], slots }
}

const snapshot = (): ClusterSnapshot => ({ owner: OWNER, savedAt: 5, ...known() })

let files = 0
function fileWith(content: () => KnownCluster | null, path = join(folder, `snapshot-${files++}`)) {
  const clock = new ManualClock()
  const logged: string[] = []
  const log = { ...silentLog, warn: (_: object, text: string) => void logged.push(text) }
  const file = new SnapshotFile({ path, owner: OWNER }, { clock, log, known: content })
  return { path, clock, file, logged }
}

/** Files are written by real threads, whatever the clock says. */
async function untilThere(path: string, text: (content: string) => boolean): Promise<void> {
  for (let i = 0; i < 1000; i++) {
    try {
      if (text(readFileSync(path, 'utf8'))) return
    } catch {}
    await new Promise(resolve => setTimeout(resolve, 5))
  }
  throw new Error(`${path} is not as expected`)
}

test('what is written is read, whole', () => {
  assert.equal(decodeSnapshot(encodeSnapshot(snapshot())), snapshot())
})

test('damage anywhere is refused: no byte of it is used', () => {
  const text = encodeSnapshot(snapshot())
  const problems = new Set<unknown>()
  for (let at = 0; at < text.length; at += 7)
    for (const bad of [text.slice(0, at), `${text.slice(0, at)}\u0001${text.slice(at + 1)}`])
      try {
        decodeSnapshot(bad)
        throw new Error(`damage at ${at} was not noticed`)
      } catch (error) {
        problems.add((error as { data?: { problem?: unknown } }).data?.problem ?? error)
      }
  assert.equal([...problems], ['damaged'])
})

test('a newer format, and a record that this build cannot read, are refused', () => {
  const newer = encodeSnapshot(snapshot()).replace(/^(\S+) 1 /, '$1 2 ')
  assert.throws(() => decodeSnapshot(newer), /newer: format version 2, this build knows 1/)
  const slots = new Map([[SLOT, { v: 2 }]]) as unknown as KnownCluster['slots']
  assert.throws(() => decodeSnapshot(encodeSnapshot({ ...snapshot(), slots })), /damaged: .*version 2/)
  const gap = new Map([[SLOT.replace('-26', '-25'), known().slots.get(SLOT)]]) as KnownCluster['slots']
  assert.throws(() => decodeSnapshot(encodeSnapshot({ ...snapshot(), slots: gap })), /do not cover/)
})

test('a burst of changes is one write, and the last change is in it', async () => {
  let cluster: KnownCluster | null = null
  const { path, clock, file } = fileWith(() => cluster)
  file.changed()
  await clock.advance(1000)
  assert.throws(() => readFileSync(path), 'nothing is written of what the store has not said')
  for (const count of [0, 1, 2]) {
    cluster = { ...known(), nodes: known().nodes.slice(0, count) }
    file.changed()
  }
  await clock.advance(200)
  await untilThere(path, text => decodeSnapshot(text).nodes.length === 2)
  assert.equal(
    readdirSync(folder).filter(name => name.endsWith('.new')),
    [],
  )
  cluster = { ...known(), nodes: [] }
  file.changed()
  await file.stop()
  assert.is((await file.read())?.nodes.length, 0, 'the last change is written before the daemon ends')
})

test('one that cannot be brought up to date is taken away', async () => {
  const broken = {
    toJSON() {
      throw new Error('disk full')
    },
  } as unknown as KnownCluster['pools'][number]
  let cluster: KnownCluster = known()
  const { path, file, logged } = fileWith(() => cluster)
  file.changed()
  await file.stop()
  assert.ok(readFileSync(path))
  cluster = { ...known(), pools: [broken] }
  const next = fileWith(() => cluster, path)
  next.file.changed()
  await next.file.stop()
  assert.throws(() => readFileSync(path))
  assert.equal([...logged, ...next.logged], ['the snapshot of the cluster could not be written'])
  assert.is(await next.file.read(), null)
})

for (const [what, other] of [
  ['boot', { boot: 'b:2' }],
  ['identity', { nodeUid: 'other' }],
  ['cluster', { clusterUid: 'other' }],
] as const)
  test(`one of another ${what} is not used`, async () => {
    const { path, file } = fileWith(known)
    writeFileSync(path, encodeSnapshot({ ...snapshot(), owner: { ...OWNER, ...other } }))
    assert.is(await file.read(), null)
  })

function restarted() {
  const clock = new ManualClock()
  const store = new MemoryStore({}, { cluster: new MemoryCluster(), clock })
  return { store, ...startedAnew(clock, store) }
}

function startedAnew(clock: ManualClock, store: Store) {
  let changes = 0
  let remember = () => {}
  const cluster = new Cluster({
    store,
    log: silentLog,
    watched: new Watched({}, { store, log: silentLog }),
    changed: () => void changes++,
    vitals: () => [],
    remembered: new Promise(resolve => {
      remember = resolve
    }),
  })
  return { clock, cluster, remember: () => remember(), changes: () => changes }
}

test('while the store is away the snapshot stands in; what the store says replaces all of it', async () => {
  const all = restarted()
  all.store.setUnavailable(true)
  recallWhenAway(4000, { ...all, snapshot: { read: async () => snapshot() }, log: silentLog })
  all.remember()
  await all.clock.advance(3999)
  assert.is(all.cluster.known, false)
  await all.clock.advance(1)
  assert.is(all.cluster.known, true)
  assert.is(all.cluster.complete, false, 'nothing may be deleted')
  assert.equal(all.cluster.recalled, { what: ['pools', 'nodes', 'slots'], savedAt: 5 })
  assert.equal(
    all.cluster.nodes().map(each => each.name),
    ['node1', 'node2'],
  )
  assert.is(all.cluster.told, null, 'a snapshot is never written from a snapshot')
  const before = all.changes()
  all.store.setUnavailable(false)
  for (let i = 0; i < 100 && !all.cluster.complete; i++) await all.clock.advance(100)
  assert.is(all.cluster.complete, true)
  assert.is(all.cluster.recalled, null)
  assert.equal([all.cluster.nodes(), all.cluster.pools(), [...all.cluster.slots()]], [[], [], []])
  assert.ok(all.changes() > before)
  await all.cluster.close()
})

test('where pools are told by another server than the rest, the snapshot stands in for them alone', async () => {
  const clock = new ManualClock()
  const memory = new MemoryCluster()
  for (const each of [node(1), node(3)])
    memory.commit({ key: `nodes/${each.name}`, expected: 0, value: JSON.stringify(each) })
  const storeOf = () => new MemoryStore({}, { cluster: memory, clock })
  const [records, resources] = [storeOf(), storeOf()]
  resources.setUnavailable(true)
  const store = new RoutedStore({ records, resources, onClosed: () => {} })
  const all = startedAnew(clock, store)
  recallWhenAway(4000, { ...all, snapshot: { read: async () => snapshot() }, log: silentLog })
  all.remember()
  await all.clock.advance(4000)
  assert.is(all.cluster.known, true)
  assert.is(all.cluster.complete, false, 'nothing may be deleted')
  const [condition] = recalledCondition(all.cluster.recalled)
  assert.match(condition?.message ?? '', /^not told since the start: pools; .* 1970-01-01T00:00:00.005Z$/)
  assert.equal(
    all.cluster.pools().map(({ metadata }) => metadata.name),
    ['v4'],
  )
  assert.equal(
    all.cluster.nodes().map(({ name }) => name),
    ['node1', 'node3'],
  )
  assert.equal([...all.cluster.slots()], [])
  await all.cluster.close()
})

test('before the journal is whole nothing counts as known; with the store there nothing is recalled', async () => {
  const all = restarted()
  all.cluster.recall(snapshot())
  await settle()
  assert.is(all.cluster.known, false)
  await all.cluster.close()
  const there = restarted()
  let reads = 0
  const read = async () => {
    reads++
    return snapshot()
  }
  recallWhenAway(4000, { ...there, snapshot: { read }, log: silentLog })
  await there.clock.advance(5000)
  assert.is(reads, 0)
  there.cluster.recall(snapshot())
  assert.equal(there.cluster.nodes(), [])
  await there.cluster.close()
})

test.run()
