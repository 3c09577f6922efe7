/** Random histories like those of small.test.ts, of a cluster that is as small as can be: many more of them. */
import { test } from 'uvu'
import { playMany } from './history.ts'
import { anyStep } from './steps.ts'
import { TINY } from './world.ts'

test('of two nodes: no address is held twice, none leaves its pool, none is lost', () =>
  playMany({ layout: TINY, step: anyStep, runs: 4000, steps: { minLength: 4, maxLength: 14 } }))

test.run()
