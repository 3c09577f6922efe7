import { test } from 'uvu'
import * as assert from 'uvu/assert'
import { elapsedMs, inTerm } from '../../../ipam/term.ts'

const then = { boot: 'b', boottimeMs: 1000, realtimeMs: 50_000 }
const after = (boot: number, real: number) => ({
  boot: 'b',
  boottimeMs: 1000 + boot,
  realtimeMs: 50_000 + real,
})

test('rule 7: whichever clock says that more time passed', () => {
  assert.is(elapsedMs(then, after(10, 5)), 10)
  assert.is(elapsedMs(then, after(5, 10)), 10)
  assert.is(elapsedMs(then, after(5, -10_000)), 5)
})

test('rule 7: after a reboot, and without confirmation, there is no term', () => {
  assert.not(inTerm(then, { ...after(1, 1), boot: 'c' }, 1000))
  assert.not(inTerm(null, then, 1000))
})

test('rule 8: the term ends with the allowance', () => {
  assert.ok(inTerm(then, after(999, 999), 1000))
  assert.not(inTerm(then, after(1000, 0), 1000))
})

test.run()
