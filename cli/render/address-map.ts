/** `ipam show` for people. */
import type { Holders, ShownAddress, ShownPart, ShownPool } from '../address-map.ts'
import { renderTable } from './table.ts'

const BAR = 16

/** "[####............] 25%": anything held shows at least one mark. */
export function fill(held: number, size: bigint): string {
  const marks = held === 0 ? 0 : Math.max(1, Number((BigInt(held) * BigInt(BAR)) / size))
  const percent = Number((BigInt(held) * 1000n) / size) / 10
  const text = held > 0 && percent < 0.1 ? '<0.1' : String(percent)
  return `[${'#'.repeat(marks).padEnd(BAR, '.')}] ${text}%`
}

export function poolMap(pools: readonly ShownPool[]): string {
  return renderTable(
    ['POOL', 'CIDR', 'STATE', 'SLOTS', 'PARTS', 'NODES', 'OWNED', 'HELD', 'OF ALL'],
    pools.map(each => [
      each.pool,
      each.cidr,
      each.state,
      each.slots,
      String(each.parts),
      String(each.nodes),
      each.owned,
      String(each.held),
      fill(each.held, BigInt(each.addresses)),
    ]),
  )
}

export function partMap(parts: readonly ShownPart[]): string {
  return renderTable(
    ['POOL', 'SLOT', 'PART', 'NODE', 'GENERATION', 'STATE', 'HELD', 'FILL'],
    parts.map(each => [
      each.pool,
      each.slot,
      each.part,
      each.node ?? '',
      String(each.generation),
      each.state,
      `${each.held}/${each.addresses}`,
      fill(each.held, BigInt(each.addresses)),
    ]),
  )
}

export function holderTables({ holders, before }: Holders): string {
  const tables: string[] = []
  if (holders.length > 0)
    tables.push(
      renderTable(
        ['ADDRESS', 'POD', 'CONTAINER', 'INTERFACE', 'NODE', 'SINCE'],
        holders.map(each => [
          each.address,
          each.kind === 'tunnel' ? '(tunnel of the node)' : (each.pod ?? ''),
          each.container.slice(0, 13),
          each.interface,
          each.node,
          each.since,
        ]),
      ),
    )
  if (before.length > 0)
    tables.push(
      renderTable(
        ['BEFORE', 'POD', 'NODE', 'SINCE', 'UNTIL'],
        before.map(each => [each.address, each.pod ?? '', each.node, each.since, each.until]),
      ),
    )
  return tables.length === 0 ? 'nobody, and nobody lately\n' : tables.join('\n')
}

export function addressText(shown: ShownAddress): string {
  const { part, withheld } = shown
  const owner = part.node === null ? 'free' : `of ${part.node}${part.state === 'Fenced' ? ', fenced' : ''}`
  const where = `${shown.address}: pool ${shown.pool}, slot ${shown.slot}, part ${part.part} (${owner})\n`
  const kept = withheld === null ? '' : `never handed out: ${withheld}\n`
  return `${where}${kept}\n${holderTables(shown)}`
}
