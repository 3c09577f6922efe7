/** Pools of the configuration: the first of a cluster, whoever starts when, and however long the store stays away. */
import { test } from 'uvu'
import * as assert from 'uvu/assert'
import { ensureFirstPoolsLater } from '../../../daemon/node/first-pools.ts'
import { MemoryCluster } from '../../../datastore/memory/cluster.ts'
import { MemoryStore } from '../../../datastore/memory/store.ts'
import { listPools } from '../../../ipam/pools.ts'
import { TwillError } from '../../../lib/errors.ts'
import { silentLog } from '../../../lib/log.ts'
import { ManualClock, SeededRandom } from '../../fixtures/manual-clock.ts'
import { pool } from '../ipam/rig.ts'

const FIRST = [{ name: 'v4', spec: pool('v4', '10.0.0.0/16').spec }]

/** A daemon that sees the pools `seen`; `away`: its store refuses writes. */
function setUp(seen: readonly unknown[] = []) {
  const clock = new ManualClock()
  const store = new MemoryStore({}, { cluster: new MemoryCluster(), clock })
  const state = { away: false, tried: 0, synced: Promise.resolve() }
  const commit = store.commit.bind(store)
  store.commit = request => {
    state.tried++
    if (!state.away) return commit(request)
    return Promise.reject(new TwillError('store.unavailable', 'away', {}, { retryable: true }))
  }
  const warned: string[] = []
  const log = { ...silentLog, warn: (_: object, message: string) => void warned.push(message) }
  const cluster = { synced: () => state.synced, pools: () => seen as never }
  const begin = (first: typeof FIRST = FIRST) =>
    ensureFirstPoolsLater(first, { store, cluster, clock, random: new SeededRandom(1), log })
  const names = async () => (await listPools(store)).map(pool => pool.metadata.name)
  return { clock, state, warned, begin, names }
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

test.run()
