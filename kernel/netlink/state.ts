/** Reads the node's own namespace: what the loop compares with what should be. */
import { type Ip, parseIp } from '../../lib/address.ts'
import type { FdbEntry, Link, LinkAddress, Neighbour, Route } from '../kernel.ts'
import { readAddress, writeDumpAddresses } from './addresses.ts'
import { AF_BRIDGE, AF_INET, AF_INET6, RT_TABLE_MAIN } from './constants.ts'
import { Datagram } from './datagram.ts'
import { kernelFailed } from './libc.ts'
import { type LinkRecord, linkOf, readLink, writeDumpLinks } from './links.ts'
import { readFdbEntry, readNeighbour, writeDumpNeighbours } from './neighbours.ts'
import { dumpRoutes, readRoute, writeLookupRoute } from './routes.ts'
import { failureOf, type NetlinkSocket, type Outcome } from './socket.ts'

const ENODEV = 19

export class NetworkState {
  readonly #socket: NetlinkSocket
  readonly #request = new Datagram(4096)

  /** @param modules.socket NETLINK_ROUTE, in the namespace to be read */
  constructor(_options: object, modules: { socket: NetlinkSocket }) {
    this.#socket = modules.socket
  }

  links(): Link[] {
    const records = this.#records()
    const nameOf = namesOf(records)
    return records.map(record => linkOf(record, nameOf))
  }

  addresses(): LinkAddress[] {
    const nameOf = namesOf(this.#records())
    return this.#socket.dump('read addresses', writeDumpAddresses(this.#request), message =>
      readAddress(message, nameOf),
    )
  }

  routes(filter: { protocol?: number; table?: number } = {}): Route[] {
    const nameOf = namesOf(this.#records())
    const { protocol = 0, table = RT_TABLE_MAIN } = filter
    return dumpRoutes(this.#socket, this.#request, { protocol, table }, nameOf)
  }

  neighbours(): Neighbour[] {
    const nameOf = namesOf(this.#records())
    return [AF_INET, AF_INET6].flatMap(family =>
      this.#socket.dump('read neighbours', writeDumpNeighbours(this.#request, family), message =>
        readNeighbour(message, nameOf),
      ),
    )
  }

  /** @throws TwillError kernel.failed, ENODEV when there is no such device */
  fdb(device: string): FdbEntry[] {
    const index = this.#records().find(link => link.name === device)?.index
    if (index === undefined) throw kernelFailed(`read FDB of ${device}`, ENODEV, 'no such device')
    return this.#socket.dump('read FDB', writeDumpNeighbours(this.#request, AF_BRIDGE, index), message =>
      readFdbEntry(message, index, device),
    )
  }

  /** @throws TwillError kernel.failed, ENETUNREACH when there is none */
  lookup(destination: string): Route {
    const ip: Ip = parseIp(destination)
    const outcome = this.#socket.execute(writeLookupRoute(this.#request, ip))[0] as Outcome
    if (outcome.errno !== 0) throw failureOf(`look up route to ${destination}`, outcome)
    const reply = outcome.replies[0]
    const route = reply === undefined ? null : readRoute(reply, namesOf(this.#records()))
    if (route === null) throw kernelFailed(`look up route to ${destination}`, ENODEV, 'no answer')
    return route
  }

  #records(): LinkRecord[] {
    return this.#socket.dump('read links', writeDumpLinks(this.#request), readLink)
  }
}

function namesOf(records: readonly LinkRecord[]): (index: number) => string | null {
  const names = new Map(records.map(record => [record.index, record.name]))
  return index => names.get(index) ?? null
}
