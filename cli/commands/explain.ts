/** `explain KIND[.FIELD]`: what a kind's fields mean, from the schema that documents are checked with. Asks nobody. */
import { z } from 'zod'
import type { ResourceKind } from '../../datastore/resources/kinds.ts'
import { API_VERSION } from '../../datastore/resources/metadata.ts'
import { TwillError } from '../../lib/errors.ts'
import { suggestion } from '../../lib/validation.ts'
import { type Field, renderField } from '../render/explain.ts'
import type { Session } from '../session.ts'

/** What toJSONSchema yields, as far as it is explained. */
interface Schema {
  readonly type?: string
  readonly description?: string
  readonly default?: unknown
  readonly enum?: readonly unknown[]
  readonly properties?: Readonly<Record<string, Schema>>
  readonly required?: readonly string[]
  readonly items?: Schema
  readonly additionalProperties?: Schema | boolean
}

export async function explain(
  kind: ResourceKind,
  path: readonly string[],
  session: Session,
): Promise<number> {
  const schema = z.toJSONSchema(kind.schema, { target: 'openapi-3.0', io: 'input' }) as Schema
  const field = fieldAt(kind, schema, path)
  session.modules.stdout.write(renderField(kind.kind, API_VERSION, field))
  return 0
}

/** A first step that is no field of the document is one of its spec. @throws document.invalid: there is no such field */
function fieldAt(kind: ResourceKind, document: Schema, path: readonly string[]): Field {
  const [first] = path
  const isShort = first !== undefined && document.properties?.[first] === undefined
  let field = fieldOf('', document, false)
  let schema = document
  for (const step of isShort ? ['spec', ...path] : path) {
    const around = schema
    const next = membersOf(around)[step]
    if (next === undefined) throw unknown(kind, path, step, Object.keys(membersOf(around)))
    schema = next
    const name = field.path === '' ? step : `${field.path}.${step}`
    field = fieldOf(name, schema, around.required?.includes(step) ?? false)
  }
  return field
}

/** Of an object, or of the objects in a list. */
const membersOf = ({ properties, items }: Schema): Readonly<Record<string, Schema>> =>
  properties ?? items?.properties ?? {}

function fieldOf(path: string, schema: Schema, required: boolean): Field {
  const members = Object.entries(membersOf(schema)).map(([name, each]) =>
    plainField(name, each, (schema.required ?? schema.items?.required)?.includes(name) ?? false),
  )
  return { ...plainField(path, schema, required), members }
}

function plainField(path: string, schema: Schema, required: boolean): Field {
  return {
    path,
    type: typeOf(schema),
    required,
    description: schema.description ?? '',
    values: schema.enum ?? schema.items?.enum ?? [],
    default: schema.default,
    members: [],
  }
}

function typeOf({ type, items, additionalProperties }: Schema): string {
  if (type === 'array') return `[]${items === undefined ? 'any' : typeOf(items)}`
  if (type === 'object' && typeof additionalProperties === 'object')
    return `map[string]${typeOf(additionalProperties)}`
  return type ?? 'any'
}

function unknown(
  kind: ResourceKind,
  path: readonly string[],
  step: string,
  known: readonly string[],
): TwillError {
  const field = [kind.singular, ...path].join('.')
  return new TwillError('document.invalid', `${field}: ${step}: unknown field, ${suggestion(step, known)}`, {
    field,
  })
}
