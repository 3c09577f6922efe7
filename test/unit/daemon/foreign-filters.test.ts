/** Rules of others in the way: seen at once, looked for again and again, and a look that fails forgets nothing. */
import { test } from 'uvu'
import * as assert from 'uvu/assert'
import { ForeignFilters } from '../../../daemon/foreign-filters.ts'
import type { KernelEvent } from '../../../kernel/kernel.ts'
import { silentLog } from '../../../lib/log.ts'
import { ManualClock, settle } from '../../fixtures/manual-clock.ts'

const DROPPING = { table: 'inet filter', chain: 'forward', hook: 'forward', reason: 'policy drop' }
type Found = (typeof DROPPING)[]

/** Looks end when the test says so. */
async function setUp(everyMs = 1000) {
  const clock = new ManualClock()
  const looks: { end: (found: Found) => void; fail: (error: Error) => void }[] = []
  const warned: object[] = []
  const state = { tell: (_event: KernelEvent) => {}, closed: false }
  const filters = new ForeignFilters(
    { everyMs },
    {
      clock,
      kernel: {
        readForeignFilters: () => new Promise((end, fail) => looks.push({ end, fail })),
        watch(listener) {
          state.tell = listener
          return {
            async close() {
              state.closed = true
            },
          }
        },
      },
      log: { ...silentLog, warn: data => void warned.push(data) },
    },
  )
  filters.start()
  await settle()
  return { clock, looks, warned, filters, state }
}

test('looked for at the start and at each resync', async () => {
  const { clock, looks, filters } = await setUp()
  assert.equal(filters.found, [])
  looks[0]?.end([DROPPING])
  await settle()
  assert.equal(filters.found, [DROPPING])
  await clock.advance(1000)
  assert.is(looks.length, 2)
  assert.equal(filters.found, [DROPPING], 'while it looks')
  looks[1]?.end([])
  await settle()
  assert.equal(filters.found, [])
})

test('a look that fails is said, forgets nothing and is not the last', async () => {
  const { clock, looks, warned, filters } = await setUp()
  looks[0]?.fail(new Error('no'))
  await settle()
  assert.equal(warned, [{ error: 'no' }])
  await clock.advance(1000)
  looks[1]?.end([DROPPING])
  await clock.advance(1000)
  looks[2]?.fail(new Error('again'))
  await settle()
  assert.equal([filters.found, warned.length], [[DROPPING], 2])
  await clock.advance(1000)
  assert.is(looks.length, 4)
})

test('the end waits for a look under way, the first too, and begins none', async () => {
  for (const advanceMs of [0, 1000]) {
    const { clock, looks, filters } = await setUp()
    if (advanceMs > 0) looks[0]?.end([])
    await clock.advance(advanceMs)
    let stopped = false
    const stop = filters.stop().then(() => {
      stopped = true
    })
    await clock.advance(5000)
    assert.not.ok(stopped)
    looks.at(-1)?.end([DROPPING])
    await stop
    const { length } = looks
    await clock.advance(5000)
    assert.is(looks.length, length)
  }
})

test('looked for again when somebody changes nftables, once for many changes, and not for what is ours', async () => {
  const { clock, looks, filters, state } = await setUp(60_000)
  looks[0]?.end([DROPPING])
  const changed = (domain: 'netfilter' | 'link', own = false): KernelEvent => ({
    type: 'changed',
    domain,
    own,
  })
  for (const event of [changed('netfilter', true), changed('link')]) state.tell(event)
  await clock.advance(10_000)
  assert.is(looks.length, 1)
  for (let i = 0; i < 20; i++) {
    state.tell(changed('netfilter'))
    await clock.advance(100)
  }
  await clock.advance(1_000)
  assert.is(looks.length, 2)
  state.tell({ type: 'overflow' })
  await clock.advance(3_000)
  assert.is(looks.length, 2, 'one look at a time')
  looks[1]?.end([])
  await settle()
  assert.equal([filters.found, looks.length], [[], 3])
  looks[2]?.end([DROPPING])
  await settle()
  assert.equal(filters.found, [DROPPING])
  state.tell(changed('netfilter'))
  await filters.stop()
  await clock.advance(10_000)
  assert.equal([state.closed, looks.length], [true, 3])
})

test('a look that takes long is not begun again soon', async () => {
  const { clock, looks, state } = await setUp(3_600_000)
  await clock.advance(1_000)
  looks[0]?.end([])
  await settle()
  state.tell({ type: 'overflow' })
  await clock.advance(49_000)
  assert.is(looks.length, 1)
  await clock.advance(1_000)
  assert.is(looks.length, 2)
})

test.run()
