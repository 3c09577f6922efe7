/**
 * Random histories of a small cluster: pods come and go, nodes fill the pool and ask each other for what is left, daemons
 * are killed and started, machines reboot, stand still, are cut off, removed by name, replaced and cloned, journals are
 * lost, commits are lost, land, or land late. After every step the invariants of ADDRESSES.md; at the end, when all is
 * well again, nothing may be lost, and every address that is free anywhere goes out to whoever needs it.
 */
import { test } from 'uvu'
import { playMany } from './history.ts'
import { anyStep } from './steps.ts'
import { SMALL } from './world.ts'

test('no address is held twice, none leaves its pool, none is lost', () =>
  playMany({ layout: SMALL, step: anyStep, runs: 1700, steps: { minLength: 4, maxLength: 16 } }))

test.run()
