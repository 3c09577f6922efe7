import { test } from 'uvu'
import * as assert from 'uvu/assert'
import { changeRecord, KEEP } from '../../../ipam/change-record.ts'
import { isTwillError } from '../../../lib/errors.ts'
import { Rig } from './rig.ts'

const add = (word: string) => ({
  key: 'k',
  parse: (text: string) => JSON.parse(text) as string[],
  step: (current: string[] | null) => (current?.includes(word) ? KEEP : [...(current ?? []), word]),
})

test('a conflict decides again on what is there now', async () => {
  const rig = new Rig()
  rig.put('k', ['a'])
  const changed = await changeRecord(rig.operator, { ...add('b'), known: { value: null, modRevision: 0 } })
  assert.equal(changed.value, ['a', 'b'])
})

test('nothing to change: nothing is written', async () => {
  const rig = new Rig()
  rig.put('k', ['a'])
  assert.is((await changeRecord(rig.operator, add('a'))).wrote, false)
  assert.is(rig.operator.status().commits, 0)
})

for (const doubt of ['landed', 'lost', 'late'] as const)
  test(`rule 4: a commit in doubt (${doubt}) is settled by a further successful one, even if a read shows it`, async () => {
    const rig = new Rig()
    rig.operator.doubtNext(doubt)
    const changed = await changeRecord(rig.operator, add('a'))
    assert.equal(changed.value, ['a'])
    assert.is(changed.wrote, true)
    assert.is(rig.operator.status().commits, 2)
    assert.ok(rig.operator.landLate().every(outcome => !outcome.committed))
    assert.equal(rig.read('k'), ['a'])
  })

test('rule 4: a creation that may still land is not settled by writing nothing', async () => {
  const rig = new Rig()
  rig.operator.doubtNext('late')
  let calls = 0
  const step = () => (calls++ === 0 ? ['a'] : null)
  const code = await changeRecord(rig.operator, { ...add('a'), step }).then(
    () => 'settled',
    error => isTwillError(error) && error.code,
  )
  assert.is(code, 'store.in-doubt')
})

test('unreachable before anything was sent: nothing changed, and it says so', async () => {
  const rig = new Rig()
  rig.operator.setUnavailable(true)
  const code = await changeRecord(rig.operator, add('a')).then(
    () => 'done',
    error => isTwillError(error) && error.code,
  )
  assert.is(code, 'store.unavailable')
})

test.run()
