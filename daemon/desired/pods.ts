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

export function hostEnd({ id, hostInterface, mtu }: AttachmentFacts): HostEnd {
  return { attachmentId: id, device: hostInterface, alias: `${POD_ALIAS_PREFIX}${id}`, mtu }
}

/** @param sources of routeSource, worked out once for all pods */
export function podRoutes(
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

export function podNeighbours(attachment: AttachmentFacts): DesiredNeighbour[] {
  return attachment.addresses.map(({ family, address }) => ({
    device: attachment.hostInterface,
    family,
    address: formatIp(parseIp(address)),
    mac: attachment.podMac,
  }))
}

export function hostEndAddresses(attachment: AttachmentFacts, self: SelfFacts): DesiredAddress[] {
  const has = (family: Family) => attachment.addresses.some(address => address.family === family)
  return [
    ...(has(4) && gatewayOnHostEnds(self) ? [gatewayV4(attachment.hostInterface)] : []),
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
