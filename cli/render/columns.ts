/** The columns that a kind's own table of fields asks for. */
import { fieldOf, type Resource, type ResourceKind } from '../../datastore/resources/kinds.ts'

export function documentHeaders(kind: ResourceKind, wide: boolean): string[] {
  return kind.columns.filter(column => wide || !column.wide).map(column => column.header)
}

/** `resource` null: empty cells. */
export function documentCells(kind: ResourceKind, resource: Resource | null, wide: boolean): string[] {
  return kind.columns
    .filter(column => wide || !column.wide)
    .map(({ field, text = cell }) => (resource === null ? '' : text(fieldOf(resource, field))))
}

function cell(value: unknown): string {
  if (value === undefined || value === null) return ''
  if (typeof value !== 'object') return String(value)
  if (Array.isArray(value)) return value.join(',')
  return Object.entries(value)
    .map(([key, each]) => `${key}=${each}`)
    .join(',')
}
