/** What stands inside a pod's namespace, for CHECK and the audit: one interface with what belongs to it. */
import type { PodState } from '../kernel.ts'
import { readAddress, writeDumpAddresses } from '../netlink/addresses.ts'
import { AF_INET, AF_INET6, RT_TABLE_MAIN } from '../netlink/constants.ts'
import { Datagram } from '../netlink/datagram.ts'
import { linkOf, readLink, writeDumpLinks } from '../netlink/links.ts'
import { readNeighbour, writeDumpNeighbours } from '../netlink/neighbours.ts'
import { dumpRoutes } from '../netlink/routes.ts'
import type { NetlinkSocket } from '../netlink/socket.ts'

/** @param socket in the pod's namespace. null: there is no such interface. */
export function inspectPod(socket: NetlinkSocket, podInterface: string): PodState['pod'] {
  const request = new Datagram(4096)
  const record = socket
    .dump('read links of pod', writeDumpLinks(request), readLink)
    .find(link => link.name === podInterface)
  if (record === undefined) return null
  const nameOf = (index: number) => (index === record.index ? record.name : null)
  const ofThisLink = <T extends { device: string | null }>(values: readonly T[]) =>
    values.filter(value => value.device === podInterface)
  return {
    ...linkOf(record, nameOf),
    addresses: ofThisLink(
      socket.dump('read addresses of pod', writeDumpAddresses(request), message =>
        readAddress(message, nameOf),
      ),
    ),
    routes: ofThisLink(dumpRoutes(socket, request, { table: RT_TABLE_MAIN, protocol: 0 }, nameOf)),
    neighbours: [AF_INET, AF_INET6].flatMap(family =>
      socket.dump('read neighbours of pod', writeDumpNeighbours(request, family), message =>
        readNeighbour(message, nameOf),
      ),
    ),
  }
}
