/** What a report of ginkgo's comes to: nothing that failed may look as if it had passed, or had not run. */
import { test } from 'uvu'
import * as assert from 'uvu/assert'
import { readReport, summary } from '../../../../hack/upstream/report.ts'

const spec = (leaf: string, state: string, more: object = {}) => ({
  ContainerHierarchyTexts: ['[sig-network] Services'],
  LeafNodeType: 'It',
  LeafNodeText: leaf,
  State: state,
  RunTime: 1_500_000_000,
  ...more,
})
const failure = (message: string) => ({
  Failure: {
    Message: message,
    Location: { FileName: 'k8s.io/kubernetes/test/e2e/network/service.go', LineNumber: 7 },
  },
})
const report = (specs: object[], suite: object = {}) =>
  JSON.stringify([{ SuiteSucceeded: true, SpecialSuiteFailureReasons: null, SpecReports: specs, ...suite }])

test('tests have their whole names, durations in milliseconds, and those out of focus are left out', () => {
  const text = report([spec('b', 'passed'), spec('a', 'passed'), spec('out of focus', 'skipped')])
  assert.equal(readReport(text), [
    { name: '[sig-network] Services a', state: 'passed', durationMs: 1500, message: '' },
    { name: '[sig-network] Services b', state: 'passed', durationMs: 1500, message: '' },
  ])
})

test('every way to end badly is a failure, with its message and place', () => {
  for (const state of ['failed', 'panicked', 'aborted', 'interrupted', 'timedout', 'something new']) {
    const [result] = readReport(report([spec('a', state, failure('no answer'))]))
    assert.is(result?.state, 'failed', state)
    assert.is(result?.message, `${state}: no answer (test/e2e/network/service.go:7)`)
  }
})

test('a test that skips itself is told from one out of focus', () => {
  const [result, ...others] = readReport(report([spec('a', 'skipped', failure('needs a cloud'))]))
  assert.equal(others, [])
  assert.is(result?.state, 'skipped')
  assert.match(result?.message ?? '', /needs a cloud/)
})

test('a set-up of the whole suite counts where it failed, and only there', () => {
  const setUp = { ContainerHierarchyTexts: null, LeafNodeType: 'SynchronizedBeforeSuite' }
  assert.equal(readReport(report([spec('', 'passed', setUp)])), [])
  const [result] = readReport(report([spec('', 'failed', { ...setUp, ...failure('no nodes') })]))
  assert.is(result?.name, '[SynchronizedBeforeSuite]')
  assert.is(result?.state, 'failed')
})

test('a suite that failed as a whole has a failure, although each of its tests passed', () => {
  const suite = { SuiteSucceeded: false, SpecialSuiteFailureReasons: ['Suite Timeout Elapsed'] }
  const results = readReport(report([spec('a', 'passed')], suite))
  assert.is(results.at(-1)?.state, 'failed')
  assert.is(results.at(-1)?.message, 'Suite Timeout Elapsed')
})

test('a report that was cut off is an error', () => {
  assert.throws(() => readReport(report([spec('a', 'passed')]).slice(0, -3)))
})

test('the summary names every test with its time, repeats what failed with why, and closes with the count', () => {
  const text = summary(
    readReport(
      report([
        spec('slow', 'passed', { RunTime: 20_000_000_000 }),
        spec('bad', 'failed', failure('first\nsecond')),
        spec('not here', 'skipped', failure('needs a cloud')),
      ]),
    ),
  )
  assert.is(
    text,
    `  FAIL    1.5 s  [sig-network] Services bad
  skip    1.5 s  [sig-network] Services not here
  ok     20.0 s  [sig-network] Services slow

failed:
[sig-network] Services bad
    failed: first
    second (test/e2e/network/service.go:7)
1 passed, 1 failed, 1 skipped`,
  )
})

test.run()
