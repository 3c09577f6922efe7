import { test } from 'uvu'
import * as assert from 'uvu/assert'
import { PACING, Pacing } from '../../../../daemon/apply/pacing.ts'
import { ManualClock } from '../../../fixtures/manual-clock.ts'

test('after failures an object waits ever longer, up to a bound, and not at all after a success', async () => {
  const clock = new ManualClock()
  const pacing = new Pacing(PACING, { clock })
  assert.is(pacing.waitMs('route a'), 0)
  const waits = Array.from({ length: 8 }, () => {
    pacing.failed('route a')
    return pacing.waitMs('route a')
  })
  assert.equal(waits, [100, 200, 400, 800, 1600, 3200, 5000, 5000])
  assert.is(pacing.waitMs('route b'), 0)
  await clock.advance(5000)
  assert.is(pacing.waitMs('route a'), 0)
  pacing.succeeded('route a')
  pacing.failed('route a')
  assert.is(pacing.waitMs('route a'), 100)
})

test('a few repairs are accidents; more within the window are a dispute', async () => {
  const clock = new ManualClock()
  const pacing = new Pacing({ ...PACING, freeRepairs: 2, windowMs: 10_000 }, { clock })
  assert.equal([pacing.repaired('x'), pacing.repaired('x')], [false, false])
  assert.is(pacing.waitMs('x'), 0)
  assert.ok(pacing.repaired('x'))
  assert.is(pacing.waitMs('x'), 1000)
  await clock.advance(1000)
  pacing.repaired('x')
  assert.is(pacing.waitMs('x'), 2000)
})

test('repairs far apart never become a dispute, and what is long past is forgotten', async () => {
  const clock = new ManualClock()
  const pacing = new Pacing({ ...PACING, freeRepairs: 1, windowMs: 10_000 }, { clock })
  for (let i = 0; i < 5; i++) {
    assert.not(pacing.repaired('x'))
    await clock.advance(10_001)
    pacing.forget()
  }
  assert.is(pacing.waitMs('x'), 0)
})

test.run()
