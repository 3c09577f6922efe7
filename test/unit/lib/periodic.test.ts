import { test } from 'uvu'
import * as assert from 'uvu/assert'
import { Periodic } from '../../../lib/periodic.ts'
import { ManualClock } from '../../fixtures/manual-clock.ts'

/** Rounds end when the test says so. */
function setUp(random?: { fraction(): number }) {
  const clock = new ManualClock()
  const rounds: { signal: AbortSignal; end: () => void; fail: (error: unknown) => void }[] = []
  const failures: unknown[] = []
  const periodic = new Periodic(
    { everyMs: 100 },
    {
      clock,
      ...(random && { random }),
      work: signal =>
        new Promise((resolve, reject) => {
          rounds.push({ signal, end: resolve, fail: reject })
        }),
      failed: error => failures.push(error),
    },
  )
  periodic.start()
  return { clock, rounds, failures, periodic }
}

test('a pause before each round, counted from the end of the last; never two at once', async () => {
  const { clock, rounds, periodic } = setUp()
  await clock.advance(99)
  assert.is(rounds.length, 0)
  await clock.advance(500)
  assert.is(rounds.length, 1)
  rounds[0]?.end()
  await clock.advance(99)
  assert.is(rounds.length, 1)
  await clock.advance(1)
  assert.is(rounds.length, 2)
  rounds[1]?.end()
  await periodic.stop()
  await clock.advance(500)
  assert.is(rounds.length, 2)
})

test('with chance, a pause is up to half longer', async () => {
  const { clock, rounds, periodic } = setUp({ fraction: () => 0.8 })
  await clock.advance(139)
  assert.is(rounds.length, 0)
  await clock.advance(1)
  assert.is(rounds.length, 1)
  rounds[0]?.end()
  await periodic.stop()
})

test('a round that fails is told, and the next one comes', async () => {
  const { clock, rounds, failures, periodic } = setUp()
  await clock.advance(100)
  rounds[0]?.fail('no')
  await clock.advance(100)
  assert.equal([failures, rounds.length], [['no'], 2])
  rounds[1]?.end()
  await periodic.stop()
})

test('a stop in a round tells it, waits for its end, and what fails for that is no failure', async () => {
  const { clock, rounds, failures, periodic } = setUp()
  await clock.advance(100)
  let stopped = false
  const stopping = periodic.stop().then(() => {
    stopped = true
  })
  await clock.advance(10)
  assert.equal([rounds[0]?.signal.aborted, stopped], [true, false])
  rounds[0]?.fail('cancelled')
  await stopping
  await clock.advance(500)
  assert.equal([failures, rounds.length], [[], 1])
})

test.run()
