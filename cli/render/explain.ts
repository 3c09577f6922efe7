/** A field of a kind for people: what it is, what may stand there, and what is inside it. */
import { renderTable } from './table.ts'

export interface Field {
  /** Dotted; '' is the whole document. */
  readonly path: string
  readonly type: string
  readonly required: boolean
  readonly description: string
  /** The only ones possible; [] where there is no such list. */
  readonly values: readonly unknown[]
  /** undefined: none. */
  readonly default: unknown
  readonly members: readonly Field[]
}

export function renderField(kind: string, version: string, field: Field): string {
  const head = [
    `KIND:     ${kind}`,
    `VERSION:  ${version}`,
    ...(field.path === '' ? [] : [`FIELD:    ${field.path} <${field.type}>${note(field)}`]),
  ]
  const meaning = meaningOf(field)
  const rows = field.members.map(each => [each.path, `<${each.type}>${note(each)}`, meaningOf(each)])
  return [
    `${head.join('\n')}\n`,
    ...(meaning === '' ? [] : [`${meaning}\n`]),
    ...(rows.length === 0 ? [] : [renderTable(['FIELD', 'TYPE', 'MEANING'], rows)]),
  ].join('\n')
}

const note = ({ required }: Field): string => (required ? ' required' : '')

function meaningOf({ description, values, default: preset }: Field): string {
  return [
    description,
    ...(values.length > 1 ? [`One of ${values.join(', ')}.`] : []),
    ...(preset === undefined || isEmptyObject(preset) ? [] : [`Default ${JSON.stringify(preset)}.`]),
  ]
    .filter(part => part !== '')
    .join(' ')
}

const isEmptyObject = (value: unknown): boolean =>
  typeof value === 'object' && value !== null && Object.keys(value).length === 0
