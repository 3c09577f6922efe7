/** Which files a run of tests takes, and how long each may. */
import { test } from 'uvu'
import * as assert from 'uvu/assert'
import { findSuites, type Suite } from '../../../hack/testing/suites.ts'

const suiteOf = (argument: string): Suite => findSuites([argument])[0] as Suite

test('a file of Kubernetes has more time than others, alone or with its folder', () => {
  const usual = suiteOf('test/unit').timeoutMs
  const [file] = suiteOf('test/kubernetes').files
  for (const argument of ['test/kubernetes', file as string]) assert.ok(suiteOf(argument).timeoutMs > usual)
  assert.is(suiteOf('test/integration').timeoutMs, usual)
})

test('a name that matches nothing is a suite without files', () => {
  assert.equal(suiteOf('test/no-such').files, [])
  assert.equal(suiteOf('hack/setup').files, [])
})

test.run()
