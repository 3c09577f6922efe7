/**
 * JSON schema as zod writes it → the structural schema that a CustomResourceDefinition takes, with what only Kubernetes
 * has: rules in CEL, and bounds, without which the API server does not know what a rule costs.
 *
 * Invariant: nothing is dropped in silence. A keyword that no structural schema may have, and an addition to a field that
 * is not there, are thrown.
 */
import { TwillError } from '../../../lib/errors.ts'

/** In CEL; what `message` says follows the name of the field. */
export interface Rule {
  readonly rule: string
  readonly message: string
  /** CEL for a message with values in it; `message` stands in where it fails. */
  readonly messageExpression?: string
  /** The field that is to blame, below the one where the rule stands: ".blockSize". */
  readonly fieldPath?: string
}

export interface Addition {
  readonly rules?: readonly Rule[]
  readonly maxLength?: number
  readonly maxProperties?: number
  readonly minItems?: number
  readonly maxItems?: number
  readonly listType?: 'set'
}

/** By field: `spec.cidr`, `spec.addresses[]` for the entries of a list. */
export type Additions = Readonly<Record<string, Addition>>

export interface StructuralSchema {
  readonly type: string
  readonly description?: string
  readonly properties?: Readonly<Record<string, StructuralSchema>>
  readonly items?: StructuralSchema
  readonly additionalProperties?: StructuralSchema
  readonly [keyword: string]: unknown
}

const KEPT = [
  'description',
  'type',
  'default',
  'enum',
  'pattern',
  'minLength',
  'maxLength',
  'minItems',
  'maxItems',
  'minimum',
  'maximum',
  'required',
] as const

type Json = Readonly<Record<string, unknown>>

/** @throws internal: zod's schema cannot be expressed, or an addition has no field */
export function structuralSchema(schema: unknown, additions: Additions): StructuralSchema {
  const unused = new Set(Object.keys(additions))
  const result = structural(schema as Json, '', additions, unused)
  if (unused.size > 0) throw mistake([...unused].join(', '), 'no such field')
  return result
}

function structural(
  { properties, items, additionalProperties, ...schema }: Json,
  path: string,
  additions: Additions,
  unused: Set<string>,
): StructuralSchema {
  const unknown = Object.keys(schema).filter(key => !(KEPT as readonly string[]).includes(key))
  if (unknown.length > 0) throw mistake(path, `${unknown.join(', ')}: not in a structural schema`)
  unused.delete(path)
  const below = (part: unknown, at: string) => structural(part as Json, at, additions, unused)
  const fields = Object.entries((properties ?? {}) as Json).map(([name, field]) => [
    name,
    below(field, path === '' ? name : `${path}.${name}`),
  ])
  return {
    ...Object.fromEntries(KEPT.flatMap(key => (isSaid(key, schema[key]) ? [[key, schema[key]]] : []))),
    ...(properties === undefined ? {} : { properties: Object.fromEntries(fields) }),
    ...(items === undefined ? {} : { items: below(items, `${path}[]`) }),
    // `false` is what pruning says; unknown fields are told by the API server's own field validation.
    ...(typeof additionalProperties === 'object'
      ? { additionalProperties: below(additionalProperties, `${path}{}`) }
      : {}),
    ...keywordsOf(additions[path]),
  } as StructuralSchema
}

/** The bounds of safe integers say nothing to a reader. */
const isSaid = (key: string, value: unknown): boolean =>
  value !== undefined && !((key === 'minimum' || key === 'maximum') && !withinSafe(value))

const withinSafe = (value: unknown): boolean => Math.abs(Number(value)) < Number.MAX_SAFE_INTEGER

const keywordsOf = ({ rules, listType, ...bounds }: Addition = {}): Json => ({
  ...bounds,
  ...(listType === undefined ? {} : { 'x-kubernetes-list-type': listType }),
  ...(rules === undefined ? {} : { 'x-kubernetes-validations': rules }),
})

const mistake = (path: string, why: string) =>
  new TwillError('internal', `schema of a custom resource: ${path}: ${why}`, { path })
