/**
 * Node records that routes can be made of. Another node's record is another's word: one that holds what is no
 * address must not keep this node from routing to the others, so it is left out.
 */
import type { NodeRecord } from '../datastore/records/node.ts'
import { parseIp, parseMac } from '../lib/address.ts'

export function soundNodes(nodes: readonly NodeRecord[]): readonly NodeRecord[] {
  return nodes.filter(isSound)
}

function isSound({ underlay, tunnel, hostAddresses, vteps }: NodeRecord): boolean {
  const addresses = [...Object.values(underlay), ...Object.values(tunnel), ...hostAddresses]
  try {
    for (const address of addresses) if (address !== undefined) parseIp(address)
    for (const { mac } of vteps) parseMac(mac)
    return true
  } catch {
    return false
  }
}
