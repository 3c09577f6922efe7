/**
 * YAML files of operator resources → resources. Every mistake of all files is found in one pass and told, in the order
 * of the files and their lines, with file, document, line, field, value and what was expected.
 *
 * Trap: YAML forgives much that is a mistake here (an empty document, an unknown tag, the same key twice in the
 * merged result), so warnings of the parser are errors too.
 */
import {
  type Document,
  isMap,
  isNode,
  isScalar,
  isSeq,
  LineCounter,
  parseAllDocuments,
  type YAMLError,
} from 'yaml'
import { messageOf } from '../../lib/errors.ts'
import { formatProblem, formatValue, type Problem, validate } from '../../lib/validation.ts'
import { unknownAnnotations } from './annotations.ts'
import { completed, KINDS, type Resource, type ResourceKind } from './kinds.ts'
import { API_VERSION } from './metadata.ts'
import { refusedServerFields, withoutServerFields } from './server-fields.ts'

export interface LocatedResource {
  readonly resource: Resource
  /** "pools.yaml: document 1, line 1", for errors found later. */
  readonly where: string
}

/** What messages call the file, and its text or why there is none. */
export type SourceFile =
  | { readonly name: string; readonly text: string }
  | { readonly name: string; readonly failure: string }

export interface ParsedFiles {
  readonly resources: readonly LocatedResource[]
  /** One line for each mistake; when there is one, `resources` must not be applied. */
  readonly problems: readonly string[]
}

interface Source {
  readonly file: string
  readonly document: Document.Parsed
  readonly number: number
  readonly lines: LineCounter
}

interface Mistake {
  /** Of the file. */
  readonly line: number
  readonly text: string
}

interface Found extends LocatedResource {
  readonly line: number
}

type Parsed = { readonly found: Found } | { readonly problems: readonly Mistake[] }

/** Does not throw. */
export function readDocuments(files: readonly SourceFile[]): ParsedFiles {
  const first = new Map<string, string>()
  const read = files.map(file => {
    const parsed = readFile(file)
    const found = parsed.flatMap(each => ('found' in each ? [each.found] : []))
    const problems = parsed.flatMap(each => ('found' in each ? [] : each.problems))
    const all = [...problems, ...repeatedNames(found, first)].sort((a, b) => a.line - b.line)
    return { found, problems: all.map(({ text }) => text) }
  })
  return {
    resources: read.flatMap(({ found }) => found.map(({ resource, where }) => ({ resource, where }))),
    problems: read.flatMap(({ problems }) => problems),
  }
}

function readFile(file: SourceFile): Parsed[] {
  const { name } = file
  if ('failure' in file)
    return [{ problems: [{ line: 1, text: `${name}: cannot be read: ${file.failure}` }] }]
  const lines = new LineCounter()
  const documents = parseAllDocuments(file.text, {
    lineCounter: lines,
    prettyErrors: false,
    uniqueKeys: true,
  })
  if (documents.length === 0)
    return [{ problems: [{ line: 1, text: `${name}: empty: expected at least one document` }] }]
  return documents.flatMap((document, index) =>
    readDocument({ file: name, document: document as Document.Parsed, number: index + 1, lines }),
  )
}

/** @param first name → where it was seen first, also in the files before; what is new is added */
function repeatedNames(found: readonly Found[], first: Map<string, string>): Mistake[] {
  return found.flatMap(({ resource, where, line }) => {
    const name = `${resource.kind} ${resource.metadata.name}`
    const earlier = first.get(name)
    if (earlier === undefined) {
      first.set(name, where)
      return []
    }
    const expected = `expected one ${name}, the first is in ${earlier}`
    return [{ line, text: `${where}: metadata.name: ${JSON.stringify(resource.metadata.name)}: ${expected}` }]
  })
}

function readDocument(source: Source): Parsed[] {
  const syntax = [...source.document.errors, ...source.document.warnings]
  if (syntax.length > 0) return [{ problems: syntax.map(error => describeSyntax(source, error)) }]
  const line = lineAt(source, [])
  const start = whereIs(source, line)
  let input: unknown
  try {
    input = source.document.toJS()
  } catch (error) {
    return [{ problems: [{ line, text: `${start}: ${messageOf(error)}` }] }]
  }
  if (input === null || input === undefined)
    return [{ problems: [{ line, text: `${start}: empty: expected apiVersion, kind, metadata and spec` }] }]
  return readAll(source, line, input)
}

