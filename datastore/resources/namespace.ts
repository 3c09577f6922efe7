/**
 * Namespace: what is said about the pods of a namespace together: labels, by which pools choose it, and the pools that
 * its pods take from unless they say otherwise themselves. A namespace of which nothing was written has its name alone.
 */
import { z } from 'zod'
import type { Family } from '../../lib/address.ts'
import {
  ADDRESSES_ANNOTATION,
  POOL_ANNOTATION,
  POOL_NAMES_EXPECTED,
  type PoolNames,
  readPoolNames,
} from '../../lib/pool-annotations.ts'
import { apiVersion, metadata } from './metadata.ts'
import type { Labels } from './selector.ts'

export const namespace = z
  .strictObject({
    apiVersion,
    kind: z.literal('Namespace').meta({ description: 'What this is a document of.' }),
    metadata: metadata
      .extend({
        annotations: metadata.shape.annotations.meta({
          description: `Pools that its pods take from: ${Object.values(POOL_ANNOTATION).join(' and ')}, in the order of the names (${POOL_NAMES_EXPECTED}). Whatever else there is is yours.`,
        }),
      })
      .meta({ description: 'Its name, labels for selectors, and the pools of its pods.' }),
    spec: z.strictObject({}).default({}).meta({ description: 'No fields yet.' }),
  })
  .superRefine(({ metadata: { annotations = {} } }, context) => {
    const refuse = (key: string, message: string) =>
      context.addIssue({
        code: 'custom',
        path: ['metadata', 'annotations', key],
        input: annotations[key],
        message,
      })
    for (const key of Object.values(POOL_ANNOTATION))
      if (annotations[key] !== undefined && readPoolNames(annotations[key]) === null)
        refuse(key, `expected ${POOL_NAMES_EXPECTED}`)
    if (annotations[ADDRESSES_ANNOTATION] !== undefined)
      refuse(ADDRESSES_ANNOTATION, 'expected none: a pod asks for its own addresses')
  })

export type Namespace = z.infer<typeof namespace>

export const NAMESPACE_NAME_LABEL = 'kubernetes.io/metadata.name'

/** What selectors see of a namespace. Nobody gives it another name than its own. */
export const namespaceLabels = (name: string, labels: Labels = {}): Labels => ({
  ...labels,
  [NAMESPACE_NAME_LABEL]: name,
})

export function namespacePools({ metadata: { annotations = {} } }: Namespace): PoolNames {
  const of = (family: Family) => readPoolNames(annotations[POOL_ANNOTATION[family]] ?? '') ?? []
  return { 4: of(4), 6: of(6) }
}
