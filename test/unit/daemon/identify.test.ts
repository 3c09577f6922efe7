/** Who this node is, asked of a store that stays away: less and less often, and not by all nodes at the same moment. */
import { test } from 'uvu'
import * as assert from 'uvu/assert'
import type { LocalState } from '../../../daemon/local-state.ts'
import { identify } from '../../../daemon/node/identify.ts'
import { MemoryCluster } from '../../../datastore/memory/cluster.ts'
import { MemoryStore } from '../../../datastore/memory/store.ts'
import { TwillError } from '../../../lib/errors.ts'
import { silentLog } from '../../../lib/log.ts'
import { ManualClock, SeededRandom } from '../../fixtures/manual-clock.ts'

const MINUTE = 60_000
const away = (data = {}, cause?: unknown) =>
  new TwillError('store.unavailable', 'away', data, { retryable: true, cause })

/** A node that asks; `node`: as whom its journal knows it. */
function setUp(node: { uid: string; clusterUid: string; name: string } | null, seed = 1) {
  const clock = new ManualClock()
  const store = new MemoryStore({}, { cluster: new MemoryCluster(), clock })
  const beginMs = clock.boottimeMs()
  const askedMs: number[] = []
  const get = store.get.bind(store)
  const state = { error: null as TwillError | null }
  store.get = key => {
    if (state.error !== null) askedMs.push(clock.boottimeMs() - beginMs)
    return state.error === null ? get(key) : Promise.reject(state.error)
  }
  const local = { node, append: async () => {} } as unknown as LocalState
  const config = { nodeName: 'n1', heartbeatInterval: 10_000, offlineAllowance: 60 * MINUTE } as never
  const begin = () =>
    identify({ config, local, store, boot: 'b', log: silentLog }, 'hw', () => {}, {
      clock,
      random: new SeededRandom(seed),
    })
  return { clock, state, askedMs, begin }
}

const pauses = (times: readonly number[]) => times.slice(1).map((at, i) => at - (times[i] ?? 0))

test('a new node: pauses double up to ten seconds, other nodes have others, and it is served when the store is back', async () => {
  const { clock, state, askedMs, begin } = setUp(null)
  state.error = away()
  const identified = begin()
  await clock.advance(5 * MINUTE)
  const waited = pauses(askedMs)
  assert.ok(askedMs.length > 30 && askedMs.length < 60, `${askedMs.length} in five minutes`)
  for (const [i, ms] of waited.entries()) {
    const limit = Math.min(10_000, 500 * 2 ** i)
    assert.ok(ms >= limit / 2 && ms <= limit + 1, `pause ${i}: ${ms} ms`)
  }
  const other = setUp(null, 2)
  other.state.error = away()
  void other.begin()
  await other.clock.advance(MINUTE)
  assert.not.equal(other.askedMs.slice(0, 5), askedMs.slice(0, 5))
  state.error = null
  await clock.advance(10_000)
  assert.ok((await identified).byStore)
})

test('a known node goes on at once and asks in the same way', async () => {
  const { clock, state, askedMs, begin } = setUp({ uid: 'u', clusterUid: 'c', name: 'n1' })
  state.error = away()
  const identified = begin()
  await clock.advance(10 * MINUTE)
  assert.equal([(await identified).uid, (await identified).byStore], ['u', false])
  assert.ok(askedMs.length > 60 && askedMs.length < 120, `${askedMs.length} in ten minutes`)
})

test('a server that says how long to wait, behind the store, is heard', async () => {
  const { clock, state, askedMs, begin } = setUp(null)
  state.error = away({}, new TwillError('kubernetes.unavailable', 'busy', { retryAfterMs: 7_000 }))
  void begin()
  await clock.advance(MINUTE)
  assert.ok(
    pauses(askedMs).every(ms => ms >= 7_000),
    askedMs.join(),
  )
})

test.run()
