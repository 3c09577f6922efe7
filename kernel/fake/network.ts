/**
 * One network namespace of the fake: links and what stands on them, changed by the steps of kernel.ts.
 *
 * Invariant: as in the kernel, what stands on a link goes with it, a link that goes down loses its routes and
 * neighbours, and a route whose source address goes is gone (IPv4) or loses its source (IPv6).
 */
import { parseCidr, parseIp } from '../../lib/address.ts'
import type {
  FdbEntry,
  KernelStep,
  Link,
  LinkAddress,
  Neighbour,
  Route,
  RouteSpec,
  VxlanAttributes,
} from '../kernel.ts'
import { kernelFailed } from '../netlink/libc.ts'
import { ROUTE_PROTOCOL } from '../ownership.ts'

const ERRNO = { ENOENT: 2, EEXIST: 17, ENODEV: 19, EINVAL: 22, ENETDOWN: 100, ENETUNREACH: 101 } as const
const MAIN_TABLE = 254
const IPV6_DEFAULT_METRIC = 1024

type Step<T extends KernelStep['type']> = Extract<KernelStep, { type: T }>
type Executors = { readonly [T in KernelStep['type']]: (network: FakeNetwork, step: Step<T>) => void }

export class FakeNetwork {
  readonly links = new Map<string, Link>()
  readonly sysctls = new Map<string, string>()
  addresses: LinkAddress[] = []
  routes: Route[] = []
  neighbours: Neighbour[] = []
  fdb: FdbEntry[] = []
  readonly cookie: string
  #nextIndex = 1

  constructor(options: { cookie: string }) {
    this.cookie = options.cookie
    this.addLink({ name: 'lo', loopback: true, up: true, carrier: true, mtu: 65536 })
  }

  addLink(link: Partial<Link> & { name: string }): Link {
    if (this.links.has(link.name)) throw refused(`add ${link.name}`, 'EEXIST')
    const added: Link = { ...NEW_LINK, index: this.#nextIndex++, ...link }
    this.links.set(added.name, added)
    return added
  }

  linkByIndex(index: number): Link | null {
    return [...this.links.values()].find(link => link.index === index) ?? null
  }

  linkNamed(name: string): Link {
    const link = this.links.get(name)
    if (link === undefined) throw refused(`look up ${name}`, 'ENODEV')
    return link
  }

  changeLink(name: string, change: Partial<Link>): void {
    const link = { ...this.linkNamed(name), ...change }
    this.links.set(name, link)
    if (!link.up) this.#flush(name)
  }

  removeLink(name: string): void {
    this.#flush(name)
    this.links.delete(name)
    this.addresses = this.addresses.filter(address => address.device !== name)
    this.fdb = this.fdb.filter(entry => entry.device !== name)
  }

  removeAddress(device: string, address: string, prefix: number): void {
    this.addresses = this.addresses.filter(
      has => has.device !== device || has.address !== address || has.prefix !== prefix,
    )
    if (this.addresses.some(has => has.address === address)) return
    this.routes = this.routes
      .filter(route => route.family === 6 || route.src !== address)
      .map(route => (route.src === address ? { ...route, src: null } : route))
  }

  putRoute(spec: RouteSpec): void {
    const route = this.#routeOf(spec)
    const device = route.device === null ? null : this.linkNamed(route.device)
    if (device !== null && !device.up) throw refused(`route ${spec.dst}`, 'ENETDOWN')
    if (route.src !== null && !this.addresses.some(({ address }) => address === route.src))
      throw refused(`route ${spec.dst}`, 'EINVAL')
    this.routes = [...this.routes.filter(has => !sameKey(has, route)), route]
  }

  removeRoute(spec: RouteSpec): void {
    const route = { ...this.#routeOf(spec), protocol: ROUTE_PROTOCOL }
    this.routes = this.routes.filter(has => !(sameKey(has, route) && has.protocol === ROUTE_PROTOCOL))
  }

  /** The longest prefix that holds the address. */
  lookup(destination: string): Route {
    const ip = parseIp(destination)
    const found = this.routes
      .filter(route => route.family === ip.family && holds(route.dst, ip.value))
      .sort((a, b) => parseCidr(b.dst).prefix - parseCidr(a.dst).prefix || a.metric - b.metric)[0]
    if (found === undefined || found.type !== 'unicast')
      throw refused(`route to ${destination}`, 'ENETUNREACH')
    return { ...found, dst: `${destination}/${ip.family === 4 ? 32 : 128}` }
  }

  /** @throws TwillError kernel.failed */
  apply(step: KernelStep): void {
    ;(EXECUTORS[step.type] as (network: FakeNetwork, step: KernelStep) => void)(this, step)
  }

  #flush(device: string): void {
    this.routes = this.routes.filter(route => route.device !== device)
    this.neighbours = this.neighbours.filter(neighbour => neighbour.device !== device)
  }

  #routeOf(spec: RouteSpec): Route {
    return {
      family: spec.family,
      dst: spec.dst,
      type: spec.type,
      device: spec.device ?? null,
      gateway: spec.gateway ?? null,
      src: spec.src ?? null,
      metric: spec.metric || (spec.family === 6 ? IPV6_DEFAULT_METRIC : 0),
      protocol: ROUTE_PROTOCOL,
      table: MAIN_TABLE,
      scope: spec.scope ?? 0,
      onlink: spec.onlink ?? false,
      mtu: spec.mtu ?? null,
    }
  }
}

