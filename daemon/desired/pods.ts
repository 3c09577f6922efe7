/**
 * What stands on this node for its own pods: a route and a neighbour entry per address, the gateways, and the
 * host ends themselves. Pure. The same objects are made by Kernel.attachPod; both must agree, or the loop would
 * mend every new pod.
 */
import { GATEWAY, POD_ALIAS_PREFIX } from '../../kernel/ownership.ts'
import { bitsOf, type Family, formatIp, parseIp } from '../../lib/address.ts'
import {
  DEFAULT_METRIC,
  type DesiredAddress,
  type DesiredNeighbour,
  type DesiredRoute,
  SCOPE,
} from '../../routing/state.ts'
import type { AttachmentFacts, SelfFacts } from './facts.ts'
import type { Held, HostEnd } from './state.ts'

/** All that stands on the node for one pod. */
export interface PodObjects {
  readonly hostEnd: HostEnd
  readonly addresses: readonly DesiredAddress[]
  readonly routes: readonly DesiredRoute[]
  readonly neighbours: readonly DesiredNeighbour[]
}

/** What of the node they depend on. */
export interface PodSurroundings {
  /** Of routeSource. */
  readonly sources: Readonly<Record<Family, string | null>>
  readonly gatewayOnHostEnds: boolean
}

interface Known extends PodSurroundings {
  readonly objects: PodObjects
}

/** By the facts they were made of: a pass is made for a few pods of many, and asks for all. */
const known = new WeakMap<AttachmentFacts, Known>()

/** The same objects for the same facts and surroundings. */
export function podObjects(attachment: AttachmentFacts, around: PodSurroundings): PodObjects {
  const last = known.get(attachment)
  if (last !== undefined && sameSurroundings(last, around)) return last.objects
  const objects = {
    hostEnd: hostEnd(attachment),
    addresses: hostEndAddresses(attachment, around),
    routes: podRoutes(attachment, around.sources),
    neighbours: podNeighbours(attachment),
  }
  known.set(attachment, { ...around, objects })
  return objects
}

const sameSurroundings = (a: PodSurroundings, b: PodSurroundings): boolean =>
  a.gatewayOnHostEnds === b.gatewayOnHostEnds &&
  a.sources[4] === b.sources[4] &&
  a.sources[6] === b.sources[6]

/**
 * Source of what the node itself sends to its pods: its own address of that family, else its tunnel address.
 * null leaves the choice to the kernel, which takes the first global address by interface index.
 */
export function routeSource(self: Pick<SelfFacts, 'underlay' | 'tunnel'>, family: Family): string | null {
  const text = self.underlay[family]?.address ?? self.tunnel[family]
  return text === undefined ? null : formatIp(parseIp(text))
}

/** True where host ends carry the IPv4 gateway too: ARP for an address of `lo` goes unanswered there. */
export const gatewayOnHostEnds = (self: Pick<SelfFacts, 'arpIgnore'>): boolean => self.arpIgnore >= 1

/** Ours to mend: attached, and nobody is working on it. */
export const isIdle = ({ state, busy, podMac }: AttachmentFacts): boolean =>
  state === 'attached' && !busy && podMac !== ''

function hostEnd({ id, hostInterface, mtu }: AttachmentFacts): HostEnd {
  return { attachmentId: id, device: hostInterface, alias: `${POD_ALIAS_PREFIX}${id}`, mtu }
}

function podRoutes(
  attachment: AttachmentFacts,
  sources: Readonly<Record<Family, string | null>>,
): DesiredRoute[] {
  return attachment.addresses.map(({ family, address }) => {
    const src = sources[family]
    return {
      family,
      dst: hostPrefix(family, address),
      type: 'unicast',
      device: attachment.hostInterface,
      ...(src === null ? {} : { src }),
      metric: DEFAULT_METRIC[family],
      scope: SCOPE.link,
    }
  })
}

function podNeighbours(attachment: AttachmentFacts): DesiredNeighbour[] {
  return attachment.addresses.map(({ family, address }) => ({
    device: attachment.hostInterface,
    family,
    address: formatIp(parseIp(address)),
    mac: attachment.podMac,
  }))
}

function hostEndAddresses(
  attachment: AttachmentFacts,
  { gatewayOnHostEnds }: PodSurroundings,
): DesiredAddress[] {
  const has = (family: Family) => attachment.addresses.some(address => address.family === family)
  return [
    ...(has(4) && gatewayOnHostEnds ? [gatewayV4(attachment.hostInterface)] : []),
    ...(has(6) ? [gatewayV6(attachment.hostInterface)] : []),
  ]
}

export function gatewayV4(device: string): DesiredAddress {
  return { device, family: 4, address: GATEWAY[4], prefix: 32, scope: SCOPE.link, nodad: false }
}

function gatewayV6(device: string): DesiredAddress {
  return { device, family: 6, address: GATEWAY[6], prefix: 64, scope: SCOPE.link, nodad: true }
}

export function heldBy(attachments: readonly AttachmentFacts[]): Held {
  return {
    devices: new Set(attachments.map(({ hostInterface }) => hostInterface)),
    prefixes: new Set(
      attachments.flatMap(({ addresses }) =>
        addresses.map(({ family, address }) => hostPrefix(family, address)),
      ),
    ),
  }
}

const hostPrefix = (family: Family, address: string): string =>
  `${formatIp(parseIp(address))}/${bitsOf(family)}`
