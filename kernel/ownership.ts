/**
 * How a daemon that remembers nothing recognises a kernel object as Twill's. Decided before the first object
 * of a kind is created; a kind without a line here must not be created.
 *
 * | object | ours when |
 * |---|---|
 * | pod's host link | name begins with POD_LINK_PREFIX and alias with POD_ALIAS_PREFIX |
 * | VXLAN device | name is VXLAN_LINK[family] and alias VXLAN_ALIAS |
 * | link awaiting deletion | in link group REAP_GROUP and alias with POD_ALIAS_PREFIX |
 * | route | protocol ROUTE_PROTOCOL |
 * | neighbour, FDB entry | on one of our links |
 * | address | on one of our links; on lo: GATEWAY_V4 |
 * | nftables | everything in table inet NFT_TABLE |
 * | iptables | chains IPTABLES_CHAINS and the jumps into them |
 */
import type { Family } from '../lib/address.ts'

/** rtnetlink.h leaves 84 unassigned. */
export const ROUTE_PROTOCOL = 84
export const POD_LINK_PREFIX = 'twl'
export const POD_ALIAS_PREFIX = 'twill:pod:'
/** Not beginning with POD_LINK_PREFIX, so that iifname "twl*" means pods only. */
export const VXLAN_LINK: Readonly<Record<Family, string>> = { 4: 'twill-vx4', 6: 'twill-vx6' }
export const VXLAN_ALIAS = 'twill:vxlan'
export const REAP_GROUP = 0x54574c
export const NFT_TABLE = 'twill'
export const IPTABLES_CHAINS = { forward: 'TWILL-FORWARD', input: 'TWILL-INPUT' } as const

/** One MAC on every pod's host end: "TWILL" behind a locally administered octet. */
export const HOST_MAC = '02:54:57:49:4c:4c'
/** What pods have as their default gateway. */
export const GATEWAY: Readonly<Record<Family, string>> = { 4: '169.254.1.1', 6: 'fe80::1' }

export const VXLAN_OVERHEAD: Readonly<Record<Family, number>> = { 4: 50, 6: 70 }
