/** Histories that failed once, each with what was wrong. */
import { test } from 'uvu'
import { history } from './history.ts'
import { LARGE, SMALL, TINY } from './world.ts'

const MINUTE = 60_000

test('a node whose ledger names past holders reads it after a reboot', () =>
  history(LARGE, 0, [
    { t: 'time', ms: 26 * MINUTE },
    { t: 'add', node: 0, pod: 10 },
    { t: 'del', node: 0, pod: 10 },
    { t: 'oust', node: 1, heir: 0 },
    { t: 'reboot', node: 0 },
    { t: 'start', node: 0 },
  ]))

test('a slot that was lost before its ledger was read can be asked for', () =>
  history(LARGE, 0, [
    { t: 'add', node: 1, pod: 0 },
    { t: 'burst', node: 0 },
    { t: 'add', node: 0, pod: 0 },
    { t: 'reboot', node: 0 },
    { t: 'start', node: 0 },
    { t: 'haunt', node: 0, heir: 0 },
    { t: 'cut', node: 0, cut: false },
    { t: 'clock', node: 0, ms: -3_600_000 },
    { t: 'hoard', node: 0, heir: 0 },
    { t: 'pool', change: 'create' },
    { t: 'clock', node: 0, ms: -3_600_000 },
  ]))

test('two nodes in need do not give each other what cools, to and fro', () =>
  history(SMALL, 0, [
    { t: 'oust', node: 4, heir: 4 },
    { t: 'hoard', node: 1, heir: 5 },
    { t: 'leave', node: 5 },
    { t: 'replace', node: 4, old: 'stands still' },
    { t: 'hoard', node: 3, heir: 0 },
  ]))

test('of a machine that was replaced while it had no part, nothing is left', () =>
  history(SMALL, 0, [
    { t: 'oust', node: 0, heir: 0 },
    { t: 'replace', node: 0, old: 'is cut off' },
    { t: 'forget', node: 3 },
    { t: 'replace', node: 0, old: 'is cut off' },
  ]))

test('of a removed node nothing is left, though who freed its last part died before he was done', () =>
  history(SMALL, 0, [
    { t: 'doubt', node: 2, doubt: 'landed', slot: 4 },
    { t: 'clock', node: 4, ms: 420_000 },
    { t: 'add', node: 4, pod: 0 },
    { t: 'forget', node: 0 },
    { t: 'start', node: 0 },
    { t: 'haunt', node: 0, heir: 0 },
    { t: 'pool', change: 'create' },
    { t: 'cut', node: 0, cut: false },
  ]))

test('a part that a restored store shows larger than it is stays known beside what comes to it', () =>
  history(TINY, 0, [
    { t: 'backup' },
    { t: 'add', node: 1, pod: 0 },
    { t: 'haunt', node: 0, heir: 0 },
    { t: 'start', node: 0 },
    { t: 'doubt', node: 0, doubt: 'landed', slot: null },
    { t: 'del', node: 0, pod: 0 },
    { t: 'restore' },
  ]))

test.run()
