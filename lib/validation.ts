/**
 * How a wrong document or configuration is told to the person who wrote it, one line for each mistake:
 *
 *   pools.yaml: document 1: spec.blockSize: 12: expected /20 to /32 for IPv4
 *
 * that is, where it was read, the field, the value that stands there, what was expected. Documents, configuration
 * files, flags and environment share these words. Every mistake is reported, not only the first.
 *
 * A schema's own message is used when it says "expected …" (what precedes these words is dropped: the line names
 * field and value already); otherwise the expectation is derived from the issue, never from zod's English.
 */
import type { z } from 'zod'
import { type ErrorCode, TwillError } from './errors.ts'

export interface Problem {
  /** Dotted, with indices in brackets: `spec.rules[0].from`; empty for the whole document. */
  readonly field: string
  /** `field` in its steps, for those who look for its line. */
  readonly path: readonly PropertyKey[]
  /** As it would stand in a document, shortened; `missing` when nothing does. */
  readonly value: string
  /** Begins with "expected" or "unknown field". */
  readonly message: string
}

export type Validated<T> =
  | { readonly ok: true; readonly value: T }
  | { readonly ok: false; readonly problems: readonly Problem[] }

type Issue = z.core.$ZodIssue
type Path = readonly PropertyKey[]
/** The parts of a zod definition that lead to the schema of a field inside it. */
interface Definition {
  readonly shape?: Readonly<Record<string, z.core.$ZodType>>
  readonly innerType?: z.core.$ZodType
  readonly in?: z.core.$ZodType
  readonly element?: z.core.$ZodType
  readonly valueType?: z.core.$ZodType
  readonly options?: readonly z.core.$ZodType[]
  readonly values?: readonly unknown[]
}

const VALUE_LENGTH = 80

/** Schemas of paths: what cannot be one is not shown. */
export const PATHS = new WeakSet<z.core.$ZodType>()

export function validate<T>(schema: z.ZodType<T>, input: unknown): Validated<T> {
  const result = schema.safeParse(input)
  if (result.success) return { ok: true, value: result.data }
  return { ok: false, problems: problemsOf(schema, result.error.issues, input) }
}

/** @throws TwillError of this code, with every problem as a line of its message and in `data.lines` */
export function validateOrThrow<T>(schema: z.ZodType<T>, input: unknown, where: string, code: ErrorCode): T {
  const result = validate(schema, input)
  if (result.ok) return result.value
  const lines = result.problems.map(problem => formatProblem(where, problem))
  throw new TwillError(code, lines.join('\n'), { where, lines })
}

/** `where: field: value: expected …`, without the parts that are empty. */
export function formatProblem(where: string, problem: Problem): string {
  return [where, problem.field, problem.value, problem.message].filter(part => part !== '').join(': ')
}

export function problemsOf(schema: z.core.$ZodType, issues: readonly Issue[], input: unknown): Problem[] {
  return issues.flatMap(issue => problemsOfIssue(schema, issue, input))
}

function problemsOfIssue(schema: z.core.$ZodType, issue: Issue, input: unknown): Problem[] {
  if (issue.code === 'unrecognized_keys') return unknownFields(schema, issue, input)
  if (issue.code === 'invalid_key')
    return [
      {
        field: formatField(issue.path.slice(0, -1)),
        path: issue.path,
        value: formatValue(issue.path.at(-1)),
        message: issue.issues.map(expectation).join(', '),
      },
    ]
  const found = valueAt(input, issue.path)
  const value = schemasAt(schema, issue.path).some(each => PATHS.has(each))
    ? formatPath(found, issue.path)
    : formatValue(found)
  return [{ field: formatField(issue.path), path: issue.path, value, message: expectation(issue) }]
}

function unknownFields(
  schema: z.core.$ZodType,
  issue: z.core.$ZodIssueUnrecognizedKeys,
  input: unknown,
): Problem[] {
  const schemas = schemasAt(schema, issue.path)
  const meant = schemas.filter(each => mayBe(each, valueAt(input, issue.path)))
  return issue.keys.map(key => ({
    field: formatField([...issue.path, key]),
    path: [...issue.path, key],
    value: formatDiscreetly(valueAt(input, [...issue.path, key]), [key]),
    message: `unknown field, ${kindOf(key, schemas) ?? suggestion(key, fieldsOf(meant))}`,
  }))
}

