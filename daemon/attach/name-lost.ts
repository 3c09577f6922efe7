/**
 * The last thing that a daemon does whose node name is another machine's: it cuts off the pods here whose addresses are
 * no longer of this machine, since others may have them by now (ADDRESSES.md rule 15). Those in parts that still are
 * stay as they are.
 *
 * Invariant: judged by the kernel's links and the store's slots, never by the journal alone, so that a start after
 * a death in between, or without a journal, does what is left. If either cannot be read nothing is cut off.
 */

import type { Store } from '../../datastore/store.ts'
import { type Machine, stillOwned } from '../../ipam/still-owned.ts'
import type { Kernel, Link, PodAddress, PodDetachSpec, SetElement } from '../../kernel/kernel.ts'
import { POD_ALIAS_PREFIX, ROUTE_PROTOCOL } from '../../kernel/ownership.ts'
import { type Cidr, contains, formatIp, parseIp } from '../../lib/address.ts'
import { isTwillError, messageOf, TwillError } from '../../lib/errors.ts'
import type { Log } from '../../lib/log.ts'
import type { Attachment, Lease } from '../journal/records.ts'
import { isPodLink } from '../plan/links.ts'
import type { AttachmentJournal } from './registry.ts'

export interface NameLostOptions extends Machine {
  /** Leases of an earlier one are dead (rule 17). */
  readonly boot: string
  /** As the journal has them, as far as it has. */
  readonly attachments: ReadonlyMap<string, Attachment>
  readonly leases: ReadonlyMap<string, Lease>
}

export interface NameLostModules {
  readonly kernel: Pick<Kernel, 'readLinks' | 'readRoutes' | 'readNeighbours' | 'detachPod' | 'reapLinks'>
  readonly store: Store
  readonly journal: AttachmentJournal
  readonly log: Log
  /** Elements of the anti-spoofing sets for one endpoint. */
  readonly elements: (endpoint: {
    hostInterface: string
    podMac: string
    addresses: readonly PodAddress[]
  }) => SetElement[]
}

interface Bearer {
  readonly addresses: readonly { readonly address: string }[]
}

/** A link of ours and who lives behind it. */
interface Pod {
  readonly link: Link
  readonly mac: string | null
  readonly addresses: readonly PodAddress[]
  readonly journaled: Attachment | undefined
}

/** @throws the error; if it is node.name-taken, after the cut, and its message says what was cut off */
export async function endWithoutName(
  error: unknown,
  options: NameLostOptions,
  modules: NameLostModules,
): Promise<never> {
  if (!isTwillError(error, 'node.name-taken')) throw error
  const { code, message, data } = error
  throw new TwillError(code, `${message}. ${await cutOffLost(options, modules)}`, data)
}

async function cutOffLost(options: NameLostOptions, modules: NameLostModules): Promise<string> {
  let owned: readonly Cidr[]
  let pods: readonly Pod[]
  try {
    owned = await stillOwned(options, modules.store)
    pods = await readPods(options.attachments, modules.kernel)
  } catch (error) {
    modules.log.error({ error: messageOf(error) }, 'no pod is cut off: it is not known who lost his address')
    return `No pod is cut off: it cannot be told which addresses are still of this machine: ${messageOf(error)}`
  }
  const isLost = ({ address }: { readonly address: string }) =>
    !owned.some(cidr => contains(cidr, parseIp(address)))
  const lost = pods.filter(({ addresses }) => addresses.some(isLost))
  const down = await cutOff(lost, modules)
  const leases = [...options.leases.values()].filter(
    ({ boot, addresses }) => boot === options.boot && addresses.some(isLost),
  )
  for (const lease of leases) await endLease(lease, modules)
  const others = lost.filter(pod => !down.includes(pod))
  return [
    `Pods here with addresses that are no longer of this machine: ${lost.length === 0 ? 'none' : lost.length}`,
    ...(down.length === 0 ? [] : [`cut off: ${names(down)}`]),
    ...(others.length === 0 ? [] : [`could not be cut off yet: ${names(others)}`]),
    ...(leases.length === 0 ? [] : [`delete the containers that have ${names(leases)} by twill-ipam`]),
  ].join('; ')
}

