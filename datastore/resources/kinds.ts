/**
 * Every kind of operator resource, once: what it is called, its schema, what of it never changes, and the columns
 * it is listed with. The CLI, the document parser and the CRDs read this table; a new kind is one entry.
 */
import type { z } from 'zod'
import { gatewayOf, type IPPool, ipPool, isForIpam, slotPrefixOf, travelOf } from './ippool.ts'
import { type IPReservation, ipReservation } from './ipreservation.ts'
import { type Namespace, namespace } from './namespace.ts'
import { type Node, node } from './node.ts'
import { type LabelSelector, selectorText } from './selector.ts'

export type Resource = IPPool | IPReservation | Namespace | Node

/** A field by its steps: ['spec', 'cidr']. */
export type FieldPath = readonly string[]

export interface Column {
  readonly header: string
  readonly field: FieldPath
  /** Shown only with `-o wide`. */
  readonly wide: boolean
  /** Where the value is not its own text. */
  readonly text?: (value: unknown) => string
}

export interface ResourceKind {
  readonly kind: Resource['kind']
  /** In keys, commands and CRDs. */
  readonly plural: string
  readonly singular: string
  readonly shortNames: readonly string[]
  readonly schema: z.ZodType<Resource>
  /** Fields that an update may not change. */
  readonly immutable: readonly FieldPath[]
  /** Fields of the specification whose default depends on other fields: `completed` fills them in. */
  readonly completed: readonly string[]
  readonly columns: readonly Column[]
}

const selectorCell = (value: unknown): string => selectorText(value as LabelSelector | undefined)

const IP_POOL: ResourceKind = {
  kind: 'IPPool',
  plural: 'ippools',
  singular: 'ippool',
  shortNames: ['pool', 'pools'],
  schema: ipPool,
  immutable: [
    ['spec', 'cidr'],
    ['spec', 'blockSize'],
    ['spec', 'gateway'],
  ],
  completed: ['blockSize', 'encapsulation', 'routes', 'gateway'],
  columns: [
    { header: 'CIDR', field: ['spec', 'cidr'], wide: false },
    { header: 'BLOCK', field: ['spec', 'blockSize'], wide: true },
    { header: 'ENCAPSULATION', field: ['spec', 'encapsulation'], wide: false },
    { header: 'ROUTES', field: ['spec', 'routes'], wide: true },
    { header: 'NAT', field: ['spec', 'natOutgoing'], wide: true },
    { header: 'DISABLED', field: ['spec', 'disabled'], wide: true },
    { header: 'USES', field: ['spec', 'allowedUses'], wide: true },
    { header: 'NODESELECTOR', field: ['spec', 'nodeSelector'], wide: true, text: selectorCell },
    { header: 'NAMESPACESELECTOR', field: ['spec', 'namespaceSelector'], wide: true, text: selectorCell },
  ],
}

const IP_RESERVATION: ResourceKind = {
  kind: 'IPReservation',
  plural: 'ipreservations',
  singular: 'ipreservation',
  shortNames: ['reservation', 'reservations'],
  schema: ipReservation,
  immutable: [],
  completed: [],
  columns: [{ header: 'ADDRESSES', field: ['spec', 'addresses'], wide: false }],
}

const NAMESPACE: ResourceKind = {
  kind: 'Namespace',
  plural: 'namespaces',
  singular: 'namespace',
  shortNames: ['ns'],
  schema: namespace,
  immutable: [],
  completed: [],
  columns: [
    { header: 'LABELS', field: ['metadata', 'labels'], wide: false },
    { header: 'ANNOTATIONS', field: ['metadata', 'annotations'], wide: true },
  ],
}

const NODE: ResourceKind = {
  kind: 'Node',
  plural: 'nodes',
  singular: 'node',
  shortNames: ['no'],
  schema: node,
  immutable: [],
  completed: [],
  columns: [{ header: 'LABELS', field: ['metadata', 'labels'], wide: true }],
}

export const KINDS: readonly ResourceKind[] = [IP_POOL, IP_RESERVATION, NAMESPACE, NODE]

/** By kind, plural, singular or short name, in any case; null: none is called so. */
export function kindNamed(name: string): ResourceKind | null {
  const word = name.toLowerCase()
  return KINDS.find(kind => namesOf(kind).includes(word)) ?? null
}

export const namesOf = (kind: ResourceKind): readonly string[] => [
  kind.plural,
  kind.singular,
  ...kind.shortNames,
]

export function kindOf(resource: Resource): ResourceKind {
  return KINDS.find(kind => kind.kind === resource.kind) as ResourceKind
}

/** Defaults that depend on other fields, filled in: what is stored and compared is complete. */
export function completed(resource: Resource): Resource {
  if (resource.kind !== 'IPPool') return resource
  const { mode: _, ...spec } = resource.spec
  const gateway = isForIpam(resource) ? { gateway: gatewayOf(resource) } : {}
  const travel = travelOf(resource)
  return { ...resource, spec: { ...spec, ...travel, blockSize: slotPrefixOf(resource), ...gateway } }
}

/** Of the fields that an operator may leave out and that depend on others, what is in force. */
export function inForce(resource: Resource): Readonly<Record<string, unknown>> {
  const fields = kindOf(resource).completed.map(name => [name, fieldOf(completed(resource), ['spec', name])])
  return Object.fromEntries(fields.filter(([, value]) => value !== undefined))
}

/** undefined where the path leads nowhere. */
export function fieldOf(resource: Resource, path: FieldPath): unknown {
  return path.reduce<unknown>(
    (value, step) =>
      typeof value === 'object' && value !== null ? (value as Record<string, unknown>)[step] : undefined,
    resource,
  )
}
