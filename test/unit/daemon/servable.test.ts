import { test } from 'uvu'
import * as assert from 'uvu/assert'
import { servableBy } from '../../../daemon/attach/servable.ts'
import { systemClock } from '../../../lib/clock.ts'

function bed() {
  let nowMs = 0
  const state = { rulesStanding: true, failing: new Map<string, string>(), room: true }
  const servable = servableBy({
    room: () => (state.room ? { ok: true } : { ok: false, reason: 'no room' }),
    report: () => state,
    clock: { ...systemClock, boottimeMs: () => nowMs },
  })
  return { state, servable, pass: (ms: number) => (nowMs += ms) }
}

const codeOf = (answer: ReturnType<ReturnType<typeof servableBy>>) => (answer.ok ? 0 : answer.code)

test('0 while addresses are there; 50 without, and before the rules stand (CNI-170, CNI-171)', () => {
  const { state, servable } = bed()
  assert.is(codeOf(servable()), 0)
  state.room = false
  assert.equal(servable(), { ok: false, code: 50, reason: 'no room' })
  state.room = true
  state.rulesStanding = false
  assert.is(codeOf(servable()), 50)
})

test('51 when the data path stays broken, not at the first failure; 0 again when it is mended (CNI-101)', () => {
  const { state, servable, pass } = bed()
  state.failing.set('link twill-vx4', 'no such device')
  assert.is(codeOf(servable()), 0)
  pass(9_000)
  assert.is(codeOf(servable()), 0)
  pass(1_000)
  assert.equal(servable(), { ok: false, code: 51, reason: 'link twill-vx4: no such device' })
  state.failing.clear()
  assert.is(codeOf(servable()), 0)
  state.failing.set('netfilter', 'no')
  assert.is(codeOf(servable()), 0, 'the time counts anew')
})

test('a single route that fails does not take the node out of service', () => {
  const { state, servable, pass } = bed()
  state.failing.set('route 10.0.0.0/26', 'no')
  servable()
  pass(60_000)
  assert.is(codeOf(servable()), 0)
})

test.run()
