import { test } from 'uvu'
import * as assert from 'uvu/assert'
import { judgePage, namedInTests, readPage, readTests } from '../../../hack/cni-conformance.ts'

test('docs/cni-conformance.md is true: every requirement on it has the tests it claims, or a reason', () => {
  const { problems } = judgePage(readPage(), namedInTests(readTests()))
  assert.equal(problems, [], `run npx tsx hack/cni-conformance.ts: ${problems.join('; ')}`)
})

const named = namedInTests(
  new Map([
    ['test/unit/b.test.ts', 'CNI-001 CNI-001'],
    ['test/e2e/a.test.ts', 'CNI-001 CNI-002'],
  ]),
)

test('files are named once each, in order', () => {
  assert.equal(named.get('CNI-001'), ['test/e2e/a.test.ts', 'test/unit/b.test.ts'])
})

test('a false claim, a missing test, a missing row and a row twice are found', () => {
  const page = [
    '| CNI-001 | x | e2e/a |',
    '| CNI-009 | y | e2e/a |',
    '| CNI-010 | z |',
    '| CNI-010 | z |',
  ].join('\n')
  const { problems, text } = judgePage(page, named)
  assert.equal(problems, [
    'CNI-001: the page says e2e/a, the tests e2e/a, unit/b',
    'CNI-009: no test names it',
    'CNI-009: the page says e2e/a, the tests ',
    'CNI-010 stands twice',
    'CNI-002: not on the page',
  ])
  assert.match(text, '| CNI-001 | x | e2e/a, unit/b |')
})

test.run()
