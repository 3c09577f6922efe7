/**
 * The overlay of one node, as kernel objects: device, tunnel addresses, and for every peer a neighbour entry,
 * an FDB entry and a route per part (RFC 7348; docs/overlay.md draws it). Pure.
 *
 * Invariant: what is in an overlay pool leads to its owner through the tunnel, to a pod here, or nowhere; it
 * never falls through to the default route.
 * Trap: a next hop must be of the route's family, so a peer's IPv6 parts need its IPv6 tunnel address, although
 * the packets travel over IPv4. Its neighbour entry names the same VTEP MAC.
 */
import type { NodeRecord } from '../../datastore/records/node.ts'
import type { IPPool } from '../../datastore/resources/ippool.ts'
import { VXLAN_ALIAS, VXLAN_LINK } from '../../kernel/ownership.ts'
import {
  bitsOf,
  contains,
  type Family,
  formatCidr,
  formatIp,
  type Ip,
  parseCidr,
  parseIp,
  parseMac,
} from '../../lib/address.ts'
import { isOverlay, type OwnedPart, partsByOwner } from '../parts.ts'
import {
  BLACKHOLE_METRIC,
  DEFAULT_METRIC,
  type DesiredAddress,
  type DesiredFdbEntry,
  type DesiredLink,
  type DesiredNeighbour,
  type DesiredRoute,
  type DesiredSysctl,
  POOL_METRIC,
  type RoutingState,
  SCOPE,
} from '../state.ts'
import { tunnelMtu } from './vtep.ts'

export interface Underlay {
  readonly address: string
  readonly device: string
  /** Bytes. */
  readonly mtu: number
}

/** This node, as far as the overlay knows it. */
export interface OverlayNode {
  readonly uid: string
  readonly underlay: Partial<Record<Family, Underlay>>
  readonly vtep: { readonly mac: string; readonly vni: number; readonly port: number }
  /** Own addresses on the overlay, one of each pod family; absent until one was allocated. */
  readonly tunnel: Partial<Record<Family, string>>
  /** What the device answers for besides, while one address replaces another; absent: nothing. */
  readonly besideTunnel?: readonly { readonly family: Family; readonly address: string }[]
}

/** The overlay runs over IPv4 only for now: `vteps` of records may name IPv6 ones, which are left alone. */
const UNDERLAY_FAMILY: Family = 4
const DEVICE = VXLAN_LINK[UNDERLAY_FAMILY]

interface Peer {
  readonly underlay: string
  readonly mac: string
  /** Only addresses inside the peer's own parts: another's word about them is stale. */
  readonly tunnel: Partial<Record<Family, string>>
  readonly parts: readonly OwnedPart[]
}

/**
 * @param nodes sound ones (routing/nodes.ts)
 *
 * Without an overlay pool, or an IPv4 address for the tunnel's near end, only what must not leak is
 * desired.
 */
export function overlayState(
  self: OverlayNode,
  nodes: readonly NodeRecord[],
  pools: readonly IPPool[],
  parts: readonly OwnedPart[],
): RoutingState {
  const underlay = self.underlay[UNDERLAY_FAMILY]
  const overlayPools = pools.filter(isOverlay)
  const own = [...ownBlackholes(self.uid, parts), ...poolBarriers(overlayPools)]
  if (underlay === undefined || overlayPools.length === 0) return { ...EMPTY, routes: own }
  const peers = peersOf(self.uid, nodes, parts)
  return {
    links: [device(self, underlay)],
    addresses: tunnelAddresses(self),
    routes: [...peers.flatMap(peer => partRoutes(peer, self)), ...own],
    neighbours: peers.flatMap(peerNeighbours),
    fdb: fdbEntries(peers),
    sysctls: deviceSysctls(overlayPools),
  }
}

const EMPTY: RoutingState = { links: [], addresses: [], routes: [], neighbours: [], fdb: [], sysctls: [] }

function device({ vtep }: OverlayNode, underlay: Underlay): DesiredLink {
  return {
    name: DEVICE,
    mac: vtep.mac,
    mtu: tunnelMtu(underlay.mtu, UNDERLAY_FAMILY),
    alias: VXLAN_ALIAS,
    vxlan: {
      vni: vtep.vni,
      port: vtep.port,
      local: formatIp(parseIp(underlay.address)),
      underlay: underlay.device,
      learning: false,
    },
  }
}

/** Without duplicate detection: while an IPv6 address is tentative no route may name it as source. */
function tunnelAddresses({ tunnel, besideTunnel = [] }: OverlayNode): DesiredAddress[] {
  const beside = besideTunnel.map(({ family, address }) => [family, formatIp(parseIp(address))] as const)
  return [...entriesOf(tunnel), ...beside].map(([family, address]) => ({
    device: DEVICE,
    family,
    address,
    prefix: bitsOf(family),
    scope: SCOPE.global,
    nodad: true,
  }))
}

