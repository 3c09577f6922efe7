import { mkdtemp, rm, utimes, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { test } from 'uvu'
import * as assert from 'uvu/assert'
import { servableBy, troubleOf } from '../../../daemon/attach/servable.ts'
import type { Failure } from '../../../daemon/loop-modules.ts'
import type { Cluster } from '../../../daemon/node/cluster.ts'
import { graceOf } from '../../../daemon/signs.ts'
import { reasonsAgainstServing } from '../../../daemon/status.ts'
import { systemClock } from '../../../lib/clock.ts'

function bed(graceUntilMs = 0) {
  let nowMs = 0
  const state = { rulesStanding: true, failing: new Map<string, Failure>(), room: true }
  const servable = servableBy({
    room: () => (state.room ? { ok: true } : { ok: false, reason: 'no room' }),
    report: () => state,
    clock: { ...systemClock, boottimeMs: () => nowMs },
    graceUntilMs,
  })
  const fail = (object: string, message: string) => state.failing.set(object, { message, sinceMs: nowMs })
  return { state, servable, fail, now: () => nowMs, pass: (ms: number) => (nowMs += ms) }
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

test('a restart says nothing else than before until the rules stand, for as long as the last daemon has credit (CNI-170)', () => {
  const { state, servable, pass } = bed(30_000)
  state.rulesStanding = false
  pass(29_999)
  assert.is(codeOf(servable()), 0)
  pass(1)
  assert.is(codeOf(servable()), 50)
})

test('the credit of the last daemon is what is left of 30 s since its last sign; none without a sign', async () => {
  const folder = await mkdtemp(join(tmpdir(), 'twill-alive-'))
  const path = join(folder, 'alive')
  const clock = { ...systemClock, boottimeMs: () => 1_000_000 }
  assert.ok((await graceOf(path, clock)) < 1_000_000)
  await writeFile(path, '')
  const now = clock.realtimeMs() / 1000
  await utimes(path, now - 10, now - 10)
  const left = (await graceOf(path, clock)) - 1_000_000
  assert.ok(left > 15_000 && left <= 20_001, `${left} ms`)
  await utimes(path, now + 3_600, now + 3_600)
  assert.ok((await graceOf(path, clock)) <= 1_030_000, 'a clock that was set back gives no more')
  await rm(folder, { recursive: true })
})

test('51 when the data path stays broken, not at the first failure; 0 again when it is mended (CNI-101)', () => {
  const { state, servable, fail, pass } = bed()
  fail('link twill-vx4', 'no such device')
  assert.is(codeOf(servable()), 0)
  pass(9_000)
  assert.is(codeOf(servable()), 0)
  pass(1_000)
  assert.equal(servable(), { ok: false, code: 51, reason: 'link twill-vx4: no such device' })
  state.failing.clear()
  assert.is(codeOf(servable()), 0)
  fail('netfilter', 'no')
  assert.is(codeOf(servable()), 0, 'the time counts anew')
})

test('51 also when nobody has asked before', () => {
  const { servable, fail, pass } = bed()
  fail('netfilter', 'no')
  pass(10_000)
  assert.is(codeOf(servable()), 51)
})

test('a node whose data path STATUS takes for broken is not ready, and says the same of it', () => {
  const { servable, state, fail, now, pass } = bed()
  const reasons = () =>
    reasonsAgainstServing({
      loop: { converged: true, rulesStanding: true, failing: state.failing, problems: [] },
      trouble: troubleOf(state, now()),
      room: { ok: true },
      cluster: { known: true } as Cluster,
      store: { connected: true, reason: null, commits: 0, lastRevision: 1, lastAnswerMs: 0 },
    })
  fail('link twill-vx4', 'EEXIST')
  assert.equal([reasons(), servable().ok], [[], true])
  pass(10_000)
  assert.equal(reasons(), ['the data path is broken: link twill-vx4: EEXIST'])
  assert.equal(servable(), { ok: false, code: 51, reason: 'link twill-vx4: EEXIST' })
  state.failing.clear()
  assert.equal([reasons(), servable().ok], [[], true])
})

test('a single route that fails does not take the node out of service', () => {
  const { servable, fail, pass } = bed()
  fail('route 10.0.0.0/26', 'no')
  servable()
  pass(60_000)
  assert.is(codeOf(servable()), 0)
})

test.run()
