/** Nodes as a table and as the status of their JSON. */
import { kindNamed, type Resource } from '../../datastore/resources/kinds.ts'
import { API_VERSION } from '../../datastore/resources/metadata.ts'
import { type KnownNode, labelsOf, stateOf } from '../nodes.ts'
import { type Occupancy, type Usage, usageOf } from '../usage.ts'
import { documentCells, documentHeaders } from './columns.ts'
import { renderTable } from './table.ts'

export function nodeTable(nodes: readonly KnownNode[], occupancy: Occupancy, wide: boolean): string {
  const kind = kindNamed('node')!
  const headers = ['NAME', 'STATE', 'UNDERLAY', 'TUNNEL', 'PARTS', 'HELD']
  const more = ['UID', 'VTEP', ...documentHeaders(kind, true)]
  const rows = nodes.map(node => [
    ...commonCells(node, usageOfNode(node, occupancy)),
    ...(wide ? [uidOf(node) ?? '', vteps(node), ...documentCells(kind, labelled(node), true)] : []),
  ])
  return renderTable(wide ? [...headers, ...more] : headers, rows)
}

function commonCells(node: KnownNode, usage: Usage): string[] {
  return [
    node.name,
    stateOf(node),
    perFamily(node.record?.underlay).join(','),
    perFamily(node.record?.tunnel).join(','),
    String(usage.parts),
    String(usage.held),
  ]
}

export function nodeStatus(node: KnownNode, occupancy: Occupancy): object {
  const usage = usageOfNode(node, occupancy)
  return {
    state: stateOf(node),
    labels: labelsOf(node),
    uid: uidOf(node),
    incarnation: node.record?.incarnation ?? null,
    underlay: perFamily(node.record?.underlay),
    tunnel: perFamily(node.record?.tunnel),
    hostAddresses: node.record?.hostAddresses ?? [],
    vteps: node.record?.vteps ?? [],
    parts: usage.parts,
    claimed: String(usage.claimed),
    held: usage.held,
  }
}

/** What the operator wrote, with all its labels. */
function labelled(node: KnownNode): Resource {
  const metadata = { ...node.resource?.metadata, name: node.name, labels: { ...labelsOf(node) } }
  return { apiVersion: API_VERSION, kind: 'Node', metadata, spec: {} }
}

const uidOf = (node: KnownNode) => node.record?.uid ?? node.identities[0]?.uid ?? null

function usageOfNode(node: KnownNode, occupancy: Occupancy): Usage {
  // A node without identity owns nothing; null would mean all of them.
  return usageOf(occupancy, null, uidOf(node) ?? '')
}

function perFamily(addresses: { '4'?: string | undefined; '6'?: string | undefined } | undefined): string[] {
  return [addresses?.['4'], addresses?.['6']].filter(address => address !== undefined)
}

function vteps(node: KnownNode): string {
  return (node.record?.vteps ?? []).map(({ mac, vni, port }) => `${mac} vni ${vni} port ${port}`).join(',')
}
