/**
 * Routes: struct rtmsg { u8 family · u8 dst_len · u8 src_len · u8 tos · u8 table · u8 protocol · u8 scope ·
 * u8 type · u32 flags } and RTA_…  Own codec: a node has a route per block part and pod, and reads them often.
 *
 * Traps: RTA_TABLE overrides the header's eight bits. IPv6 gives metric 0 the value 1024. A delete with scope
 * NOWHERE matches any scope.
 */
import { type Cidr, formatIp, type Ip } from '../../lib/address.ts'
import type { Route, RouteType } from '../kernel.ts'
import { forEachAttribute, readIp } from './attributes.ts'
import * as c from './constants.ts'
import type { Datagram } from './datagram.ts'
import { failedWith } from './libc.ts'
import type { NetlinkMessage, NetlinkSocket } from './socket.ts'

const TYPES: ReadonlyMap<number, RouteType> = new Map([
  [c.RTN_UNICAST, 'unicast'],
  [c.RTN_LOCAL, 'local'],
  [c.RTN_BROADCAST, 'broadcast'],
  [c.RTN_BLACKHOLE, 'blackhole'],
  [c.RTN_UNREACHABLE, 'unreachable'],
])

const LEADS_NOWHERE: ReadonlySet<RouteType> = new Set(['blackhole', 'unreachable'])

export interface RouteFields {
  readonly dst: Cidr
  /** RTN_… */
  readonly type: number
  readonly scope: number
  readonly protocol: number
  readonly index?: number
  readonly gateway?: Ip
  readonly src?: Ip
  readonly metric?: number
  readonly onlink?: boolean
  readonly mtu?: number
}

/** RTM_NEWROUTE or RTM_DELROUTE in the main table. */
export function writeRoute(request: Datagram, type: number, flags: number, route: RouteFields): Datagram {
  request.begin(type, flags)
  request.u8(route.dst.family === 4 ? c.AF_INET : c.AF_INET6).u8(route.dst.prefix)
  request.u8(0).u8(0).u8(c.RT_TABLE_MAIN).u8(route.protocol).u8(route.scope).u8(route.type)
  request.u32(route.onlink ? c.RTNH_F_ONLINK : 0)
  if (route.dst.prefix > 0) request.attrIp(c.RTA_DST, { family: route.dst.family, value: route.dst.base })
  if (route.index !== undefined) request.attrU32(c.RTA_OIF, route.index)
  if (route.gateway !== undefined) request.attrIp(c.RTA_GATEWAY, route.gateway)
  if (route.src !== undefined) request.attrIp(c.RTA_PREFSRC, route.src)
  if (route.metric) request.attrU32(c.RTA_PRIORITY, route.metric)
  if (route.mtu) request.nest(c.RTA_METRICS).attrU32(c.RTAX_MTU, route.mtu).end()
  return request
}

function writeDumpRoutes(request: Datagram, family: number, table: number, protocol: number): Datagram {
  request.reset().begin(c.RTM_GETROUTE, 0)
  request
    .u8(family)
    .u8(0)
    .u8(0)
    .u8(0)
    .u8(table < 256 ? table : c.RT_TABLE_UNSPEC)
  return request.u8(protocol).u8(0).u8(0).u32(0).attrU32(c.RTA_TABLE, table)
}

/** The kernel's own decision for a destination. */
export function writeLookupRoute(request: Datagram, destination: Ip): Datagram {
  const v4 = destination.family === 4
  request
    .reset()
    .begin(c.RTM_GETROUTE, 0)
    .u8(v4 ? c.AF_INET : c.AF_INET6)
    .u8(v4 ? 32 : 128)
  return request.u16(0).u32(0).u32(0).attrIp(c.RTA_DST, destination)
}

/** null for another family's. */
export function readRoute(message: NetlinkMessage, nameOf: (index: number) => string | null): Route | null {
  const { bytes, start, end } = message
  const family = bytes[start] === c.AF_INET ? 4 : bytes[start] === c.AF_INET6 ? 6 : null
  if (family === null) return null
  const found = readRouteAttributes(bytes, start + 12, end)
  const flags = bytes.readUInt32LE(start + 8)
  const type = TYPES.get(bytes[start + 7] as number) ?? 'other'
  return {
    family,
    dst: `${found.dst ?? (family === 4 ? '0.0.0.0' : '::')}/${bytes[start + 1]}`,
    type,
    // IPv6 says lo where a route leads nowhere, IPv4 nothing.
    device: found.index === 0 || LEADS_NOWHERE.has(type) ? null : nameOf(found.index),
    gateway: found.gateway,
    src: found.src,
    metric: found.metric,
    protocol: bytes[start + 5] as number,
    table: found.table || (bytes[start + 4] as number),
    scope: bytes[start + 6] as number,
    onlink: (flags & c.RTNH_F_ONLINK) !== 0,
    mtu: found.mtu,
  }
}

type ReadRoute = (message: NetlinkMessage) => Route | null

/**
 * Both families' routes of one table, and of one protocol unless 0. @throws TwillError kernel.failed
 * @param restricted what to keep of them, decided before a route is read
 */
export function dumpRoutes(
  socket: NetlinkSocket,
  request: Datagram,
  filter: { table: number; protocol: number },
  nameOf: (index: number) => string | null,
  restricted: (read: ReadRoute) => ReadRoute = read => read,
): Route[] {
  return [c.AF_INET, c.AF_INET6].flatMap(family => {
    writeDumpRoutes(request, family, filter.table, filter.protocol)
    try {
      return socket.dump(
        'read routes',
        request,
        restricted(message => (isCloned(message) ? null : readRoute(message, nameOf))),
      )
    } catch (error) {
      // A table comes to be with its first route.
      if (failedWith(error, 'ENOENT')) return []
      throw error
    }
  })
}

/** Dumps hold IPv6 exceptions as cloned entries; they are nobody's routes. */
function isCloned(message: NetlinkMessage): boolean {
  return (message.bytes.readUInt32LE(message.start + 8) & c.RTM_F_CLONED) !== 0
}

function readRouteAttributes(bytes: Buffer, start: number, end: number) {
  const found = {
    dst: null as string | null,
    index: 0,
    gateway: null as string | null,
    src: null as string | null,
    metric: 0,
    table: 0,
    mtu: null as number | null,
  }
  forEachAttribute(bytes, start, end, (type, payload) => {
    if (type === c.RTA_DST) found.dst = formatIp(readIp(payload))
    else if (type === c.RTA_OIF) found.index = payload.readUInt32LE(0)
    else if (type === c.RTA_GATEWAY) found.gateway = formatIp(readIp(payload))
    else if (type === c.RTA_PREFSRC) found.src = formatIp(readIp(payload))
    else if (type === c.RTA_PRIORITY) found.metric = payload.readUInt32LE(0)
    else if (type === c.RTA_TABLE) found.table = payload.readUInt32LE(0)
    else if (type === c.RTA_METRICS)
      forEachAttribute(payload, 0, payload.length, (metric, value) => {
        if (metric === c.RTAX_MTU) found.mtu = value.readUInt32LE(0)
      })
  })
  return found
}
