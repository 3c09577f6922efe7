/**
 * What this node is on the network, as observed: its underlay, its other addresses, arp_ignore. Read anew when the
 * kernel reports a change of links or addresses; the choice of the underlay follows (chooseUnderlay).
 */
import type { Kernel } from '../../kernel/kernel.ts'
import { POD_LINK_PREFIX, VXLAN_ALIAS } from '../../kernel/ownership.ts'
import { messageOf } from '../../lib/errors.ts'
import type { Log } from '../../lib/log.ts'
import { chooseUnderlay, isDefault, type UnderlayChoice, type UnderlayWish } from './underlay.ts'

export interface Observation {
  readonly underlay: readonly UnderlayChoice[]
  /** Every other global address of the node. */
  readonly hostAddresses: readonly string[]
  /** Of its default routes, in order. */
  readonly nextHops: readonly string[]
  readonly arpIgnore: number
}

export interface SelfModules {
  readonly kernel: Pick<Kernel, 'readLinks' | 'readAddresses' | 'readRoutes' | 'lookupRoute' | 'readSysctl'>
  readonly log: Log
}

const GLOBAL_SCOPE = 0

/**
 * @throws config.invalid (retryable) when no interface fits, kernel.failed
 */
export async function observeSelf(wish: UnderlayWish, { kernel, log }: SelfModules): Promise<Observation> {
  const [links, addresses, routes] = await Promise.all([
    kernel.readLinks(),
    kernel.readAddresses(),
    kernel.readRoutes(),
  ])
  const reachRoute =
    wish.reach === undefined
      ? null
      : await kernel.lookupRoute(wish.reach).catch(error => {
          log.warn(
            { reach: wish.reach, error: messageOf(error) },
            'no route to the address that chooses the underlay',
          )
          return null
        })
  const underlay = chooseUnderlay(wish, { links, addresses, routes, reachRoute })
  const ours = new Set(
    links
      .filter(link => link.alias === VXLAN_ALIAS || link.name.startsWith(POD_LINK_PREFIX))
      .map(link => link.name),
  )
  const chosen = new Set(underlay.map(choice => choice.address))
  const hostAddresses = addresses
    .filter(a => a.scope === GLOBAL_SCOPE && !ours.has(a.device) && !chosen.has(a.address))
    .map(a => a.address)
    .sort()
  const nextHops = new Set(routes.filter(isDefault).flatMap(({ gateway }) => gateway ?? []))
  return { underlay, hostAddresses, nextHops: [...nextHops].sort(), arpIgnore: await readArpIgnore(kernel) }
}

/** The kernel takes the larger of conf.all and the interface's own; new interfaces inherit conf.default. */
async function readArpIgnore(kernel: Pick<Kernel, 'readSysctl'>): Promise<number> {
  const values = await Promise.all(
    ['all', 'default'].map(name => kernel.readSysctl(`net/ipv4/conf/${name}/arp_ignore`)),
  )
  return Math.max(...values.map(value => Number(value ?? 0)))
}
