/**
 * The messages that make a pod's endpoint, each a function from values to a request in a datagram.
 *
 * Traps: the far end must not be IFF_UP in the creating message (ENOTCONN). IPv6 routes need their link up
 * (ENETDOWN). Permanent neighbour entries vanish when their link goes down, so they follow `up`.
 */
import { hostCidr, type Ip, parseIp } from '../../lib/address.ts'
import type { PodEndpointSpec } from '../kernel.ts'
import { writeAddress } from '../netlink/addresses.ts'
import * as c from '../netlink/constants.ts'
import type { Datagram } from '../netlink/datagram.ts'
import { writeLinkHeader } from '../netlink/links.ts'
import { writeNeighbour } from '../netlink/neighbours.ts'
import { writeRoute } from '../netlink/routes.ts'
import { GATEWAY, HOST_MAC, ROUTE_PROTOCOL } from '../ownership.ts'

const CREATE = c.NLM_F_CREATE | c.NLM_F_EXCL
const PUT = c.NLM_F_CREATE | c.NLM_F_REPLACE
const GATEWAY_IP = { 4: parseIp(GATEWAY[4]), 6: parseIp(GATEWAY[6]) } as const
const DEFAULT = {
  4: { family: 4, base: 0n, prefix: 0 },
  6: { family: 6, base: 0n, prefix: 0 },
} as const
/** What the kernel makes of an IPv6 route without a metric. */
const IPV6_DEFAULT_METRIC = 1024

/**
 * Both ends, down; the far one in the namespace behind `netns`. Echoes the near link. The kernel ignores an alias
 * in the creating message, so it follows by name: one datagram, which no kill can cut in two.
 */
export function writePair(request: Datagram, spec: PodEndpointSpec, netns: number): void {
  writeLinkHeader(request.reset().begin(c.RTM_NEWLINK, CREATE | c.NLM_F_ECHO), 0)
  request.attrString(c.IFLA_IFNAME, spec.hostInterface).attrMac(c.IFLA_ADDRESS, HOST_MAC)
  request.attrU32(c.IFLA_MTU, spec.mtu)
  request.nest(c.IFLA_LINKINFO).attrString(c.IFLA_INFO_KIND, 'veth')
  writeLinkHeader(request.nest(c.IFLA_INFO_DATA).nestPlain(c.VETH_INFO_PEER), 0)
  request.attrString(c.IFLA_IFNAME, spec.podInterface).attrU32(c.IFLA_MTU, spec.mtu)
  if (spec.podMac !== null) request.attrMac(c.IFLA_ADDRESS, spec.podMac)
  request.attrU32(c.IFLA_NET_NS_FD, netns).end().end().end()
  writeLinkHeader(request.begin(c.RTM_SETLINK, 0), 0)
  request.attrString(c.IFLA_IFNAME, spec.hostInterface).attrString(c.IFLA_IFALIAS, spec.alias)
}

/**
 * The host end: up with its gateway address, then for each of the pod's addresses a permanent neighbour and a
 * route. @param ipv6 whether this kernel has IPv6 at all
 */
export function writeHostEnd(
  request: Datagram,
  spec: PodEndpointSpec,
  host: { index: number; podMac: string; ipv6: boolean; withSource: boolean },
): void {
  writeLinkHeader(request.reset().begin(c.RTM_SETLINK, 0), host.index, c.IFF_UP, c.IFF_UP)
  // An ARP request from an address that is not the pod's makes no entry, whatever rp_filter says: a pod could fill
  // the node's neighbour table, which all its devices share.
  request.nest(c.IFLA_AF_SPEC).nest(c.AF_INET).nest(c.IFLA_INET_CONF)
  request.attrU32(c.IPV4_DEVCONF_ARPFILTER, 1).end().end()
  // No link-local address of its own: fe80::1 is the only one, and needs no detection.
  if (host.ipv6) request.nest(c.AF_INET6).attrU8(c.IFLA_INET6_ADDR_GEN_MODE, c.IN6_ADDR_GEN_MODE_NONE).end()
  request.end()
  const link = { index: host.index, scope: c.RT_SCOPE_LINK, nodad: true }
  if (spec.addresses.some(address => address.family === 6))
    writeAddress(request, c.RTM_NEWADDR, PUT, { ...link, address: GATEWAY_IP[6], prefix: 64 })
  if (spec.gatewayOnHostEnd)
    writeAddress(request, c.RTM_NEWADDR, PUT, { ...link, address: GATEWAY_IP[4], prefix: 32, nodad: false })
  for (const { address, routeSource } of spec.addresses) {
    const ip = parseIp(address)
    writeNeighbour(request, c.RTM_NEWNEIGH, PUT, { index: host.index, address: ip, mac: host.podMac })
    writeRoute(request, c.RTM_NEWROUTE, PUT, {
      dst: hostCidr(ip),
      type: c.RTN_UNICAST,
      scope: ip.family === 4 ? c.RT_SCOPE_LINK : c.RT_SCOPE_UNIVERSE,
      protocol: ROUTE_PROTOCOL,
      index: host.index,
      ...(host.withSource && routeSource !== null ? { src: parseIp(routeSource) } : {}),
    })
  }
}

