/** Lists that people read end, however much is wrong. */
import { test } from 'uvu'
import * as assert from 'uvu/assert'
import { capped } from '../../../daemon/capped.ts'
import { statusOf } from '../../../daemon/status.ts'
import { leftText } from '../../../ipam/pool-users.ts'

const damaged = (count: number) =>
  Array.from({ length: count }, (_, i) => ({ type: 'DamagedRecord', message: `record ${i}` }))

test('of each type the first ten and how many more; a single one is not hidden by thousands of others', () => {
  const other = { type: 'Overlay', message: 'no device' }
  const shown = capped([...damaged(5000), other])
  assert.equal(shown, [...damaged(10), other, { type: 'DamagedRecord', message: 'and 4990 more' }])
  assert.equal(capped(damaged(10)), damaged(10))
})

test('status is', () => {
  const parts = {
    ...{ kubernetes: null, conditions: damaged(20), attachments: [], leases: [], ownParts: [] },
    ...{ room: { ok: true }, loop: { converged: true, failing: new Map(), problems: [] }, trouble: null },
    facts: { observation: { underlay: [] }, tunnel: {}, podMtu: () => 1450 },
    cluster: {
      known: true,
      pools: () => [],
      covering: () => [],
      nodes: () => [],
      damaged: () => damaged(30).map(({ message }) => message),
    },
    ...{ node: {}, store: { lastAnswerMs: null }, vxlan: {}, unannounced: null },
  }
  const { conditions } = statusOf(parts as never)
  assert.equal(conditions, [...damaged(10), { type: 'DamagedRecord', message: 'and 40 more' }])
})

test('so is who is in the way of a deleted pool', () => {
  const user = (i: number) => ({ uid: `uid-${i}`, parts: 1, holders: [] })
  const of = (count: number) =>
    leftText(
      Array.from({ length: count }, (_, i) => user(i)),
      new Map(),
    )
  assert.match(of(2_000), /^uid-0: .*; uid-9: [^;]*; and 1990 more nodes$/)
  assert.match(of(11), /; and 1 more node$/)
  assert.not.match(of(10), 'more')
})

test.run()
