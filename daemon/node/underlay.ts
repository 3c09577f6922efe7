/**
 * Which interface carries this node's traffic to other nodes: by name or pattern, by reachability of an address,
 * by the default route otherwise. Pure; the reason is shown in status, since a wrong choice is the classic trouble
 * of overlays.
 */
import type { Link, LinkAddress, Route } from '../../kernel/kernel.ts'
import { POD_LINK_PREFIX, VXLAN_ALIAS } from '../../kernel/ownership.ts'
import type { Family } from '../../lib/address.ts'
import { TwillError } from '../../lib/errors.ts'

export interface UnderlayChoice {
  readonly family: Family
  readonly device: string
  readonly address: string
  readonly mtu: number
  readonly reason: string
}

export interface UnderlayWish {
  /** Exact name or pattern with "*". */
  readonly interface?: string | undefined
  readonly reach?: string | undefined
}

export interface UnderlayView {
  readonly links: readonly Link[]
  readonly addresses: readonly LinkAddress[]
  /** The kernel's answer for `reach`; null when there is no route. */
  readonly reachRoute: Route | null
  readonly routes: readonly Route[]
}

const GLOBAL_SCOPE = 0

/**
 * At most one choice a family.
 * @throws TwillError config.invalid naming what was asked for and what there is
 */
export function chooseUnderlay(wish: UnderlayWish, view: UnderlayView): UnderlayChoice[] {
  const { device, reason } = pickDevice(wish, view)
  const link = view.links.find(candidate => candidate.name === device) as Link
  return ([4, 6] as const).flatMap(family => {
    const address = preferredAddress(view.addresses, device, family, view.reachRoute?.src ?? null)
    return address === null ? [] : [{ family, device, address, mtu: link.mtu, reason }]
  })
}

function pickDevice(wish: UnderlayWish, view: UnderlayView): { device: string; reason: string } {
  if (wish.interface !== undefined) return byName(wish.interface, view)
  if (wish.reach !== undefined) return byReach(wish.reach, view)
  return byDefaultRoute(view)
}

function candidates(view: UnderlayView): Link[] {
  return view.links.filter(
    link =>
      !link.loopback &&
      !link.name.startsWith(POD_LINK_PREFIX) &&
      link.alias !== VXLAN_ALIAS &&
      hasAddress(view, link.name),
  )
}

const hasAddress = (view: UnderlayView, device: string) =>
  view.addresses.some(a => a.device === device && a.scope === GLOBAL_SCOPE)

function byName(pattern: string, view: UnderlayView): { device: string; reason: string } {
  const expression = new RegExp(
    `^${pattern
      .split('*')
      .map(part => part.replace(/[.\\+?^${}()|[\]]/g, '\\$&'))
      .join('.*')}$`,
  )
  const matching = candidates(view).filter(link => expression.test(link.name))
  const first = matching.sort((a, b) => a.index - b.index)[0]
  if (first === undefined)
    throw nothingFits(
      `underlay.interface ${pattern}`,
      'an interface of that name with a global address',
      view,
    )
  const reason =
    pattern === first.name
      ? 'named in the configuration'
      : `the first of ${matching.length} that match ${pattern}`
  return { device: first.name, reason }
}

function byReach(target: string, view: UnderlayView): { device: string; reason: string } {
  const device = view.reachRoute?.device
  if (!device) throw nothingFits(`underlay.reach ${target}`, 'an address that a route leads to', view)
  return { device, reason: `${target} is reached by it` }
}

export const isDefault = ({ dst, type, device }: Route): boolean =>
  (dst === '0.0.0.0/0' || dst === '::/0') && type === 'unicast' && device !== null

function byDefaultRoute(view: UnderlayView): { device: string; reason: string } {
  const defaults = view.routes.filter(isDefault).sort((a, b) => a.family - b.family || a.metric - b.metric)
  const device = defaults[0]?.device
  if (!device)
    throw nothingFits(
      'underlay',
      'a default route, or underlay.interface or underlay.reach in the configuration',
      view,
    )
  return { device, reason: 'the default route leaves by it' }
}

function nothingFits(what: string, expected: string, view: UnderlayView): TwillError {
  const there = candidates(view).map(link => link.name)
  return new TwillError(
    'config.invalid',
    `${what}: expected ${expected}; there is ${there.join(', ') || 'no interface with a global address'}`,
    { there },
    { retryable: true },
  )
}

function preferredAddress(
  addresses: readonly LinkAddress[],
  device: string,
  family: Family,
  source: string | null,
): string | null {
  const usable = addresses.filter(a => a.device === device && a.family === family && a.scope === GLOBAL_SCOPE)
  return (usable.find(a => a.address === source) ?? usable[0])?.address ?? null
}
