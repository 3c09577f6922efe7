/** Conditions: written only when something changed, those of others left alone. */
import { test } from 'uvu'
import * as assert from 'uvu/assert'
import { type Condition, mergedConditions, type Wanted } from '../../../../daemon/kubernetes/conditions.ts'

const OWN = ['Accepted', 'Draining']
const options = { own: OWN, generation: 2, now: 'now' }
const accepted: Wanted = { type: 'Accepted', status: 'True', reason: 'Entered', message: 'm' }
const before: Condition = { ...accepted, observedGeneration: 2, lastTransitionTime: 'then' }
const theirs: Condition = { ...before, type: 'Backup' }

test('nothing is written where nothing changed, whatever the order', () => {
  assert.is(mergedConditions([before, theirs], [accepted], options), null)
  assert.is(mergedConditions([theirs], [], options), null)
})

test('the time is that of the last change of status', () => {
  const reworded = mergedConditions([before], [{ ...accepted, message: 'n' }], options)
  assert.equal(reworded, [{ ...before, message: 'n' }])
  const refused = mergedConditions([before], [{ ...accepted, status: 'False' }], options)
  assert.equal(refused, [{ ...before, status: 'False', lastTransitionTime: 'now' }])
  assert.equal(mergedConditions([], [accepted], options), [{ ...before, lastTransitionTime: 'now' }])
})

test('what the definition says of one that nobody has come to yet is not when a daemon said it', () => {
  const { observedGeneration, ...byDefault } = before
  assert.equal(mergedConditions([byDefault], [accepted], options), [{ ...before, lastTransitionTime: 'now' }])
})

test('another generation is a change', () => {
  const older = { ...before, observedGeneration: 1 }
  assert.equal(mergedConditions([older], [accepted], options), [before])
})

test('of ours what is no longer wanted goes; of others nothing', () => {
  const draining: Condition = { ...before, type: 'Draining' }
  assert.equal(mergedConditions([theirs, draining, before], [accepted], options), [theirs, before])
})

test('a message is no longer than the definition lets it be', () => {
  const [condition] = mergedConditions([], [{ ...accepted, message: 'x'.repeat(40_000) }], options) ?? []
  assert.is(condition?.message.length, 32_768)
})

test.run()
