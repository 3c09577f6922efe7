/**
 * Reads the node's own namespace: what the loop compares with what should be.
 *
 * Trap: the kernel names devices by index. A look through all links tells the names, and takes as long as all the rest;
 * so one serves the reads that follow it at once, and a device that it does not know is looked for anew.
 */
import { type Ip, parseIp } from '../../lib/address.ts'
import type { Clock } from '../../lib/clock.ts'
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
type NameOf = (index: number) => string | null

/** The reads of one pass of the loop. */
const NAMES_HOLD_MS = 50

export class NetworkState {
  readonly #socket: NetlinkSocket
  readonly #clock: Clock
  readonly #request = new Datagram(4096)
  #names: ReadonlyMap<number, string> = new Map()
  #namesReadMs = Number.NEGATIVE_INFINITY

  /** @param modules.socket NETLINK_ROUTE, in the namespace to be read */
  constructor(_options: object, modules: { socket: NetlinkSocket; clock: Clock }) {
    this.#socket = modules.socket
    this.#clock = modules.clock
  }

  links(): Link[] {
    const records = this.#records()
    return records.map(record => linkOf(record, index => this.#names.get(index) ?? null))
  }

  addresses(): LinkAddress[] {
    return this.#named(nameOf =>
      this.#socket.dump('read addresses', writeDumpAddresses(this.#request), message =>
        readAddress(message, nameOf),
      ),
    )
  }

  routes(filter: { protocol?: number; table?: number } = {}): Route[] {
    const { protocol = 0, table = RT_TABLE_MAIN } = filter
    return this.#named(nameOf => dumpRoutes(this.#socket, this.#request, { protocol, table }, nameOf))
  }

  neighbours(): Neighbour[] {
    return this.#named(nameOf =>
      [AF_INET, AF_INET6].flatMap(family =>
        this.#socket.dump('read neighbours', writeDumpNeighbours(this.#request, family), message =>
          readNeighbour(message, nameOf),
        ),
      ),
    )
  }

  /** @throws TwillError kernel.failed, ENODEV when there is no such device */
  fdb(device: string): FdbEntry[] {
    const index = this.#indexOf(device)
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
    const route = reply === undefined ? null : this.#named(nameOf => readRoute(reply, nameOf))
    if (route === null) throw kernelFailed(`look up route to ${destination}`, ENODEV, 'no answer')
    return route
  }

  #records(): LinkRecord[] {
    const records = this.#socket.dump('read links', writeDumpLinks(this.#request), readLink)
    this.#names = new Map(records.map(({ index, name }) => [index, name]))
    this.#namesReadMs = this.#clock.boottimeMs()
    return records
  }

  /** Reads with names that may be a moment old, and again with fresh ones if a device is not among them. */
  #named<T>(read: (nameOf: NameOf) => T): T {
    const isFresh = this.#renewNames()
    let isUnknown = false
    const found = read(index => {
      const name = this.#names.get(index)
      isUnknown ||= name === undefined
      return name ?? null
    })
    if (isFresh || !isUnknown) return found
    this.#records()
    return read(index => this.#names.get(index) ?? null)
  }

  /** @returns true when they were read now */
  #renewNames(): boolean {
    if (this.#clock.boottimeMs() - this.#namesReadMs <= NAMES_HOLD_MS) return false
    this.#records()
    return true
  }

  #indexOf(device: string): number | undefined {
    const known = () => [...this.#names].find(([, name]) => name === device)?.[0]
    const wasFresh = this.#renewNames()
    const index = known()
    if (index !== undefined || wasFresh) return index
    this.#records()
    return known()
  }
}