/** The pod end: addresses, up, and the way to the gateways. */
export function writePodEnd(request: Datagram, addresses: readonly Ip[], index: number): void {
  request.reset()
  for (const address of addresses) {
    const prefix = address.family === 4 ? 32 : 128
    const fields = { index, address, prefix, scope: c.RT_SCOPE_UNIVERSE, nodad: address.family === 6 }
    writeAddress(request, c.RTM_NEWADDR, PUT, fields)
  }
  writeLinkHeader(request.begin(c.RTM_SETLINK, 0), index, c.IFF_UP, c.IFF_UP)
  for (const family of familiesOf(addresses)) writeGateway(request, family, index)
}

function writeGateway(request: Datagram, family: 4 | 6, index: number): void {
  const gateway = GATEWAY_IP[family]
  writeNeighbour(request, c.RTM_NEWNEIGH, PUT, { index, address: gateway, mac: HOST_MAC })
  // APPEND: a second network of ours in the same pod has the same gateway on its own link.
  const add = family === 4 ? c.NLM_F_CREATE | c.NLM_F_APPEND : CREATE
  const route = { type: c.RTN_UNICAST, protocol: ROUTE_PROTOCOL, index }
  if (family === 4)
    writeRoute(request, c.RTM_NEWROUTE, add, { ...route, dst: hostCidr(gateway), scope: c.RT_SCOPE_LINK })
  writeRoute(request, c.RTM_NEWROUTE, add, {
    ...route,
    dst: DEFAULT[family],
    scope: c.RT_SCOPE_UNIVERSE,
    gateway,
  })
}

/**
 * An IPv6 default route beside another network's: of a metric of its own, since the kernel would join two of
 * one metric into a multipath route.
 */
export function writeSecondDefault6(request: Datagram, index: number): void {
  writeRoute(request.reset(), c.RTM_NEWROUTE, CREATE, {
    dst: DEFAULT[6],
    type: c.RTN_UNICAST,
    scope: c.RT_SCOPE_UNIVERSE,
    protocol: ROUTE_PROTOCOL,
    index,
    gateway: GATEWAY_IP[6],
    metric: IPV6_DEFAULT_METRIC + index,
  })
}

/** A link down, and then without these addresses. */
export function writeDown(request: Datagram, index: number, addresses: readonly Ip[]): void {
  writeLinkHeader(request.reset().begin(c.RTM_SETLINK, 0), index, 0, c.IFF_UP)
  for (const address of addresses) {
    const prefix = address.family === 4 ? 32 : 128
    const fields = { index, address, prefix, scope: c.RT_SCOPE_UNIVERSE, nodad: false }
    writeAddress(request, c.RTM_DELADDR, 0, fields)
  }
}

export function writeGroup(request: Datagram, index: number, group: number): void {
  writeLinkHeader(request.reset().begin(c.RTM_SETLINK, 0), index).attrU32(c.IFLA_GROUP, group)
}

function familiesOf(addresses: readonly Ip[]): (4 | 6)[] {
  return ([4, 6] as const).filter(family => addresses.some(address => address.family === family))
}
