import { test } from 'uvu'
import * as assert from 'uvu/assert'
import type { Ruleset } from '../../../../kernel/kernel.ts'
import { changeText, elementsChangeBetween, replacementText } from '../../../../kernel/nft/ruleset-text.ts'

const ruleset = (chains: string, sets: Record<string, string[]>): Ruleset => ({
  chains,
  elements: new Map(Object.entries(sets).map(([name, elements]) => [name, new Set(elements)])),
})

test('a replacement is deletion and creation in one', () => {
  const text = replacementText(
    't',
    ruleset('set s {\n  type ipv4_addr\n}\n', { s: ['10.0.0.1', '10.0.0.2'], empty: [] }),
  )
  assert.is(
    text,
    [
      'add table inet t',
      'delete table inet t',
      'table inet t {',
      'set s {',
      '  type ipv4_addr',
      '}',
      '}',
      'add element inet t s { 10.0.0.1, 10.0.0.2 }',
      '',
    ].join('\n'),
  )
})

test('removals come first and forgive absence', () => {
  const text = changeText('t', {
    add: [{ set: 's', element: '10.0.0.1' }],
    remove: [
      { set: 's', element: '10.0.0.2' },
      { set: 's', element: '10.0.0.3' },
    ],
  })
  assert.equal(text.split('\n'), [
    'add element inet t s { 10.0.0.2, 10.0.0.3 }',
    'delete element inet t s { 10.0.0.2, 10.0.0.3 }',
    'add element inet t s { 10.0.0.1 }',
    '',
  ])
})

test('the difference of two rulesets', () => {
  const from = ruleset('c', { s: ['1', '2'], gone: ['4'] })
  assert.equal(elementsChangeBetween(from, ruleset('c', { s: ['2', '3'], gone: [], fresh: ['5'] })), {
    add: [
      { set: 's', element: '3' },
      { set: 'fresh', element: '5' },
    ],
    remove: [
      { set: 's', element: '1' },
      { set: 'gone', element: '4' },
    ],
  })
  assert.is(elementsChangeBetween(from, ruleset('d', {})), null)
})

test.run()
