/**
 * Annotations of our own domain in documents: one that nobody reads is a mistake, most likely of spelling, which would
 * otherwise give pods addresses of another pool. Told when a document is applied only: a stored one with an annotation of
 * a newer version stays readable.
 */
import { ANNOTATION_DOMAIN, POOL_ANNOTATION } from '../../lib/pool-annotations.ts'
import { formatProblem, formatValue, type Problem, suggestion } from '../../lib/validation.ts'
import type { Resource } from './kinds.ts'

const POOLS = Object.values(POOL_ANNOTATION)

/** Of a stored resource those that are named: who may annotate it may write thousands. */
const NAMED_MAX = 10

export function unknownAnnotations(resource: Resource): Problem[] {
  return unknownKeys(resource).map(key => problemOf(key, resource))
}

/** Of a stored resource, each a sentence, and how many more there are. */
export function ignoredAnnotations(resource: Resource): string[] {
  const unknown = unknownKeys(resource)
  const more = unknown.length - NAMED_MAX
  const named = unknown.slice(0, NAMED_MAX).map(key => formatProblem('', problemOf(key, resource)))
  return more > 0 ? [...named, `and ${more} more`] : named
}

const knownOf = ({ kind }: Resource): readonly string[] => (kind === 'Namespace' ? POOLS : [])

function unknownKeys(resource: Resource): string[] {
  const known = knownOf(resource)
  const { annotations = {} } = resource.metadata
  return Object.keys(annotations).filter(key => key.startsWith(ANNOTATION_DOMAIN) && !known.includes(key))
}

function problemOf(key: string, resource: Resource): Problem {
  const path = ['metadata', 'annotations', key]
  const message = `unknown annotation, ${suggestion(key, knownOf(resource), ANNOTATION_DOMAIN)}`
  return { field: path.join('.'), path, value: formatValue(resource.metadata.annotations?.[key]), message }
}
