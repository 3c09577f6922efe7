/** The CNI verbs as twill-ipam has them (section 17 of the checklist): from requests to leases and results. */
import { CNI_CODE, CniError } from '../../cni-bin/cni-error.ts'
import type { AddRequest, CheckRequest, StatusRequest } from '../../cni-bin/request.ts'
import type { CniResult, ResultAddress } from '../../cni-bin/result.ts'
import type { Ipam } from '../../ipam/ipam.ts'
import type { Kernel } from '../../kernel/kernel.ts'
import { formatIp, parseIp } from '../../lib/address.ts'
import { TwillError } from '../../lib/errors.ts'
import type { Lease } from '../journal/records.ts'
import { OWN_CODE } from './cni-errors.ts'
import type { Leased, Leases } from './leases.ts'
import type { Gone } from './server.ts'
import { uniqueIps } from './wished.ts'

export interface LeaseVerbsModules {
  readonly leases: Leases
  readonly kernel: Pick<Kernel, 'netnsCookie'>
  readonly ipam: Pick<Ipam, 'subnetOf' | 'heldBy' | 'room'>
}

/** @param made not called when an earlier ADD had been given the same */
export async function addLease(
  modules: LeaseVerbsModules,
  request: AddRequest,
  gone: Gone,
  made: (takeBack: () => Promise<void>) => void,
): Promise<CniResult> {
  const { network, containerId, ifName, netns, pod, wishes, twill } = request
  const addresses = uniqueIps(wishes.addresses)
  const leased: Leased = await modules.leases.add(
    { network, containerId, ifName, netns, pod, addresses, podPools: wishes.pools, ...twill },
    gone,
  )
  if (leased.isNew) made(() => modules.leases.takeBack(leased.lease))
  const ips = leased.lease.addresses.map(held => addressOf(modules, held))
  // No interfaces, and no index of one (CNI-240): the plugin that asked makes it.
  return { interfaces: [], ips, routes: request.routes, dns: request.dns }
}

/** The prefix is the whole pool's, since every attachment of it is a host of one subnet. @throws ipam.no-pool */
function addressOf(
  { ipam }: LeaseVerbsModules,
  { address, poolUid }: Lease['addresses'][number],
): ResultAddress {
  const subnet = ipam.subnetOf(poolUid)
  if (subnet === null)
    throw new TwillError('ipam.no-pool', `the pool of ${address} is gone`, { address, poolUid })
  return { address: `${address}/${subnet.prefix}`, gateway: subnet.gateway, interface: null }
}

/** CNI-243 @throws CniError 3, 100; kernel.netns-gone, kernel.netns-mismatch */
export async function checkLease(
  { leases, kernel, ipam }: LeaseVerbsModules,
  request: CheckRequest,
): Promise<void> {
  const { containerId, ifName, network } = request
  const lease = leases.get(request)
  if (lease === undefined)
    throw new CniError(
      CNI_CODE.unknownContainer,
      `no address is held for interface ${ifName} of container ${containerId} on network ${network}`,
    )
  const cookie = await kernel.netnsCookie(request.netns)
  const problems = [
    ...(lease.netnsCookie === null || lease.netnsCookie === cookie
      ? []
      : [`the namespace at ${request.netns.path} is not the one that the address was given to`]),
    ...missingFrom(
      new Set(ipam.heldBy(lease.id).map(({ address }) => address)),
      lease,
      'is no longer of this node',
    ),
    ...missingFrom(
      new Set(request.prevResult.ips.map(ip => canonical(ip.address.split('/')[0] as string))),
      lease,
      'is held for this attachment and not in prevResult',
    ),
  ]
  if (problems.length > 0)
    throw new CniError(OWN_CODE.checkFailed, `the attachment is damaged: ${problems[0]}`, problems.join('; '))
}

const canonical = (address: string): string => formatIp(parseIp(address))

const missingFrom = (there: ReadonlySet<string>, { addresses }: Lease, problem: string): string[] =>
  addresses
    .filter(({ address }) => !there.has(address))
    .map(({ address }) => `the address ${address} ${problem}`)

/** @throws CniError 50 */
export function leaseStatus({ ipam }: LeaseVerbsModules, { twill }: StatusRequest): void {
  const room = ipam.room({ use: 'ipam', ...twill })
  if (!room.ok) throw new CniError(CNI_CODE.pluginNotAvailable, 'twill-ipam cannot serve ADD', room.reason)
}
