/** Pools as a table and as the status of their JSON. */
import { kindNamed } from '../../datastore/resources/kinds.ts'
import { parseCidr, sizeOf } from '../../lib/address.ts'
import type { KnownPool } from '../pools.ts'
import { type Occupancy, type Usage, usageOf } from '../usage.ts'
import { documentCells, documentHeaders } from './columns.ts'
import { renderTable } from './table.ts'

export function poolTable(pools: readonly KnownPool[], occupancy: Occupancy, wide: boolean): string {
  const kind = kindNamed('ippool')!
  const headers = ['NAME', ...documentHeaders(kind, wide), 'USED', 'PARTS', 'NODES', 'STATE']
  const rows = pools.map(pool => {
    const usage = usageOfPool(pool, occupancy)
    return [
      pool.resource.metadata.name,
      ...documentCells(kind, pool.resource, wide),
      fill(usage.held, sizeOfPool(pool)),
      String(usage.parts),
      String(usage.owners.size),
      pool.state,
    ]
  })
  return renderTable(headers, rows)
}

/** Numbers of addresses are decimal text: an IPv6 pool holds more than a JSON number does. */
export function poolStatus(pool: KnownPool, occupancy: Occupancy): object {
  const usage = usageOfPool(pool, occupancy)
  return {
    state: pool.state,
    addresses: String(sizeOfPool(pool)),
    claimed: String(usage.claimed),
    held: usage.held,
    parts: usage.parts,
    nodes: usage.owners.size,
  }
}

function usageOfPool(pool: KnownPool, occupancy: Occupancy): Usage {
  return usageOf(occupancy, pool.resource.metadata.uid ?? '', null)
}

const sizeOfPool = ({ entered }: KnownPool) => sizeOf(parseCidr(entered.spec.cidr))

/** "37/65536 (0.1%)"; an IPv6 pool's size as a power of two. */
function fill(held: number, size: bigint): string {
  if (size > 1n << 32n) return `${held}/2^${size.toString(2).length - 1}`
  const percent = (100 * held) / Number(size)
  return `${held}/${size} (${percent > 0 && percent < 0.1 ? '<0.1' : Number(percent.toFixed(1))}%)`
}
