/** Longer random histories of a larger cluster than those of small.test.ts. */
import { test } from 'uvu'
import { playMany } from './history.ts'
import { anyStep } from './steps.ts'
import { LARGE } from './world.ts'

test('no address is held twice, none leaves its pool, none is lost, for long', () =>
  playMany({ layout: LARGE, step: anyStep, runs: 400, steps: { minLength: 10, maxLength: 50 } }))

test.run()