const NEW_LINK: Omit<Link, 'index' | 'name'> = {
  kind: null,
  mac: '00:00:00:00:00:00',
  mtu: 1500,
  up: false,
  carrier: false,
  loopback: false,
  alias: null,
  group: 0,
  peerIndex: null,
  master: null,
  vxlan: null,
}

const EXECUTORS: Executors = {
  'vxlan.add': (network, { name, mac, mtu, alias, vxlan }) => {
    const present = network.links.get(name)
    const clashes =
      present === undefined
        ? [...network.links.values()].some(link => takesPacketsOf(link, vxlan))
        : !sameVxlan(present, { mac, mtu, alias, vxlan })
    if (clashes) throw refused(`add ${name}`, 'EEXIST')
    if (present === undefined) network.addLink({ name, kind: 'vxlan', mac, mtu, alias, vxlan, carrier: true })
  },
  'link.set': (network, { type: _, device, ...change }) => network.changeLink(device, change),
  'link.delete': (network, { device }) => network.removeLink(device),
  'address.add': (network, { device, family, address, prefix, scope, nodad }) => {
    network.linkNamed(device)
    network.removeAddress(device, address, prefix)
    const added = { device, family, address, prefix, scope, nodad, tentative: false, permanent: true }
    network.addresses.push(added)
  },
  'address.delete': (network, { device, address, prefix }) => network.removeAddress(device, address, prefix),
  'route.replace': (network, { route }) => network.putRoute(route),
  'route.delete': (network, { route }) => network.removeRoute(route),
  'neighbour.replace': (network, { device, family, address, mac }) => {
    network.linkNamed(device)
    network.neighbours = without(network.neighbours, { device, address })
    network.neighbours.push({ device, family, address, mac, permanent: true })
  },
  'neighbour.delete': (network, { device, address }) => {
    network.neighbours = without(network.neighbours, { device, address })
  },
  'fdb.replace': (network, { device, mac, dst }) => {
    network.linkNamed(device)
    network.fdb = without(network.fdb, { device, mac })
    network.fdb.push({ device, mac, dst, permanent: true })
  },
  'fdb.delete': (network, { device, mac, dst }) => {
    network.fdb = without(network.fdb, { device, mac, dst })
  },
  'sysctl.set': (network, { path, value }) => {
    if (!network.sysctls.has(path)) throw refused(`write sysctl ${path}`, 'ENOENT')
    network.sysctls.set(path, value)
  },
}

export function refused(operation: string, errno: keyof typeof ERRNO): Error {
  return kernelFailed(operation, ERRNO[errno], '')
}

function without<T extends object>(entries: readonly T[], key: Partial<T>): T[] {
  const members = Object.keys(key) as (keyof T)[]
  return entries.filter(entry => members.some(member => entry[member] !== key[member]))
}

function sameKey(a: Route, b: Route): boolean {
  return a.family === b.family && a.dst === b.dst && a.metric === b.metric && a.table === b.table
}

/** vxlan_core.c, vxlan_config_validate: one device for a VNI on a port of a family. */
function takesPacketsOf({ vxlan: theirs }: Link, { vni, port, local }: VxlanAttributes): boolean {
  const sameFamily = theirs?.local?.includes(':') === local?.includes(':')
  return theirs?.vni === vni && theirs.port === port && sameFamily
}

function sameVxlan(a: Link, b: Pick<Link, 'mac' | 'mtu' | 'alias' | 'vxlan'>): boolean {
  const values = ({ mac, mtu, alias, vxlan }: typeof b) =>
    JSON.stringify([mac, mtu, alias, Object.entries(vxlan ?? {}).sort()])
  return values(a) === values(b)
}

function holds(dst: string, value: bigint): boolean {
  const { base, prefix, family } = parseCidr(dst)
  const host = BigInt((family === 4 ? 32 : 128) - prefix)
  return value >> host === base >> host
}