/**
 * A device inherits conf.default, where somebody may have switched forwarding or IPv6 off. It gets no link-local
 * address (addr_gen_mode 1): nobody is asked through it, and detection of duplicates would go to no peer.
 */
function deviceSysctls(pools: readonly IPPool[]): DesiredSysctl[] {
  const v6 = [
    { path: `net/ipv6/conf/${DEVICE}/disable_ipv6`, value: '0' },
    { path: `net/ipv6/conf/${DEVICE}/addr_gen_mode`, value: '1' },
  ]
  return [
    { path: `net/ipv4/conf/${DEVICE}/forwarding`, value: '1' },
    ...(pools.some(({ spec }) => parseCidr(spec.cidr).family === 6) ? v6 : []),
  ]
}

/** Peers with an IPv4 VTEP. One UID counts once, whatever stale records say, and one that leads nowhere not beside another. */
function peersOf(ownUid: string, nodes: readonly NodeRecord[], parts: readonly OwnedPart[]): Peer[] {
  const byOwner = partsByOwner(parts.filter(({ overlay }) => overlay))
  const reachable = nodes.filter(({ underlay }) => underlay[UNDERLAY_FAMILY] !== undefined)
  const byUid = new Map(reachable.map(node => [node.uid, node]))
  return [...byUid.values()].flatMap(node => {
    const underlay = node.underlay[UNDERLAY_FAMILY]
    const vtep = node.vteps.find(({ family }) => family === UNDERLAY_FAMILY)
    if (node.uid === ownUid || underlay === undefined || vtep === undefined) return []
    const owned = byOwner.get(node.uid) ?? []
    const tunnel = ownTunnels(node, owned)
    return [{ underlay: formatIp(parseIp(underlay)), mac: parseMac(vtep.mac), tunnel, parts: owned }]
  })
}

function ownTunnels(node: NodeRecord, parts: readonly OwnedPart[]): Partial<Record<Family, string>> {
  const held = entriesOf(node.tunnel).filter(([, address]) => {
    const ip: Ip = parseIp(address)
    return parts.some(part => contains(part.cidr, ip))
  })
  return Object.fromEntries(held)
}

/** The next hop is the peer's tunnel address, reached without a route to it: its part's route is this one. */
function partRoutes(peer: Peer, self: OverlayNode): DesiredRoute[] {
  return peer.parts.flatMap(({ cidr }) => {
    const gateway = peer.tunnel[cidr.family]
    if (gateway === undefined) return []
    const { family } = cidr
    const src = self.tunnel[family]
    return [
      {
        family,
        dst: formatCidr(cidr),
        type: 'unicast' as const,
        device: DEVICE,
        gateway,
        ...(src === undefined ? {} : { src: formatIp(parseIp(src)) }),
        metric: DEFAULT_METRIC[family],
        scope: SCOPE.global,
        onlink: true,
      },
    ]
  })
}

function peerNeighbours(peer: Peer): DesiredNeighbour[] {
  return entriesOf(peer.tunnel).map(([family, address]) => ({
    device: DEVICE,
    family,
    address,
    mac: peer.mac,
  }))
}

/** Two records may claim one MAC (a stale one beside its successor's): the one that owns parts is meant. */
function fdbEntries(peers: readonly Peer[]): DesiredFdbEntry[] {
  const byMac = new Map<string, Peer>()
  for (const peer of peers) {
    const other = byMac.get(peer.mac)
    if (other === undefined || other.parts.length < peer.parts.length) byMac.set(peer.mac, peer)
  }
  return [...byMac.values()].map(({ mac, underlay }) => ({ device: DEVICE, mac, dst: underlay }))
}

/** Addresses of our own parts that no pod holds die here, whatever the encapsulation. */
function ownBlackholes(ownUid: string, parts: readonly OwnedPart[]): DesiredRoute[] {
  return parts
    .filter(part => part.owner === ownUid)
    .map(({ cidr }) => ({
      family: cidr.family,
      dst: formatCidr(cidr),
      type: 'blackhole',
      metric: BLACKHOLE_METRIC,
    }))
}

/** Addresses of an overlay pool that no node claims die here and not in the underlay's default route. */
function poolBarriers(pools: readonly IPPool[]): DesiredRoute[] {
  return pools.map(({ spec }) => {
    const cidr = parseCidr(spec.cidr)
    return { family: cidr.family, dst: formatCidr(cidr), type: 'unreachable', metric: POOL_METRIC }
  })
}

function entriesOf(addresses: Partial<Record<Family, string>>): [Family, string][] {
  return ([4, 6] as const).flatMap(family => {
    const text = addresses[family]
    return text === undefined ? [] : [[family, formatIp(parseIp(text))] satisfies [Family, string]]
  })
}