/** One, or as many as are in the List that `kubectl get` makes of several. */
function readAll(source: Source, line: number, input: unknown): Parsed[] {
  const { apiVersion, kind, items } = input as { apiVersion?: unknown; kind?: unknown; items?: unknown }
  if (apiVersion !== 'v1' || kind !== 'List' || !Array.isArray(items))
    return [readResource(source, line, input, [])]
  return items.map((item, index) => {
    const at = ['items', index]
    return readResource(source, lineAt(source, at), item, at)
  })
}

const whereIs = ({ file, number }: Source, line: number) => `${file}: document ${number}, line ${line}`

/** @param at where it stands in the document */
function readResource(source: Source, line: number, found: unknown, at: readonly PropertyKey[]): Parsed {
  const header = problemsOfHeader(found)
  const kind = KINDS.find(each => each.kind === (found as { kind?: unknown } | null)?.kind)
  if (kind === undefined || header.length > 0) return { problems: describeAll(source, header, at) }
  const input = withoutServerFields(found)
  const refused = refusedServerFields(input)
  if (refused.length > 0) return { problems: describeAll(source, refused, at) }
  const result = validate(kind.schema, input)
  if (!result.ok) return { problems: describeAll(source, result.problems, at) }
  const unknown = unknownAnnotations(result.value)
  if (unknown.length > 0) return { problems: describeAll(source, unknown, at) }
  return { found: { resource: completed(withoutDeletion(result.value)), where: whereIs(source, line), line } }
}

/** It stands in what \`get\` printed, and who applies that does not delete. */
function withoutDeletion(resource: Resource): Resource {
  const { deletionTimestamp: _, ...metadata } = resource.metadata
  return { ...resource, metadata } as Resource
}

function problemsOfHeader(input: unknown): Problem[] {
  if (typeof input !== 'object' || input === null || Array.isArray(input))
    return [headerProblem([], input, 'expected a mapping of fields')]
  const { apiVersion, kind } = input as { apiVersion?: unknown; kind?: unknown }
  const problems: Problem[] = []
  if (apiVersion !== API_VERSION)
    problems.push(headerProblem(['apiVersion'], apiVersion, `expected ${API_VERSION}`))
  if (!KINDS.some(each => each.kind === kind))
    problems.push(headerProblem(['kind'], kind, `expected one of ${kindNames(KINDS)}`))
  return problems
}

const kindNames = (kinds: readonly ResourceKind[]) => kinds.map(each => each.kind).join(', ')

function headerProblem(path: readonly string[], value: unknown, message: string): Problem {
  return { field: path.join('.'), path, value: formatValue(value), message }
}

const describeAll = (source: Source, problems: readonly Problem[], at: readonly PropertyKey[]): Mistake[] =>
  problems.map(problem => {
    const line = lineAt(source, [...at, ...problem.path])
    return { line, text: formatProblem(whereIs(source, line), problem) }
  })

function describeSyntax(source: Source, error: YAMLError): Mistake {
  const { line } = source.lines.linePos(error.pos[0])
  return { line, text: `${whereIs(source, line)}: not YAML: ${error.message}` }
}

/** Line of the field's name, or of the nearest mapping around it when it is missing. */
function lineAt(source: Source, path: readonly PropertyKey[]): number {
  for (let depth = path.length; depth > 0; depth--) {
    const around = depth === 1 ? source.document.contents : source.document.getIn(path.slice(0, depth - 1))
    const place = placeIn(around, path[depth - 1])
    if (place !== null) return source.lines.linePos(place).line
  }
  const start = source.document.contents?.range?.[0] ?? source.document.range[0]
  return source.lines.linePos(start).line
}

function placeIn(around: unknown, step: PropertyKey | undefined): number | null {
  if (isMap(around)) {
    const pair = around.items.find(({ key }) => isScalar(key) && String(key.value) === step)
    return isScalar(pair?.key) ? (pair.key.range?.[0] ?? null) : null
  }
  const item = isSeq(around) ? around.items[Number(step)] : null
  return isNode(item) ? (item.range?.[0] ?? null) : null
}
