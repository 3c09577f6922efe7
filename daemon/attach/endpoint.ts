/** From an attachment's record to what the kernel is asked: pure. */
import type { PodAddress, PodDetachSpec, PodEndpointSpec } from '../../kernel/kernel.ts'
import type { Attachment } from '../journal/records.ts'
import { aliasOf } from './identity.ts'
import type { NodeView } from './node-view.ts'

function podAddresses(attachment: Attachment, node: NodeView): PodAddress[] {
  return attachment.addresses.map(({ family, address }) => ({
    family,
    address,
    routeSource: node.routeSource(family),
  }))
}

export function endpointSpec(attachment: Attachment, node: NodeView): PodEndpointSpec {
  return {
    netns: attachment.netns,
    podInterface: attachment.ifName,
    hostInterface: attachment.hostInterface,
    alias: aliasOf(attachment.id),
    podMac: attachment.podMac,
    mtu: attachment.mtu,
    addresses: podAddresses(attachment, node),
    netnsCookie: attachment.netnsCookie,
    gatewayOnHostEnd: node.gatewayOnHostEnd,
  }
}

export function detachSpec(attachment: Attachment, node: NodeView): PodDetachSpec {
  return {
    netns: attachment.netns,
    netnsCookie: attachment.netnsCookie,
    podInterface: attachment.ifName,
    hostInterface: attachment.hostInterface,
    alias: aliasOf(attachment.id),
    podMac: attachment.podMac,
    addresses: podAddresses(attachment, node),
  }
}
