/**
 * The name of an attachment in every record and on its link: state is keyed by (network, container, interface)
 * (CNI-190). It cannot change: links and journals of earlier versions carry it.
 */
import { createHash } from 'node:crypto'

/** 32 hex digits. */
export function attachmentId(network: string, containerId: string, ifName: string): string {
  return createHash('sha256').update(`${network}\0${containerId}\0${ifName}`).digest('hex').slice(0, 32)
}

/**
 * The same attachment as twill-ipam knows it: another name, since what it holds is addresses alone, and `twill` may be
 * asked about the same identifiers.
 */
export const leaseId = (network: string, containerId: string, ifName: string): string =>
  `ipam-${attachmentId(network, containerId, ifName)}`
