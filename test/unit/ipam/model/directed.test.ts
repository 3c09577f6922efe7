/** Histories that chance brings about too rarely, each for the rule that it shows. */
import { test } from 'uvu'
import { history } from './history.ts'
import { SMALL } from './world.ts'

const MINUTE = 60_000

test('rule 11: a fence that was lifted frees nothing while its owner is away for another while', () =>
  history(SMALL, 0, [
    { t: 'burst', node: 0 },
    { t: 'cut', node: 0, cut: true },
    { t: 'remove', node: 0 },
    { t: 'time', ms: 5 * MINUTE },
    { t: 'cut', node: 0, cut: false },
    { t: 'time', ms: 5 * MINUTE },
    { t: 'cut', node: 0, cut: true },
    { t: 'time', ms: 6 * MINUTE },
    { t: 'hoard', node: 1, heir: 2 },
  ]))

test('rule 4: a gift in doubt, settled in the next life, takes no effect when it lands after all', () =>
  history(SMALL, 0, [
    { t: 'burst', node: 0 },
    { t: 'time', ms: 5000 },
    { t: 'leave', node: 0 },
    { t: 'doubt', node: 0, doubt: 'late', slot: 0 },
    { t: 'doubt', node: 0, doubt: 'late', slot: 1 },
    { t: 'doubt', node: 0, doubt: 'late', slot: 2 },
    { t: 'doubt', node: 0, doubt: 'late', slot: 3 },
    { t: 'time', ms: 65_000 },
    { t: 'kill', node: 0 },
    { t: 'start', node: 0 },
    { t: 'hoard', node: 0, heir: 0 },
    { t: 'land' },
    { t: 'hoard', node: 1, heir: 1 },
  ]))

test('rule 7: a clock that is set back makes no term longer', () =>
  history(SMALL, 0, [
    { t: 'burst', node: 0 },
    { t: 'cut', node: 0, cut: true },
    { t: 'remove', node: 0 },
    { t: 'clock', node: 0, ms: -60 * MINUTE },
    { t: 'time', ms: 16 * MINUTE },
    { t: 'hoard', node: 1, heir: 1 },
    { t: 'add', node: 0, pod: 0 },
    { t: 'add', node: 0, pod: 1 },
  ]))

test('rule 7: no term outlasts a reboot, whatever the clocks say', () =>
  history(SMALL, 0, [
    { t: 'burst', node: 0 },
    { t: 'time', ms: 5000 },
    { t: 'cut', node: 0, cut: true },
    { t: 'remove', node: 0 },
    { t: 'clock', node: 0, ms: -60 * MINUTE },
    { t: 'reboot', node: 0 },
    { t: 'start', node: 0 },
    { t: 'time', ms: 16 * MINUTE },
    { t: 'hoard', node: 1, heir: 1 },
    { t: 'hoard', node: 0, heir: 0 },
  ]))

test.run()
