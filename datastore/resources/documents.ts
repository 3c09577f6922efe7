/**
 * YAML files of operator resources → resources. Every mistake of a file is found in one pass and told with file,
 * document, line, field, value and what was expected; a file with a mistake yields errors, so that nothing of it
 * is applied by halves.
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
import { completed, KINDS, type Resource, type ResourceKind } from './kinds.ts'
import { API_VERSION } from './metadata.ts'

export interface LocatedResource {
  readonly resource: Resource
  /** "pools.yaml: document 1, line 1", for errors found later. */
  readonly where: string
}

export interface ParsedFile {
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

type Parsed = { readonly found: LocatedResource } | { readonly problems: readonly string[] }

/** `file` is what messages call the text. Does not throw. */
export function readDocuments(file: string, text: string): ParsedFile {
  const lines = new LineCounter()
  const documents = parseAllDocuments(text, { lineCounter: lines, prettyErrors: false, uniqueKeys: true })
  if (documents.length === 0)
    return { resources: [], problems: [`${file}: empty: expected at least one document`] }
  const parsed = documents.map((document, index) =>
    readDocument({ file, document: document as Document.Parsed, number: index + 1, lines }),
  )
  const resources = parsed.flatMap(each => ('found' in each ? [each.found] : []))
  const problems = parsed.flatMap(each => ('found' in each ? [] : each.problems))
  return { resources, problems: [...problems, ...repeatedNames(resources)] }
}

/** One line for each resource that an earlier one of the list has named already. */
export function repeatedNames(resources: readonly LocatedResource[]): string[] {
  const first = new Map<string, string>()
  return resources.flatMap(({ resource, where }) => {
    const name = `${resource.kind} ${resource.metadata.name}`
    const earlier = first.get(name)
    if (earlier === undefined) {
      first.set(name, where)
      return []
    }
    return [
      `${where}: metadata.name: ${JSON.stringify(resource.metadata.name)}: expected one ${name}, the first is in ${earlier}`,
    ]
  })
}

function readDocument(source: Source): Parsed {
  const syntax = [...source.document.errors, ...source.document.warnings]
  if (syntax.length > 0) return { problems: syntax.map(error => describeSyntax(source, error)) }
  const start = `${source.file}: document ${source.number}, line ${lineAt(source, [])}`
  let input: unknown
  try {
    input = source.document.toJS()
  } catch (error) {
    return { problems: [`${start}: ${messageOf(error)}`] }
  }
  if (input === null || input === undefined)
    return { problems: [`${start}: empty: expected apiVersion, kind, metadata and spec`] }
  return readResource(source, start, input)
}

function readResource(source: Source, where: string, input: unknown): Parsed {
  const header = problemsOfHeader(input)
  const kind = KINDS.find(each => each.kind === (input as { kind?: unknown }).kind)
  if (kind === undefined || header.length > 0) return { problems: describeAll(source, header) }
  const result = validate(kind.schema, input)
  if (!result.ok) return { problems: describeAll(source, result.problems) }
  return { found: { resource: completed(result.value), where } }
}

function problemsOfHeader(input: unknown): Problem[] {
  if (typeof input !== 'object' || Array.isArray(input))
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

const describeAll = (source: Source, problems: readonly Problem[]) =>
  problems.map(problem =>
    formatProblem(`${source.file}: document ${source.number}, line ${lineAt(source, problem.path)}`, problem),
  )

function describeSyntax(source: Source, error: YAMLError): string {
  const { line } = source.lines.linePos(error.pos[0])
  return `${source.file}: document ${source.number}, line ${line}: not YAML: ${error.message}`
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
