/** One line for each mistake: where, field, value, what was expected. */
import { test } from 'uvu'
import * as assert from 'uvu/assert'
import { z } from 'zod'
import { isTwillError } from '../../../lib/errors.ts'
import { formatProblem, suggestion, validate, validateOrThrow } from '../../../lib/validation.ts'

function linesOf(schema: z.ZodType, input: unknown): string[] {
  const result = validate(schema, input)
  if (result.ok) return []
  return result.problems.map(problem => formatProblem('f.yaml', problem))
}

const rows: [name: string, schema: z.ZodType, input: unknown, line: string][] = [
  ['a missing field', z.object({ a: z.string() }), {}, 'f.yaml: a: missing: expected text'],
  ['a number', z.object({ a: z.number() }), { a: '1' }, 'f.yaml: a: "1": expected a number'],
  ['a whole number', z.object({ a: z.int() }), { a: 1.5 }, 'f.yaml: a: 1.5: expected a whole number'],
  ['a flag', z.object({ a: z.boolean() }), { a: 'yes' }, 'f.yaml: a: "yes": expected true or false'],
  ['null', z.object({ a: z.string().optional() }), { a: null }, 'f.yaml: a: null: expected text'],
  ['a list', z.object({ a: z.array(z.string()) }), { a: 1 }, 'f.yaml: a: 1: expected a list'],
  ['a mapping', z.object({ a: z.object({}) }), { a: [] }, 'f.yaml: a: []: expected a mapping of fields'],
  ['the whole', z.strictObject({}), null, 'f.yaml: null: expected a mapping of fields'],
  ['an index', z.object({ a: z.array(z.string()) }), { a: ['x', 2] }, 'f.yaml: a[1]: 2: expected text'],
  ['a choice', z.object({ a: z.enum(['x', 'y']) }), { a: 'z' }, 'f.yaml: a: "z": expected one of x, y'],
  ['a constant', z.object({ a: z.literal('q') }), { a: 'z' }, 'f.yaml: a: "z": expected q'],
  ['a minimum', z.object({ a: z.number().min(3) }), { a: 2 }, 'f.yaml: a: 2: expected at least 3'],
  ['a maximum', z.object({ a: z.number().max(3) }), { a: 4 }, 'f.yaml: a: 4: expected at most 3'],
  ['an open bound', z.object({ a: z.number().gt(3) }), { a: 3 }, 'f.yaml: a: 3: expected more than 3'],
  [
    'a length',
    z.object({ a: z.string().max(2) }),
    { a: 'abc' },
    'f.yaml: a: "abc": expected at most 2 characters',
  ],
  [
    'a count',
    z.object({ a: z.array(z.int()).min(1) }),
    { a: [] },
    'f.yaml: a: []: expected at least 1 entry',
  ],
  [
    'a multiple',
    z.object({ a: z.number().multipleOf(8) }),
    { a: 4 },
    'f.yaml: a: 4: expected a multiple of 8',
  ],
  [
    'a pattern with a message of its own',
    z.object({ a: z.string().regex(/^a+$/, 'expected only a') }),
    { a: 'b' },
    'f.yaml: a: "b": expected only a',
  ],
  [
    'a pattern without',
    z.object({ a: z.string().regex(/^a+$/) }),
    { a: 'b' },
    'f.yaml: a: "b": expected text that matches /^a+$/',
  ],
  [
    'a parser that names the value itself',
    z.object({ a: z.string().superRefine((_, c) => c.addIssue('prefix "x": expected a prefix')) }),
    { a: 'x' },
    'f.yaml: a: "x": expected a prefix',
  ],
  [
    'a union',
    z.object({ a: z.union([z.string(), z.number()]) }),
    { a: true },
    'f.yaml: a: true: expected text or a number',
  ],
  [
    'a key',
    z.object({ a: z.record(z.string().regex(/^x/, 'expected x first'), z.string()) }),
    { a: { y: '1' } },
    'f.yaml: a: "y": expected x first',
  ],
]

for (const [name, schema, input, line] of rows)
  test(`names field, value and expectation: ${name}`, () => assert.equal(linesOf(schema, input), [line]))

const nested = z.strictObject({
  spec: z
    .strictObject({ blockSize: z.int().optional(), rules: z.array(z.strictObject({ from: z.string() })) })
    .optional(),
})

test('an unknown field is an error with its path; a near miss is suggested', () => {
  assert.equal(linesOf(nested, { spec: { blocksize: 26, rules: [{ from: 'a', form: 1 }] } }), [
    'f.yaml: spec.rules[0].form: 1: unknown field, did you mean from?',
    'f.yaml: spec.blocksize: 26: unknown field, did you mean blockSize?',
  ])
  assert.equal(linesOf(nested, { colour: 'red' }), ['f.yaml: colour: "red": unknown field, expected spec'])
})

test('every mistake is reported', () => {
  const schema = z.strictObject({ a: z.string(), b: z.int() })
  assert.is(linesOf(schema, { a: 1, b: 'x', c: 2 }).length, 3)
})

test('long values are shortened', () => {
  const [line = ''] = linesOf(z.object({ a: z.int() }), { a: 'x'.repeat(500) })
  assert.ok(line.length < 130, line)
  assert.ok(line.includes('…: expected a number'), line)
})

test('a field inherited from Object.prototype does not count as present', () => {
  assert.equal(linesOf(z.object({ toString: z.string() }), {}), ['f.yaml: toString: missing: expected text'])
})

test('suggestion: near misses only', () => {
  assert.is(suggestion('ippol', ['ippool', 'node']), 'did you mean ippool?')
  assert.is(suggestion('Spec', ['spec']), 'did you mean spec?')
  assert.is(suggestion('banana', ['ippool', 'node']), 'expected one of ippool, node')
  assert.is(suggestion('x', []), 'expected none here')
})

test('validateOrThrow: a typed error with all lines', () => {
  try {
    validateOrThrow(z.strictObject({ a: z.int(), b: z.int() }), { a: 'x' }, 'twilld.yaml', 'config.invalid')
    assert.unreachable()
  } catch (error) {
    assert.ok(isTwillError(error, 'config.invalid'))
    assert.is(
      (error as Error).message,
      'twilld.yaml: a: "x": expected a number\ntwilld.yaml: b: missing: expected a number',
    )
  }
  assert.equal(validateOrThrow(z.strictObject({ a: z.int() }), { a: 1 }, 'f', 'config.invalid'), { a: 1 })
})

test.run()