/** Of the alternatives of a union, those that these fields do not exclude: `type: etcd` is no embedded one. */
function mayBe(schema: z.core.$ZodType, value: unknown): boolean {
  const given = value as Readonly<Record<string, unknown>>
  return literalsOf(schema).every(([field, text]) => given[field] === undefined || given[field] === text)
}

/** Of which alternative that was not chosen the field is; null: of none. */
function kindOf(key: string, schemas: readonly z.core.$ZodType[]): string | null {
  const other = schemas.find(each => definitionOf(each).shape?.[key] !== undefined)
  const literals = other === undefined ? [] : literalsOf(other)
  return literals.length === 0
    ? null
    : `expected only with ${literals.map(([field, text]) => `${field}: ${text}`).join(', ')}`
}

/** Fields that can have one value only. */
const literalsOf = (schema: z.core.$ZodType): [string, unknown][] =>
  Object.entries(definitionOf(schema).shape ?? {}).flatMap(([field, each]) => {
    const values = unwrapped(each).flatMap(inner => definitionOf(inner).values ?? [undefined])
    return values.length === 1 && values[0] !== undefined ? [[field, values[0]] as [string, unknown]] : []
  })

/**
 * `did you mean x?` for a near miss, else `expected one of …`.
 * @param prefix of `word` and all of `known`: only what follows it is compared
 */
export function suggestion(word: string, known: readonly string[], prefix = ''): string {
  const rest = (text: string) => text.slice(prefix.length)
  const near = closest(rest(word), known.map(rest))
  if (near !== null) return `did you mean ${prefix}${near}?`
  return known.length === 0 ? 'expected none here' : `expected ${oneOf(known)}`
}

const oneOf = (words: readonly string[]) =>
  words.length === 1 ? `${words[0]}` : `one of ${words.join(', ')}`

function expectation(issue: Issue): string {
  const at = issue.message.indexOf('expected ')
  if (at === 0 || (at > 0 && issue.code === 'custom')) return issue.message.slice(at)
  switch (issue.code) {
    case 'invalid_type':
      return `expected ${TYPE_WORDS[issue.expected] ?? issue.expected}`
    case 'invalid_value':
      return `expected ${oneOf(issue.values.map(String))}`
    case 'too_small':
    case 'too_big':
      return `expected ${limit(issue)}`
    case 'not_multiple_of':
      return `expected a multiple of ${issue.divisor}`
    case 'invalid_format':
      return `expected ${issue.pattern === undefined ? issue.format : `text that matches ${issue.pattern}`}`
    case 'invalid_union':
      return unionExpectation(issue)
    default:
      return issue.message
  }
}

const TYPE_WORDS: Readonly<Record<string, string>> = {
  int: 'a whole number',
  number: 'a number',
  string: 'text',
  boolean: 'true or false',
  array: 'a list',
  object: 'a mapping of fields',
  record: 'a mapping of names to values',
  never: 'nothing here',
}

const SIZE_WORDS: Readonly<Record<string, readonly [one: string, more: string]>> = {
  string: ['character', 'characters'],
  array: ['entry', 'entries'],
}

function limit(issue: z.core.$ZodIssueTooSmall | z.core.$ZodIssueTooBig): string {
  const bound = issue.code === 'too_small' ? issue.minimum : issue.maximum
  const units = SIZE_WORDS[issue.origin]
  const unit = units === undefined ? '' : ` ${units[Number(bound) === 1 ? 0 : 1]}`
  if (issue.code === 'too_small') return `${issue.inclusive ? 'at least' : 'more than'} ${bound}${unit}`
  return `${issue.inclusive ? 'at most' : 'less than'} ${bound}${unit}`
}

function unionExpectation(issue: z.core.$ZodIssueInvalidUnion): string {
  const options = 'options' in issue && Array.isArray(issue.options) ? issue.options.map(String) : []
  if (options.length > 0) return `expected ${oneOf(options)}`
  const wishes = issue.errors.map(branch => branch.map(expectation).join(' and '))
  return `expected ${wishes.map(wish => wish.replace(/^expected /, '')).join(' or ')}`
}

