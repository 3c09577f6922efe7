/** What a node's VTEP is made of: a MAC from the node's identity and an MTU from its underlay. Pure. */
import { createHash } from 'node:crypto'
import { VXLAN_OVERHEAD } from '../../kernel/ownership.ts'
import type { Family } from '../../lib/address.ts'

/** IANA, RFC 7348 section 5. */
export const VXLAN_PORT = 4789

/**
 * MAC of a node's VTEPs, from its UID: the same after every restart, another one for a machine that took over
 * the name, so that a peer's stale entry cannot lead to the wrong node. Unicast, locally administered (IEEE 802).
 */
export function vtepMac(nodeUid: string): string {
  const octets = createHash('sha256').update(`twill vtep ${nodeUid}`).digest().subarray(0, 6)
  octets[0] = (octets[0]! & 0xfc) | 0x02
  return [...octets].map(octet => octet.toString(16).padStart(2, '0')).join(':')
}

/** Bytes that fit through VXLAN over an underlay of this MTU (RFC 7348: outer IP, UDP, VXLAN, inner Ethernet). */
export function tunnelMtu(underlayMtu: number, underlayFamily: Family): number {
  return underlayMtu - VXLAN_OVERHEAD[underlayFamily]
}

/**
 * A pod's MTU: the smallest of its paths. `underlays` are those that carry an overlay pool; without any the
 * path is the uplink itself, whose MTU is `directMtu`.
 */
export function podMtu(underlays: readonly { family: Family; mtu: number }[], directMtu: number): number {
  return Math.min(directMtu, ...underlays.map(({ mtu, family }) => tunnelMtu(mtu, family)))
}
