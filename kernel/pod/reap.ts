/**
 * What is left to do about pods that are off the network already: their flows are forgotten, then the links in
 * REAP_GROUP deleted. One look through the tracked flows takes up to 40 ms however many addresses, one deletion
 * blocks its thread for 15-20 ms (rcu_barrier), one group deletion of a hundred links for some 45 ms: so this runs
 * where nobody waits, for many pods at a time.
 *
 * Trap: a group deletion takes every member, also a stranger's, and nothing at all if one cannot be deleted.
 * Hence the look at every member's alias before, and one by one when a stranger is among them.
 */
import { parseIp } from '../../lib/address.ts'
import { faultPoint } from '../../lib/fault.ts'
import { flushConntrack } from '../conntrack/flush.ts'
import { IFLA_GROUP, RTM_DELLINK } from '../netlink/constants.ts'
import { Datagram } from '../netlink/datagram.ts'
import { failedWith } from '../netlink/libc.ts'
import {
  type LinkRecord,
  readLink,
  writeDeleteLink,
  writeDumpLinks,
  writeLinkHeader,
} from '../netlink/links.ts'
import { failureOf, type NetlinkSocket } from '../netlink/socket.ts'
import { POD_ALIAS_PREFIX, REAP_GROUP } from '../ownership.ts'

/** Both in the node's own namespace. */
export interface ReapSockets {
  readonly route: NetlinkSocket
  readonly netfilter: NetlinkSocket
}

/**
 * @param addresses of the pods; each may be somebody else's once this has returned
 * @throws TwillError kernel.failed
 */
export function reapPods(
  sockets: ReapSockets,
  addresses: readonly string[],
): { deleted: string[]; foreign: string[] } {
  flushConntrack(sockets.netfilter, addresses.map(parseIp))
  if (addresses.length > 0) faultPoint('del.conntrack-flushed')
  return reapLinks(sockets.route)
}

/** @returns names; `foreign` were left alone. @throws TwillError kernel.failed */
export function reapLinks(socket: NetlinkSocket): { deleted: string[]; foreign: string[] } {
  const request = new Datagram(65536)
  const members = socket
    .dump('read links to delete', writeDumpLinks(request), readLink)
    .filter(link => link.group === REAP_GROUP)
  const ours = members.filter(isOurs)
  const foreign = members.filter(link => !isOurs(link))
  if (ours.length === 0) return { deleted: [], foreign: foreign.map(({ name }) => name) }
  if (foreign.length > 0 || !deletedAsGroup(socket, request)) deleteEach(socket, request, ours)
  return { deleted: ours.map(({ name }) => name), foreign: foreign.map(({ name }) => name) }
}

const isOurs = (link: LinkRecord) => link.alias?.startsWith(POD_ALIAS_PREFIX) === true

function deletedAsGroup(socket: NetlinkSocket, request: Datagram): boolean {
  writeLinkHeader(request.reset().begin(RTM_DELLINK, 0), 0).attrU32(IFLA_GROUP, REAP_GROUP)
  return socket.execute(request)[0]?.errno === 0
}

function deleteEach(socket: NetlinkSocket, request: Datagram, links: readonly LinkRecord[]): void {
  for (const link of links) {
    const outcome = socket.execute(writeDeleteLink(request.reset(), link.index))[0]
    if (outcome === undefined || outcome.errno === 0) continue
    const failure = failureOf(`delete link ${link.name}`, outcome)
    if (!failedWith(failure, 'ENODEV')) throw failure
  }
}
