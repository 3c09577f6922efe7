/**
 * Which labelled things are meant, as Kubernetes writes it. Every requirement must hold; a selector without any, and
 * one that is absent, mean all.
 */
import { z } from 'zod'
import { labelKey, labelValue } from './metadata.ts'

/** Bounds, so that Kubernetes can tell what its checks cost. */
export const MATCH_LABELS_MAX = 32
const EXPRESSIONS_MAX = 32
const VALUES_MAX = 64

const expression = z
  .strictObject({
    key: labelKey.meta({ description: 'Name of the label.' }),
    operator: z
      .enum(['In', 'NotIn', 'Exists', 'DoesNotExist'])
      .meta({ description: 'NotIn and DoesNotExist hold where there is no such label, too.' }),
    values: z.array(labelValue).max(VALUES_MAX).optional().meta({ description: 'For In and NotIn.' }),
  })
  .superRefine(({ operator, values }, context) => {
    const needed = operator === 'In' || operator === 'NotIn'
    const has = (values ?? []).length > 0
    if (needed !== has)
      context.addIssue({
        code: 'custom',
        path: ['values'],
        input: values,
        message: needed ? `expected at least one value for ${operator}` : `expected none for ${operator}`,
      })
  })

export const labelSelector = z.strictObject(
  {
    matchLabels: z
      .record(labelKey, labelValue)
      .refine(
        labels => Object.keys(labels).length <= MATCH_LABELS_MAX,
        `expected at most ${MATCH_LABELS_MAX} labels`,
      )
      .optional()
      .meta({ description: 'Labels that must have these values.' }),
    matchExpressions: z
      .array(expression)
      .max(EXPRESSIONS_MAX)
      .optional()
      .meta({ description: 'Requirements that must all hold.' }),
  },
  {
    error: ({ code }) =>
      code === 'invalid_type' ? 'expected a mapping of matchLabels and matchExpressions' : undefined,
  },
)

export type LabelSelector = z.infer<typeof labelSelector>
export type Labels = Readonly<Record<string, string>>

export function selects(selector: LabelSelector | undefined, labels: Labels): boolean {
  const { matchLabels = {}, matchExpressions = [] } = selector ?? {}
  const labelled = (key: string) => (Object.hasOwn(labels, key) ? labels[key] : undefined)
  return (
    Object.entries(matchLabels).every(([key, value]) => labelled(key) === value) &&
    matchExpressions.every(each => holds(each, labelled(each.key)))
  )
}

/** The same where other labels than these may be there: what asks for one of them does not hold, nor for its absence. */
export const selectsByKnown = (selector: LabelSelector, labels: Labels): boolean =>
  selects(selector, labels) && keysOf(selector).every(key => Object.hasOwn(labels, key))

/** Labels that it asks for. */
export const keysOf = ({ matchLabels = {}, matchExpressions = [] }: LabelSelector): string[] => [
  ...Object.keys(matchLabels),
  ...matchExpressions.map(({ key }) => key),
]

/** As kubectl writes it: "zone=a,rack in (r1,r2),!gpu"; '' means all. */
export function selectorText(selector: LabelSelector | undefined): string {
  const { matchLabels = {}, matchExpressions = [] } = selector ?? {}
  const labels = Object.entries(matchLabels).map(([key, value]) => `${key}=${value}`)
  return [...labels, ...matchExpressions.map(expressionText)].join(',')
}

function expressionText({ key, operator, values = [] }: z.infer<typeof expression>): string {
  switch (operator) {
    case 'Exists':
      return key
    case 'DoesNotExist':
      return `!${key}`
    case 'In':
      return `${key} in (${values.join(',')})`
    case 'NotIn':
      return `${key} notin (${values.join(',')})`
  }
}

function holds({ operator, values = [] }: z.infer<typeof expression>, value: string | undefined): boolean {
  switch (operator) {
    case 'Exists':
      return value !== undefined
    case 'DoesNotExist':
      return value === undefined
    case 'In':
      return value !== undefined && values.includes(value)
    case 'NotIn':
      return value === undefined || !values.includes(value)
  }
}
