/** Random histories like those of restored.test.ts, of two nodes: more of them. */
import { test } from 'uvu'
import { playMany } from './history.ts'
import { anyStepWithRestore } from './steps.ts'
import { TINY } from './world.ts'

test('of two nodes with a store that was restored: no address is held twice, none is lost', () =>
  playMany({ layout: TINY, step: anyStepWithRestore, runs: 2800, steps: { minLength: 4, maxLength: 14 } }))

test.run()
