/**
 * From facts to the kernel state this node should have. Pure: equal facts give equal states, and facts that are the same
 * objects as before give the same objects, without their being worked out again.
 *
 * Before the facts are known only this node's own pods are desired; before they are complete the plan deletes and
 * replaces nothing of the overlay: it stays as the previous daemon left it.
 */
import { isDeepStrictEqual } from 'node:util'
import { formatCidr, hostCidr, parseCidr, parseIp } from '../../lib/address.ts'
import { soundNodes } from '../../routing/nodes.ts'
import { isOverlay, isRouted, ownedParts } from '../../routing/parts.ts'
import type { DesiredRoute, DesiredSysctl, RoutingState } from '../../routing/state.ts'
import { overlayState } from '../../routing/vxlan/desired.ts'
import { podMtu } from '../../routing/vxlan/vtep.ts'
import type { Facts } from './facts.ts'
import { gatewayOnHostEnds, gatewayV4, heldBy, isIdle, podObjects, routeSource } from './pods.ts'
import type { DesiredState } from './state.ts'

export function desired(facts: Facts): DesiredState {
  const { self } = facts
  const sources = { 4: routeSource(self, 4), 6: routeSource(self, 6) }
  const around = { sources, gatewayOnHostEnds: gatewayOnHostEnds(self) }
  const pods = facts.attachments.filter(isIdle).map(each => podObjects(each, around))
  const overlay = facts.known ? overlayOf(facts) : NOTHING
  const v6 = forwardsIpv6(facts)
  return {
    known: facts.known,
    complete: facts.complete,
    vitals: self.vitals ?? [],
    links: overlay.links,
    hostEnds: pods.map(({ hostEnd }) => hostEnd),
    addresses: [gatewayV4('lo'), ...overlay.addresses, ...pods.flatMap(({ addresses }) => addresses)],
    routes: withoutVitals(uniqueRoutes([...overlay.routes, ...pods.flatMap(({ routes }) => routes)]), self),
    neighbours: [...overlay.neighbours, ...pods.flatMap(({ neighbours }) => neighbours)],
    fdb: overlay.fdb,
    sysctls: [...forwarding(v6), ...overlay.sysctls],
    held: heldBy(facts.attachments.filter(each => !isIdle(each))),
    forwardsIpv6: v6,
  }
}

/** MTU in bytes of a pod with addresses from these pools: the smallest of its paths. The node has an underlay. */
export function attachmentMtu(facts: Pick<Facts, 'self' | 'pools'>, poolUids: readonly string[]): number {
  const uplinks = Object.values(facts.self.underlay).map(({ mtu }) => mtu)
  const v4 = facts.self.underlay[4]
  const pools = facts.pools.filter(({ metadata: { uid } }) => poolUids.includes(uid ?? ''))
  const tunnels = v4 !== undefined && pools.some(isOverlay) ? [{ family: 4 as const, mtu: v4.mtu }] : []
  return podMtu(tunnels, Math.min(...uplinks))
}

const NOTHING: RoutingState = { links: [], addresses: [], routes: [], neighbours: [], fdb: [], sysctls: [] }

/** By the slots it was made of, which change more often than all else in it, and far less often than pods. */
const overlays = new WeakMap<
  Facts['slots'],
  Pick<Facts, 'self' | 'nodes' | 'pools'> & { state: RoutingState }
>()

function overlayOf({ self, nodes, pools, slots }: Facts): RoutingState {
  const last = overlays.get(slots)
  if (last?.nodes === nodes && last.pools === pools && isDeepStrictEqual(last.self, self)) return last.state
  const state = overlayState(self, soundNodes(nodes), pools, ownedParts(slots, pools))
  overlays.set(slots, { self, nodes, pools, state })
  return state
}

/** IPv6 is forwarded only where a pool or a pod needs it: it changes how uplinks treat advertisements. */
function forwardsIpv6({ pools, attachments }: Facts): boolean {
  const pods = attachments.some(({ addresses }) => addresses.some(({ family }) => family === 6))
  return pods || pools.filter(isRouted).some(({ spec }) => parseCidr(spec.cidr).family === 6)
}

function forwarding(v6: boolean): DesiredSysctl[] {
  const v4: DesiredSysctl = { path: 'net/ipv4/ip_forward', value: '1' }
  return v6 ? [v4, { path: 'net/ipv6/conf/all/forwarding', value: '1' }] : [v4]
}

/** A pod here that has the address of what the node lives by, of a pool of before: the node comes first. */
function withoutVitals(
  routes: readonly DesiredRoute[],
  { vitals = [] }: Facts['self'],
): readonly DesiredRoute[] {
  const taken = new Set(vitals.map(text => formatCidr(hostCidr(parseIp(text)))))
  return routes.some(({ dst }) => taken.has(dst)) ? routes.filter(({ dst }) => !taken.has(dst)) : routes
}

/** A peer's part of one address and a pod here that thinks it holds it: the slots decide (the peer's stands first). */
function uniqueRoutes(routes: readonly DesiredRoute[]): DesiredRoute[] {
  const byKey = new Map<string, DesiredRoute>()
  for (const route of routes) {
    const key = `${route.dst} ${route.metric}`
    if (!byKey.has(key)) byKey.set(key, route)
  }
  return [...byKey.values()]
}
