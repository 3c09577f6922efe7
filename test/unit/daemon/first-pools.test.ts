/** Pools of the configuration: the first of a cluster, whoever starts when, and however long the store stays away. */
import { test } from 'uvu'
import * as assert from 'uvu/assert'
import { ensureFirstPoolsLater } from '../../../daemon/node/first-pools.ts'
import { MemoryCluster } from '../../../datastore/memory/cluster.ts'
import { MemoryStore } from '../../../datastore/memory/store.ts'
import { type Vital, vitalOf } from '../../../ipam/covered.ts'
import { listPools } from '../../../ipam/pools.ts'
import { TwillError } from '../../../lib/errors.ts'
import { silentLog } from '../../../lib/log.ts'
import { ManualClock, SeededRandom } from '../../fixtures/manual-clock.ts'
import { pool } from '../ipam/rig.ts'
import { node } from './cluster-facts.ts'

const FIRST = [{ name: 'v4', spec: pool('v4', '10.0.0.0/16').spec }]

/** A daemon that sees the pools `seen`; `away`: its store refuses writes. */
function setUp(seen: readonly unknown[] = []) {
  const clock = new ManualClock()
  const memory = new MemoryCluster()
  const store = new MemoryStore({}, { cluster: memory, clock })
  const state = { away: false, tried: 0, synced: Promise.resolve() }
  const commit = store.commit.bind(store)
  store.commit = request => {
    state.tried++
    if (!state.away) return commit(request)
    return Promise.reject(new TwillError('store.unavailable', 'away', {}, { retryable: true }))
  }
  const warned: string[] = []
  const told: (string | null)[] = []
  const living: Vital[] = []
  const log = { ...silentLog, warn: (_: object, message: string) => void warned.push(message) }
  const cluster = { synced: () => state.synced, pools: () => seen as never }
  const begin = (first: typeof FIRST = FIRST) =>
    ensureFirstPoolsLater(first, {
      ...{ store, cluster, clock, random: new SeededRandom(1), log },
      ...{ vitals: () => living, refused: (why: string | null) => void told.push(why) },
    })
  const names = async () => (await listPools(store)).map(pool => pool.metadata.name)
  return { clock, memory, state, warned, told, living, begin, names }
}

test('they are written once the cluster is known, and not before', async () => {
  const { clock, state, begin, names } = setUp()
  let known = () => {}
  state.synced = new Promise(resolve => {
    known = resolve
  })
  const done = begin()
  await clock.advance(60_000)
  assert.equal([await names(), state.tried], [[], 0])
  known()
  await done
  assert.equal(await names(), ['v4'])
})

test('a cluster that has pools gets none, nor does one whose configuration names none', async () => {
  const other = setUp([{ metadata: { name: 'other' } }])
  await other.begin()
  const none = setUp()
  none.state.synced = new Promise(() => {})
  await none.begin([])
  for (const { state } of [other, none]) assert.is(state.tried, 0)
})

test('a store that is away is asked less and less often, and has them when it is back', async () => {
  const { clock, state, warned, begin, names } = setUp()
  state.away = true
  const done = begin()
  await clock.advance(10 * 60_000)
  assert.ok(state.tried > 20 && state.tried < 50, `${state.tried} in ten minutes`)
  assert.is(warned.length, state.tried, 'each said')
  state.away = false
  await clock.advance(30_000)
  await done
  assert.equal(await names(), ['v4'])
})

test('one over what this node lives by, or over an address of another node, is refused and told until that is mended', async () => {
  const { clock, memory, told, living, begin, names } = setUp()
  living.push(...vitalOf('10.0.3.4', 'the next hop of a default route'))
  const register = (address: string) => {
    const value = JSON.stringify(node(2, { underlay: { 4: address } }))
    memory.commit({ key: 'nodes/node2', expected: memory.get('nodes/node2')?.modRevision ?? 0, value })
  }
  register('10.0.5.6')
  const done = begin()
  await clock.advance(60_000)
  assert.equal(await names(), [])
  assert.is(told.at(-1), 'IPPool v4 (10.0.0.0/16) covers 10.0.5.6, the address of node node2')
  register('10.9.5.6')
  await clock.advance(60_000)
  assert.is(told.at(-1), 'IPPool v4 (10.0.0.0/16) covers 10.0.3.4, the next hop of a default route')
  living.length = 0
  await clock.advance(60_000)
  await done
  assert.equal([await names(), told.at(-1)], [['v4'], null])
})

test.run()
