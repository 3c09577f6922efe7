/** When the audit mends: after the grace period, never what has changed meanwhile, and one thing failing stops no other. */
import { test } from 'uvu'
import * as assert from 'uvu/assert'
import { Auditor } from '../../../../daemon/audit/auditor.ts'
import type { NodeFacts } from '../../../../daemon/audit/compare.ts'
import { TwillError } from '../../../../lib/errors.ts'
import { silentLog } from '../../../../lib/log.ts'
import { ManualClock } from '../../../fixtures/manual-clock.ts'
import { agreeing, HOLDER, LEASE, POD } from './facts.ts'

const GONE: NodeFacts['namespaces'] = new Map([['a1', { is: 'gone' }]])
const nothing = { sandboxes: [], addresses: new Map() }
const DEAD = { namespaces: GONE, links: [], routes: [], neighbours: [], runtime: nothing }
const FORGOTTEN = { ...DEAD, attachments: [] }

function bed(first: Partial<NodeFacts>, failing = false) {
  const clock = new ManualClock()
  const deeds: string[] = []
  const state = { facts: agreeing(first), holders: [HOLDER], broken: false, looking: 0, most: 0 }
  const auditor = new Auditor(
    { node: 'node1', everyMs: 300_000, graceMs: 60_000 },
    {
      clock,
      log: silentLog,
      async collect() {
        state.most = Math.max(state.most, ++state.looking)
        await new Promise(resolve => setImmediate(resolve))
        state.looking--
        if (state.broken) throw new TwillError('kernel.failed', 'no')
        return { facts: state.facts, runtime: 'none' }
      },
      attachments: {
        async del(key, before) {
          deeds.push(`del ${key.containerId} ${before}`)
          if (failing) throw new TwillError('kernel.failed', 'busy')
        },
      },
      leases: {
        async del(key, before) {
          deeds.push(`end ${key.containerId} ${before}`)
        },
      },
      ipam: { holders: () => state.holders, release: id => deeds.push(`release ${id}`) },
      metrics: { mended: kind => deeds.push(`mended ${kind}`) },
    },
  )
  return { auditor, clock, deeds, state }
}

test('a check only looks; since is when it was first seen', async () => {
  const { auditor, clock, deeds } = bed(DEAD)
  const first = await auditor.check()
  assert.equal(first.compared, { attachments: 1, addresses: 1 })
  await clock.advance(120_000)
  const second = await auditor.check()
  assert.equal(deeds, [])
  assert.is(first.findings[0]?.since, first.at)
  assert.is(second.findings[0]?.since, first.at)
  assert.equal(
    [first, second].map(({ findings }) => findings[0]?.repair),
    ['later', 'yes'],
  )
})

test('what is dead is detached after the grace period, and only then; what was begun later is not', async () => {
  const { auditor, clock, deeds } = bed(DEAD)
  assert.equal((await auditor.repair(false)).mended, [])
  await clock.advance(59_999)
  assert.equal((await auditor.repair(false)).mended, [])
  await clock.advance(1)
  const { mended } = await auditor.repair(false)
  assert.equal(mended, [{ kind: 'attachment.dead', object: 'eth0 of default/web (c1)', failure: null }])
  assert.equal(deeds, ['del c1 1001', 'mended attachment.dead'])
})

test('a dry run says so and does nothing', async () => {
  const { auditor, clock, deeds } = bed(DEAD)
  await auditor.check()
  await clock.advance(60_000)
  assert.is((await auditor.repair(true)).mended.length, 1)
  assert.equal(deeds, [])
})

test('rule 17: what only the ledger knows is released after the grace period', async () => {
  const { auditor, clock, deeds } = bed(FORGOTTEN)
  await auditor.check()
  await clock.advance(60_000)
  await auditor.repair(false)
  assert.equal(deeds, ['release a1', 'mended holder.only-in-ledger'])
})

