/**
 * Annotations of our own domain in documents: one that nobody reads is a mistake, most likely of spelling, which would
 * otherwise give pods addresses of another pool. Told when a document is applied only: a stored one with an annotation of
 * a newer version stays readable.
 */
import { ANNOTATION_DOMAIN, POOL_ANNOTATION } from '../../lib/pool-annotations.ts'
import { formatValue, type Problem, suggestion } from '../../lib/validation.ts'
import type { Resource } from './kinds.ts'

const POOLS = Object.values(POOL_ANNOTATION)

export function unknownAnnotations({ kind, metadata: { annotations = {} } }: Resource): Problem[] {
  const known = kind === 'Namespace' ? POOLS : []
  return Object.entries(annotations)
    .filter(([key]) => key.startsWith(ANNOTATION_DOMAIN) && !known.includes(key))
    .map(([key, value]) => {
      const path = ['metadata', 'annotations', key]
      const message = `unknown annotation, ${suggestion(key, known, ANNOTATION_DOMAIN)}`
      return { field: path.join('.'), path, value: formatValue(value), message }
    })
}
