/** `ipam check` for people: each disagreement with what it is, since when, and what would mend it. */
import type { AuditReport, ReportedFinding } from '../../daemon/api/types.ts'
import { counted } from '../../lib/plural.ts'
import type { Answer } from '../answer.ts'
import type { Colours } from './colours.ts'

export interface CheckedDatastore {
  readonly compared: { readonly slots: number; readonly ledgers: number; readonly addresses: number }
  readonly findings: readonly (ReportedFinding & { readonly node: string | null })[]
}

export function renderCheck(
  daemon: Answer<AuditReport>,
  datastore: Answer<CheckedDatastore>,
  colours: Colours,
): string {
  return [
    daemon.ok
      ? section(daemonTitle(daemon.value), daemon.value.findings, colours)
      : away('This node', daemon.reason, colours),
    datastore.ok
      ? section(datastoreTitle(datastore.value), datastore.value.findings, colours)
      : away('Datastore', datastore.reason, colours),
  ].join('\n')
}

const away = (what: string, reason: string, colours: Colours): string =>
  `${what}: ${colours.red('not compared')}: ${reason}\n`

function daemonTitle({ node, compared, runtime }: AuditReport): string {
  const { attachments, addresses } = compared
  return `Node ${node}: ${counted(attachments, 'attachment')} and ${addressesOf(addresses)} compared, runtime: ${runtime}`
}

function datastoreTitle({ compared: { slots, ledgers, addresses } }: CheckedDatastore): string {
  return `Datastore: ${counted(slots, 'slot')}, ${counted(ledgers, 'ledger')} and ${addressesOf(addresses)} compared`
}

const addressesOf = (count: number): string => (count === 1 ? '1 address' : `${count} addresses`)

function section(title: string, findings: readonly ReportedFinding[], colours: Colours): string {
  if (findings.length === 0) return `${title}: ${colours.green('all agrees')}\n`
  const count = counted(findings.length, 'disagreement')
  return `${title}: ${colours.yellow(count)}\n${findings.map(each => entry(each, colours)).join('')}`
}

const REPAIR = {
  yes: ' (repair mends it)',
  later: ' (repair mends it after the grace period)',
  no: '',
} as const

function entry({ kind, object, message, since, mend, repair }: ReportedFinding, colours: Colours): string {
  return [
    `  ${colours.yellow(kind)}  ${object}${since === null ? '' : `, since ${since}`}`,
    `      ${message}`,
    `      mend: ${mend}${REPAIR[repair]}\n`,
  ].join('\n')
}