test('a dead lease ends after the grace period; one begun later does not', async () => {
  const gone: NodeFacts['namespaces'] = new Map([...agreeing().namespaces, ['l1', { is: 'gone' }]])
  const { auditor, clock, deeds } = bed({ leases: [LEASE], namespaces: gone })
  await auditor.check()
  await clock.advance(60_000)
  await auditor.repair(false)
  assert.equal(deeds, ['end c2 1001', 'mended lease.dead'])
})

test('a dead lease that no runtime can be asked about: ended when a person asks, never by itself', async () => {
  const gone: NodeFacts['namespaces'] = new Map([...agreeing().namespaces, ['l1', { is: 'gone' }]])
  const { auditor, clock, deeds } = bed({
    leases: [{ ...LEASE, pod: null }],
    namespaces: gone,
    inhabited: new Map([['l1', false]]),
  })
  auditor.start()
  for (let i = 0; i < 4; i++) await clock.advance(300_000)
  assert.equal([deeds, auditor.last()?.report.findings.map(({ repair }) => repair)], [[], ['yes']])
  await auditor.repair(false)
  assert.equal(deeds, ['end c2 1001', 'mended lease.dead'])
  await auditor.stop()
})

test('a holder that has other addresses by now keeps them: guarded by the generation', async () => {
  const { auditor, clock, deeds, state } = bed(FORGOTTEN)
  await auditor.check()
  await clock.advance(60_000)
  state.holders = [{ ...HOLDER, addresses: HOLDER.addresses.map(each => ({ ...each, generation: 4 })) }]
  const { mended } = await auditor.repair(false)
  assert.is(mended[0]?.failure, 'it holds something else by now')
  assert.equal(deeds, [])
})

for (const [what, facts] of [
  ['agrees for a moment', agreeing()],
  ['is not proven for a moment: the runtime is silent', agreeing({ ...DEAD, runtime: 'silent' })],
  [
    'is another attachment of the same name',
    agreeing({ ...DEAD, attachments: [{ ...POD, begunBoottimeMs: 2000 }] }),
  ],
] as const)
  test(`the grace period begins again when it ${what}`, async () => {
    const { auditor, clock, deeds, state } = bed(DEAD)
    await auditor.check()
    await clock.advance(59_000)
    const before = state.facts
    state.facts = facts
    await auditor.check()
    state.facts = before
    await clock.advance(59_000)
    await auditor.repair(false)
    assert.equal(deeds, [])
    await clock.advance(60_000)
    await auditor.repair(false)
    assert.ok(deeds.includes('mended attachment.dead'))
  })

test('silence of the runtime does not change since when it was seen', async () => {
  const { auditor, clock, state } = bed(DEAD)
  const first = await auditor.check()
  state.facts = agreeing({ ...DEAD, runtime: 'silent' })
  await clock.advance(1000)
  assert.equal(
    (await auditor.check()).findings.map(({ since, repair }) => [since, repair]),
    [[first.at, 'no']],
  )
})

test('a failure is told with what failed, and tried again', async () => {
  const { auditor, clock, deeds } = bed(DEAD, true)
  await auditor.check()
  await clock.advance(60_000)
  for (let tries = 1; tries <= 2; tries++) {
    assert.is((await auditor.repair(false)).mended[0]?.failure, 'busy')
    assert.is(deeds.length, tries)
  }
})

test('the timer looks and mends by itself; a look that fails is not the last', async () => {
  const { auditor, clock, deeds, state } = bed(DEAD)
  auditor.start()
  assert.is(auditor.last(), null)
  state.broken = true
  await clock.advance(300_000)
  assert.is(auditor.last(), null)
  state.broken = false
  await clock.advance(300_000)
  assert.equal(deeds, [])
  await clock.advance(300_000)
  assert.equal(deeds, ['del c1 1001', 'mended attachment.dead'])
  assert.is(auditor.last()?.ageMs, 0)
  await auditor.stop()
  await clock.advance(600_000)
  assert.is(deeds.length, 2)
})

test('two that ask at once wait for each other', async () => {
  const { auditor, state } = bed(DEAD)
  await Promise.all([auditor.check(), auditor.repair(false), auditor.check()])
  assert.is(state.most, 1)
})

test.run()
