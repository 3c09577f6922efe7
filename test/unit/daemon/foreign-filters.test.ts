/** Rules of others in the way: seen at once, looked for again and again, and a look that fails forgets nothing. */
import { test } from 'uvu'
import * as assert from 'uvu/assert'
import { ForeignFilters } from '../../../daemon/foreign-filters.ts'
import { silentLog } from '../../../lib/log.ts'
import { ManualClock, settle } from '../../fixtures/manual-clock.ts'

const DROPPING = { table: 'inet filter', chain: 'forward', hook: 'forward', reason: 'policy drop' }
type Found = (typeof DROPPING)[]

/** Looks end when the test says so. */
function setUp() {
  const clock = new ManualClock()
  const looks: { end: (found: Found) => void; fail: (error: Error) => void }[] = []
  const warned: object[] = []
  const filters = new ForeignFilters(
    { everyMs: 1000 },
    {
      clock,
      kernel: { readForeignFilters: () => new Promise((end, fail) => looks.push({ end, fail })) },
      log: { ...silentLog, warn: data => void warned.push(data) },
    },
  )
  filters.start()
  return { clock, looks, warned, filters }
}

test('looked for at the start and at each resync', async () => {
  const { clock, looks, filters } = setUp()
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
  const { clock, looks, warned, filters } = setUp()
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
    const { clock, looks, filters } = setUp()
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

test.run()
