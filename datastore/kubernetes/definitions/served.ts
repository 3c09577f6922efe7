/**
 * The definitions that the API server has, held against those of this version: a daemon that is newer than they are would
 * notice only when it writes what they do not know. What is served is read from the server's OpenAPI documents, one
 * for each group, which every authenticated account may read; it takes no right to definitions.
 *
 * What the server's have and ours have not is no fault: they come first in an upgrade.
 */
import { isTwillError } from '../../../lib/errors.ts'
import type { KubernetesClient } from '../client.ts'
import { APPLY_DEFINITIONS } from '../store-failure.ts'
import { CUSTOM_KINDS, type CustomResourceDefinition, definitionOf } from './definitions.ts'
import { recordDefinitions } from './records.ts'
import type { StructuralSchema } from './schema.ts'

/** @param options.records whether Twill's own are custom resources */
export const definitionsOf = ({ records }: { readonly records: boolean }): CustomResourceDefinition[] => [
  ...CUSTOM_KINDS.map(definitionOf),
  ...(records ? recordDefinitions() : []),
]

/**
 * Each as "ippools.twill.network is not there" or "ippools.twill.network lacks spec.gateway, a rule of spec"; [] when
 * nothing is missing, or the account may not look.
 * @throws kubernetes.unavailable, kubernetes.unauthorized
 */
export async function missingInDefinitions(
  client: Pick<KubernetesClient, 'request'>,
  definitions: readonly CustomResourceDefinition[],
): Promise<string[]> {
  const missing: string[] = []
  for (const [path, members] of byPath(definitions)) {
    const served = await servedSchemas(client, path)
    if (served === null) continue
    for (const definition of members) missing.push(...lackOf(definition, served))
  }
  return missing
}

/** One message for all of them. */
export const definitionsMessage = (missing: readonly string[]): string =>
  `definitions at the API server are missing or older than this daemon: ${missing.join('; ')}: ${APPLY_DEFINITIONS}`

type Schemas = Readonly<Record<string, StructuralSchema>>

const versionOf = ({ spec }: CustomResourceDefinition) => spec.versions[0]

function byPath(definitions: readonly CustomResourceDefinition[]): Map<string, CustomResourceDefinition[]> {
  const paths = new Map<string, CustomResourceDefinition[]>()
  for (const definition of definitions) {
    const path = `/openapi/v3/apis/${definition.spec.group}/${versionOf(definition).name}`
    paths.set(path, [...(paths.get(path) ?? []), definition])
  }
  return paths
}

/** By the name of the kind; null: this account may not look. */
async function servedSchemas(
  client: Pick<KubernetesClient, 'request'>,
  path: string,
): Promise<Schemas | null> {
  try {
    const { components } = await client.request<{ components?: { schemas?: Schemas } }>('GET', path)
    return components?.schemas ?? {}
  } catch (error) {
    if (isTwillError(error, 'kubernetes.not-found')) return {}
    if (isTwillError(error, 'kubernetes.forbidden')) return null
    throw error
  }
}

function lackOf(definition: CustomResourceDefinition, served: Schemas): string[] {
  const { group, names } = definition.spec
  const { name, schema } = versionOf(definition)
  const reversed = group.split('.').reverse().join('.')
  const found = served[`${reversed}.${name}.${names.kind}`]
  if (found === undefined) return [`${definition.metadata.name} is not there`]
  const lacks = [...lacksOf(schema.openAPIV3Schema, found, '')]
  return lacks.length === 0 ? [] : [`${definition.metadata.name} lacks ${lacks.join(', ')}`]
}

/** Fields, values of enumerations, rules. What is missing as a whole is not looked into. */
function* lacksOf(wanted: StructuralSchema, served: StructuralSchema, path: string): Generator<string> {
  for (const [name, field] of Object.entries(wanted.properties ?? {})) {
    const at = path === '' ? name : `${path}.${name}`
    const counterpart = served.properties?.[name]
    if (counterpart === undefined) yield at
    else yield* lacksOf(field, counterpart, at)
  }
  for (const [part, suffix] of [
    ['items', '[]'],
    ['additionalProperties', '{}'],
  ] as const)
    if (wanted[part] !== undefined && served[part] !== undefined)
      yield* lacksOf(wanted[part], served[part], path + suffix)
  for (const value of differing(wanted.enum, served.enum)) yield `${path} ${JSON.stringify(value)}`
  const rules = differing(rulesOf(wanted), rulesOf(served)).length
  if (rules > 0) yield `${rules === 1 ? 'a rule' : `${rules} rules`} of ${path}`
}

/** Of no list at all everything may be: a field that takes any value. */
const differing = (wanted: unknown, served: unknown): unknown[] =>
  Array.isArray(wanted) ? wanted.filter(each => Array.isArray(served) && !served.includes(each)) : []

const rulesOf = (schema: StructuralSchema): string[] =>
  ((schema['x-kubernetes-validations'] ?? []) as { rule: string }[]).map(({ rule }) => rule)