const names = (all: readonly Bearer[]): string =>
  all.map(({ addresses }) => addresses.map(({ address }) => address).join(' and ')).join(', ')

/**
 * The journal adds what a link lost on its way down, and whose namespace it is: only for the very link it tells of. A
 * link of which nobody knows an address is nobody's loss.
 */
async function readPods(
  attachments: ReadonlyMap<string, Attachment>,
  kernel: NameLostModules['kernel'],
): Promise<Pod[]> {
  const [links, routes, neighbours] = await Promise.all([
    kernel.readLinks(),
    kernel.readRoutes({ protocol: ROUTE_PROTOCOL }),
    kernel.readNeighbours(),
  ])
  return links.filter(isPodLink).map(link => {
    const known = attachments.get(link.alias?.slice(POD_ALIAS_PREFIX.length) ?? '')
    const journaled = known?.hostInterface === link.name ? known : undefined
    const beside = neighbours.filter(({ device, permanent }) => device === link.name && permanent)
    const texts = [
      ...routes.filter(({ device }) => device === link.name).map(({ dst }) => dst.replace(/\/.*/, '')),
      ...[...beside, ...(journaled?.addresses ?? [])].map(({ address }) => address),
    ]
    const addresses = [...new Set(texts.map(text => formatIp(parseIp(text))))].map(address => ({
      family: parseIp(address).family,
      address,
      routeSource: null,
    }))
    return { link, mac: beside[0]?.mac ?? journaled?.podMac ?? null, addresses, journaled }
  })
}

/**
 * What fails of one is left to the next start, and does not keep the others.
 * @returns who is off the network
 */
async function cutOff(pods: readonly Pod[], modules: NameLostModules): Promise<readonly Pod[]> {
  const { kernel, journal, log } = modules
  const down: Pod[] = []
  for (const pod of pods)
    try {
      await detach(pod, modules)
      down.push(pod)
    } catch (error) {
      log.error({ ...told(pod), error: messageOf(error) }, 'a pod could not be cut off yet')
    }
  try {
    // Also without any: links that a death in between has left.
    await kernel.reapLinks(down.flatMap(({ addresses }) => addresses.map(({ address }) => address)))
    for (const { journaled } of down) if (journaled) await journal.append({ t: 'gone', id: journaled.id })
  } catch (error) {
    log.error({ error: messageOf(error) }, 'the links of pods that are cut off are left to the next start')
  }
  return down
}

async function detach(pod: Pod, { kernel, journal, log, elements }: NameLostModules): Promise<void> {
  const { link, mac, addresses, journaled } = pod
  log.error(told(pod), 'a pod is cut off: its addresses are no longer of this node')
  if (journaled)
    await journal
      .append({ t: 'detach', id: journaled.id })
      .catch(error =>
        log.warn({ error: messageOf(error) }, 'the journal could not be written; the cut goes on'),
      )
  const spec: PodDetachSpec = {
    netns: journaled?.netns ?? null,
    netnsCookie: journaled?.netnsCookie ?? null,
    podInterface: journaled?.ifName ?? '',
    hostInterface: link.name,
    alias: link.alias ?? '',
    podMac: mac,
    addresses,
  }
  await kernel.detachPod(
    spec,
    mac === null ? [] : elements({ hostInterface: link.name, podMac: mac, addresses }),
  )
}

/** The interface is another plugin's and stays. */
async function endLease(lease: Lease, { journal, log }: NameLostModules): Promise<void> {
  const { id, network, containerId, ifName, addresses } = lease
  log.error(
    { network, containerId, ifName, addresses: addresses.map(({ address }) => address) },
    'addresses of an interface of another plugin are no longer of this node: delete that container',
  )
  await journal
    .append({ t: 'lease-ended', id })
    .catch(error => log.warn({ id, error: messageOf(error) }, 'the end of a lease could not be journaled'))
}

const told = ({ link, addresses, journaled }: Pod) => ({
  interface: link.name,
  addresses: addresses.map(({ address }) => address),
  pod: journaled?.pod ?? null,
})
