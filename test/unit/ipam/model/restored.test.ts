/**
 * Random histories in which the store is put back to an older state as well (rule 16). After every step the invariants, but
 * for parts that a node without memory claimed before anybody could mark the store; at the end those, too.
 */
import { test } from 'uvu'
import { playMany } from './history.ts'
import { anyStepWithRestore } from './steps.ts'
import { SMALL } from './world.ts'

test('a store that was restored: no address is held twice, none is lost', () =>
  playMany({ layout: SMALL, step: anyStepWithRestore, runs: 1100, steps: { minLength: 4, maxLength: 14 } }))

test.run()
