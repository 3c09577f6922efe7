/**
 * What stands inside a pod's namespace, for CHECK and the audit: one interface with what belongs to it.
 *
 * Trap: a pod may have a million routes. Not more than MOST of a kind are read: all of them would end the thread by
 * its memory, and the daemon with it. What we put there comes first (default routes), or the pod has made it so.
 */
import type { PodState } from '../kernel.ts'
import { readAddress, writeDumpAddresses } from '../netlink/addresses.ts'
import { AF_INET, AF_INET6, RT_TABLE_MAIN } from '../netlink/constants.ts'
import { Datagram } from '../netlink/datagram.ts'
import { failedWith } from '../netlink/libc.ts'
import { type LinkRecord, linkOf, readLink, writeGetLink } from '../netlink/links.ts'
import { readNeighbour, writeDumpNeighbours } from '../netlink/neighbours.ts'
import { dumpRoutes } from '../netlink/routes.ts'
import { failureOf, type NetlinkMessage, type NetlinkSocket, type Outcome } from '../netlink/socket.ts'

const MOST = 1000

/** @param socket in the pod's namespace. null: there is no such interface. @throws TwillError kernel.failed */
export function inspectPod(socket: NetlinkSocket, podInterface: string): PodState['pod'] {
  const request = new Datagram(4096)
  const record = findLink(socket, request, podInterface)
  if (record === null) return null
  const nameOf = (index: number) => (index === record.index ? record.name : null)
  const own = <T extends { device: string | null }>(read: (message: NetlinkMessage) => T | null) =>
    fewOf(podInterface, read)
  return {
    ...linkOf(record, nameOf),
    addresses: socket.dump(
      'read addresses of pod',
      writeDumpAddresses(request),
      own(message => readAddress(message, nameOf)),
    ),
    routes: dumpRoutes(socket, request, { table: RT_TABLE_MAIN, protocol: 0 }, nameOf, own),
    neighbours: [AF_INET, AF_INET6].flatMap(family =>
      socket.dump(
        'read neighbours of pod',
        writeDumpNeighbours(request, family),
        own(message => readNeighbour(message, nameOf)),
      ),
    ),
  }
}

function findLink(socket: NetlinkSocket, request: Datagram, name: string): LinkRecord | null {
  const outcome = socket.execute(writeGetLink(request.reset(), name))[0] as Outcome
  if (outcome.errno === 0) return outcome.replies[0] === undefined ? null : readLink(outcome.replies[0])
  const failure = failureOf('read link of pod', outcome)
  if (failedWith(failure, 'ENODEV')) return null
  throw failure
}

function fewOf<T extends { device: string | null }>(
  device: string,
  read: (message: NetlinkMessage) => T | null,
): (message: NetlinkMessage) => T | null {
  let kept = 0
  return message => {
    const value = kept === MOST ? null : read(message)
    if (value === null || value.device !== device) return null
    kept++
    return value
  }
}
