/** The CustomResourceDefinitions of the operator resources, made from their zod schemas. `npm run crds` writes them to deploy/crds. */
import { z } from 'zod'
import { type Column, type FieldPath, KINDS, type ResourceKind } from '../../resources/kinds.ts'
import { API_VERSION } from '../../resources/metadata.ts'
import { RULES } from './rules.ts'
import { type StructuralSchema, structuralSchema } from './schema.ts'

export const [GROUP = '', VERSION = ''] = API_VERSION.split('/')

export type CustomKind = keyof typeof RULES

/** Those that Kubernetes has no kind of its own for: Namespaces and Nodes are the API server's. */
export const CUSTOM_KINDS: readonly ResourceKind[] = KINDS.filter(({ kind }) => Object.hasOwn(RULES, kind))

export interface CustomResourceDefinition {
  readonly apiVersion: 'apiextensions.k8s.io/v1'
  readonly kind: 'CustomResourceDefinition'
  readonly metadata: { readonly name: string }
  readonly spec: {
    readonly group: string
    readonly scope: 'Cluster'
    readonly names: { readonly kind: string; readonly plural: string; readonly [more: string]: unknown }
    readonly versions: readonly [DefinitionVersion]
  }
}

interface DefinitionVersion {
  readonly name: string
  readonly served: boolean
  readonly storage: boolean
  readonly schema: { readonly openAPIV3Schema: StructuralSchema }
  readonly subresources?: object
  readonly additionalPrinterColumns: readonly object[]
}

export function definitionOf(kind: ResourceKind): CustomResourceDefinition {
  const { properties } = z.toJSONSchema(kind.schema, { target: 'openapi-3.0', io: 'input' })
  const schema = structuralSchema(
    { type: 'object', properties: { spec: properties?.spec }, required: ['spec'] },
    RULES[kind.kind as CustomKind],
  )
  return definition(kind, {
    schema: {
      ...schema,
      properties: {
        apiVersion: TEXT,
        kind: TEXT,
        metadata: OBJECT,
        ...schema.properties,
        status: statusOf(kind, schema),
      },
    },
    columns: kind.columns.map(column => printerColumn(kind, column, schema)),
  })
}

/** What is in force stands beside what was written: a default written into the specification would be the operator's wish. */
function statusOf({ completed }: ResourceKind, document: StructuralSchema): StructuralSchema {
  if (completed.length === 0) return STATUS
  const fields = completed.map(name => [name, { type: schemaAt(document, ['spec', name])?.type ?? 'string' }])
  const description = 'Of what may be left out in spec, what holds.'
  const inForce = { description, type: 'object', properties: Object.fromEntries(fields) }
  return { ...STATUS, properties: { ...STATUS.properties, inForce } }
}

const TEXT = { type: 'string' }
const OBJECT = { type: 'object' }

/** Until a daemon has written what it makes of it: known by its having no observedGeneration. */
const PENDING = {
  type: 'Accepted',
  status: 'Unknown',
  reason: 'Pending',
  message: 'no daemon has come to it yet',
  lastTransitionTime: '1970-01-01T00:00:00Z',
}

/** Its conditions are as k8s.io/apimachinery has metav1.Condition. */
const STATUS: StructuralSchema = {
  description: 'What daemons make of it.',
  type: 'object',
  default: { conditions: [PENDING] },
  properties: {
    conditions: {
      type: 'array',
      maxItems: 16,
      'x-kubernetes-list-type': 'map',
      'x-kubernetes-list-map-keys': ['type'],
      items: {
        type: 'object',
        required: ['type', 'status', 'reason', 'message', 'lastTransitionTime'],
        properties: {
          type: { type: 'string', maxLength: 316 },
          status: { type: 'string', enum: ['True', 'False', 'Unknown'] },
          observedGeneration: { type: 'integer', format: 'int64', minimum: 0 },
          lastTransitionTime: { type: 'string', format: 'date-time' },
          reason: { type: 'string', minLength: 1, maxLength: 1024 },
          message: { type: 'string', maxLength: 32768 },
        },
      },
    },
  },
}

interface Parts {
  readonly schema: StructuralSchema
  readonly columns: readonly object[]
}

function definition(
  { kind, plural, singular, shortNames }: ResourceKind,
  { schema, columns }: Parts,
): CustomResourceDefinition {
  return {
    apiVersion: 'apiextensions.k8s.io/v1',
    kind: 'CustomResourceDefinition',
    metadata: { name: `${plural}.${GROUP}` },
    spec: {
      group: GROUP,
      scope: 'Cluster',
      names: { kind, listKind: `${kind}List`, plural, singular, shortNames, categories: ['twill'] },
      versions: [
        {
          name: VERSION,
          served: true,
          storage: true,
          schema: { openAPIV3Schema: schema },
          subresources: { status: {} },
          additionalPrinterColumns: [...columns, ...STATUS_COLUMNS],
        },
      ],
    },
  }
}

const STATUS_COLUMNS = [
  {
    name: 'Accepted',
    type: 'string',
    description: 'Whether it is in use.',
    jsonPath: '.status.conditions[?(@.type=="Accepted")].status',
  },
  {
    name: 'Reason',
    type: 'string',
    description: 'Why, or why not.',
    jsonPath: '.status.conditions[?(@.type=="Accepted")].reason',
  },
  { name: 'Age', type: 'date', jsonPath: '.metadata.creationTimestamp' },
]

/** Anything that is no single value is shown as its text. */
function printerColumn(
  { completed }: ResourceKind,
  { header, field, wide }: Column,
  document: StructuralSchema,
): object {
  const schema = schemaAt(document, field)
  const type = ['integer', 'boolean'].includes(schema?.type ?? '') ? schema?.type : 'string'
  const name = `${header.charAt(0)}${header.slice(1).toLowerCase()}`
  const [section = '', ...below] = field
  const isCompleted = section === 'spec' && completed.includes(below.join('.'))
  const jsonPath = `.${[isCompleted ? 'status.inForce' : section, ...below].join('.')}`
  return { name, type, jsonPath, ...(wide ? { priority: 1 } : {}) }
}

const schemaAt = (document: StructuralSchema, field: FieldPath): StructuralSchema | undefined =>
  field.reduce<StructuralSchema | undefined>((at, step) => at?.properties?.[step], document)