function formatField(path: Path): string {
  return path.reduce<string>((text, step) => {
    if (typeof step === 'number') return `${text}[${step}]`
    return text === '' ? String(step) : `${text}.${String(step)}`
  }, '')
}

/** As it would stand in a document, shortened and without secrets; `missing` for undefined. */
export function formatValue(value: unknown): string {
  if (value === undefined) return 'missing'
  const text = typeof value === 'bigint' ? String(value) : (JSON.stringify(value) ?? String(value))
  if (typeof value === 'object' && SECRET.test(text)) return NOT_SHOWN
  const shown = text.replaceAll(CREDENTIALS, `//${NOT_SHOWN}@`)
  return shown.length > VALUE_LENGTH ? `${shown.slice(0, VALUE_LENGTH - 1)}…` : shown
}

function formatPath(value: unknown, path: Path): string {
  return typeof value === 'object' && value !== null ? NOT_SHOWN : formatDiscreetly(value, path)
}

/** What is long or has several lines is not what was meant to stand there; what is called so is a secret. */
function formatDiscreetly(value: unknown, path: Path): string {
  const text = formatValue(value)
  const isLong = (JSON.stringify(value) ?? '').length > VALUE_LENGTH
  const isText = isLong || (typeof value === 'string' && /[\r\n]/.test(value))
  return value !== undefined && (isText || SECRET.test(String(path.at(-1)))) ? NOT_SHOWN : text
}

const NOT_SHOWN = '(not shown)'
const SECRET = /passw|passphrase|secret|token|credential|private/i
/** Of a URL. */
const CREDENTIALS = /\/\/[^/\s"]*@/g

function valueAt(input: unknown, path: Path): unknown {
  return path.reduce<unknown>(
    (value, step) =>
      typeof value === 'object' && value !== null && Object.hasOwn(value, step)
        ? (value as Record<PropertyKey, unknown>)[step]
        : undefined,
    input,
  )
}

const definitionOf = (schema: z.core.$ZodType) => schema._zod.def as unknown as Definition

/** Without optional, default, pipe and union around it. */
function unwrapped(schema: z.core.$ZodType): z.core.$ZodType[] {
  const definition = definitionOf(schema)
  const inner = definition.innerType ?? definition.in
  if (inner !== undefined) return unwrapped(inner)
  return definition.options === undefined ? [schema] : definition.options.flatMap(unwrapped)
}

function schemasAt(schema: z.core.$ZodType, path: Path): z.core.$ZodType[] {
  return path.reduce<z.core.$ZodType[]>(
    (schemas, step) =>
      schemas.flatMap(each => {
        const { shape, element, valueType } = definitionOf(each)
        const next = shape?.[String(step)] ?? element ?? valueType
        return next === undefined ? [] : unwrapped(next)
      }),
    unwrapped(schema),
  )
}

function fieldsOf(schemas: readonly z.core.$ZodType[]): string[] {
  return [...new Set(schemas.flatMap(schema => Object.keys(definitionOf(schema).shape ?? {})))]
}

/** The known word that a typing error away explains best; null when none is near. */
function closest(word: string, known: readonly string[]): string | null {
  const allowed = Math.max(1, Math.floor(word.length / 3))
  const ranked = known
    .map(each => ({ each, distance: editDistance(word.toLowerCase(), each.toLowerCase()) }))
    .filter(({ distance }) => distance <= allowed)
    .sort((a, b) => a.distance - b.distance)
  return ranked[0]?.each ?? null
}

/** Insertions, deletions, replacements and swaps of neighbours (optimal string alignment). */
function editDistance(a: string, b: string): number {
  const rows = [Array.from({ length: b.length + 1 }, (_, j) => j)]
  for (let i = 1; i <= a.length; i++) {
    const [above, row] = [rows[i - 1]!, [i]]
    for (let j = 1; j <= b.length; j++) {
      const replaced = above[j - 1]! + (a[i - 1] === b[j - 1] ? 0 : 1)
      const swapped = a[i - 1] === b[j - 2] && a[i - 2] === b[j - 1] ? rows[i - 2]![j - 2]! + 1 : replaced
      row.push(Math.min(replaced, swapped, above[j]! + 1, row[j - 1]! + 1))
    }
    rows.push(row)
  }
  return rows[a.length]![b.length]!
}
