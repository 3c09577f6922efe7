/**
 * Routes of our protocol. A route whose source address is not usable yet stands without one: better a wrong
 * source than no way, and the address's notification brings the loop back.
 *
 * Trap: the kernel takes an IPv4 route away, silently, when its source address goes, and leaves an IPv6 one
 * without source; so sources are compared like everything else.
 */
import type { Route, RouteSpec } from '../../kernel/kernel.ts'
import { contains, parseCidr, parseIp } from '../../lib/address.ts'
import { type DesiredRoute, SCOPE } from '../../routing/state.ts'
import type { DesiredState, Held } from '../desired/state.ts'
import type { LinkPlan } from './links.ts'
import type { Change, Observed } from './observed.ts'

export const routeKey = ({ dst, metric }: Pick<Route, 'dst' | 'metric'>) => `${dst} metric ${metric}`

export function planRoutes(
  desired: DesiredState,
  observed: Observed,
  devices: LinkPlan,
  removedAddresses: ReadonlySet<string>,
): Change[] {
  const sources = usableSources(desired, observed, devices, removedAddresses)
  const seen = observed.routes.filter(({ device }) => device === null || !devices.fresh.has(device))
  const wanted = desired.routes
    .filter(({ device }) => device === undefined || devices.present.has(device))
    .map(route => withUsableSource(route, sources))
  const byKey = groupByKey(seen)
  const matched = new Set<Route>()
  const missing = wanted.flatMap(want => mend(want, byKey.get(routeKey(want)) ?? [], matched))
  const replaced = new Set(missing.map(({ key }) => key))
  const unwanted = seen.filter(
    route => !matched.has(route) && !replaced.has(routeKey(route)) && !isHeld(route, desired.held),
  )
  const gone = desired.complete ? unwanted : unwanted.filter(route => cutsOff(route, desired.vitals))
  return [...missing, ...gone.flatMap(remove)]
}

function groupByKey(routes: readonly Route[]): ReadonlyMap<string, Route[]> {
  const byKey = new Map<string, Route[]>()
  for (const route of routes) {
    const key = routeKey(route)
    const group = byKey.get(key)
    if (group === undefined) byKey.set(key, [route])
    else group.push(route)
  }
  return byKey
}

/** Addresses that a route may name: there and not tentative, or put there by this plan without detection. */
function usableSources(
  desired: DesiredState,
  observed: Observed,
  devices: LinkPlan,
  removed: ReadonlySet<string>,
): ReadonlySet<string> {
  const there = observed.addresses.filter(({ device, tentative }) => !tentative && !devices.fresh.has(device))
  const coming = desired.addresses.filter(
    ({ device, nodad, family }) => devices.present.has(device) && (nodad || family === 4),
  )
  const usable = new Set(there.map(({ address }) => address).filter(address => !removed.has(address)))
  for (const { address } of coming) usable.add(address)
  return usable
}

function withUsableSource(route: DesiredRoute, sources: ReadonlySet<string>): DesiredRoute {
  if (route.src === undefined || sources.has(route.src)) return route
  const { src: _, ...bare } = route
  return bare
}

function mend(want: DesiredRoute, have: readonly Route[], matched: Set<Route>): Change[] {
  const same = have.find(route => sameRoute(want, route))
  if (same !== undefined) {
    matched.add(same)
    return []
  }
  const reason = have.length === 0 ? 'missing' : 'different'
  return [{ kind: 'route', key: routeKey(want), reason, step: { type: 'route.replace', route: want } }]
}

function sameRoute(want: DesiredRoute, have: Route): boolean {
  if (want.type !== have.type) return false
  // IPv6 shows these on `lo`, IPv4 on no device; neither means anything.
  if (want.type !== 'unicast') return true
  return (
    (want.device ?? null) === have.device &&
    (want.gateway ?? null) === have.gateway &&
    (want.src ?? null) === have.src &&
    (want.onlink ?? false) === have.onlink &&
    (want.mtu ?? null) === have.mtu &&
    (want.family === 6 || (want.scope ?? SCOPE.global) === have.scope)
  )
}

/** As an earlier daemon left it: the datastore may be away because of it. */
function cutsOff({ dst }: Route, vitals: readonly string[]): boolean {
  const cidr = parseCidr(dst)
  return vitals.some(text => contains(cidr, parseIp(text)))
}

const isHeld = ({ device, dst }: Route, held: Held): boolean =>
  (device !== null && held.devices.has(device)) || held.prefixes.has(dst)

/** Types that Twill never makes are not deleted, although they bear our protocol. */
function remove(route: Route): Change[] {
  const { type } = route
  if (type !== 'unicast' && type !== 'blackhole' && type !== 'unreachable') return []
  const { family, dst, metric, device, gateway } = route
  const onDevice = type === 'unicast' && device !== null ? { device } : {}
  const spec: RouteSpec = {
    family,
    dst,
    type,
    metric,
    ...onDevice,
    ...(gateway === null ? {} : { gateway }),
  }
  return [
    { kind: 'route', key: routeKey(route), reason: 'unwanted', step: { type: 'route.delete', route: spec } },
  ]
}
