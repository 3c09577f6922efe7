/**
 * A kernel small enough to be read at a glance, as far as the loop uses one: tables by key, and the side effects
 * that the plan must reckon with (a device takes along what stands on it; a change of MAC flushes neighbours).
 */

import type { Observed } from '../../../daemon/plan/observed.ts'
import type {
  AcceptChain,
  FdbEntry,
  Kernel,
  KernelEvent,
  KernelStep,
  Link,
  LinkAddress,
  Neighbour,
  Route,
  RouteSpec,
  Ruleset,
  SetElement,
  StepOutcome,
} from '../../../kernel/kernel.ts'
import { ROUTE_PROTOCOL } from '../../../kernel/ownership.ts'
import { attachment } from './cluster-facts.ts'

export function link(name: string, more: Partial<Link> = {}): Link {
  return {
    index: 0,
    name,
    kind: null,
    mac: '02:00:00:00:00:01',
    mtu: 1500,
    up: true,
    carrier: true,
    loopback: name === 'lo',
    alias: null,
    group: 0,
    peerIndex: null,
    master: null,
    vxlan: null,
    ...more,
  }
}

/** The host end of attachment(number) of cluster-facts.ts, as it should be. */
export const podLink = (number: number, more: Partial<Link> = {}): Link =>
  link(attachment(number).hostInterface, {
    kind: 'veth',
    mtu: 1450,
    mac: '02:54:57:49:4c:4c',
    alias: `twill:pod:attachment${number}`,
    ...more,
  })

export function route(dst: string, more: Partial<Route> = {}): Route {
  return {
    family: dst.includes(':') ? 6 : 4,
    dst,
    type: 'unicast',
    device: null,
    gateway: null,
    src: null,
    metric: dst.includes(':') ? 1024 : 0,
    protocol: ROUTE_PROTOCOL,
    table: 254,
    scope: 0,
    onlink: false,
    mtu: null,
    ...more,
  }
}

const routeId = (r: { dst: string; metric?: number; family: number }) => `${r.dst} ${r.metric ?? 0}`

export class KernelModel {
  links = new Map<string, Link>([['lo', link('lo', { mtu: 65536 })]])
  addresses = new Map<string, LinkAddress>()
  routes = new Map<string, Route>()
  neighbours = new Map<string, Neighbour>()
  fdb = new Map<string, FdbEntry>()
  sysctls = new Map<string, string>([
    ['net/ipv4/ip_forward', '0'],
    ['net/ipv6/conf/all/forwarding', '0'],
  ])
  advertised: string[] = []
  ruleset: Ruleset | null = null
  replacements = 0
  linkReads = 0
  intact = true
  accepted: readonly AcceptChain[] = []
  /** What iptables-legacy looks like at a glance. */
  legacyFilters = ''
  /** Every step executed, in order. */
  executed: KernelStep[] = []
  fail: (step: KernelStep) => string | null = () => null
  failRules = false
  listener: (event: KernelEvent) => void = () => {}
  #nextIndex = 2

  observed(): Observed {
    return {
      links: [...this.links.values()],
      addresses: [...this.addresses.values()],
      routes: [...this.routes.values()].filter(({ protocol }) => protocol === ROUTE_PROTOCOL),
      neighbours: [...this.neighbours.values()],
      fdb: [...this.fdb.values()],
      sysctls: new Map(this.sysctls),
      advertisedUplinks: this.advertised,
    }
  }

  addLink(value: Link): void {
    this.links.set(value.name, { ...value, index: this.#nextIndex++ })
  }

  /** That of self() of cluster-facts.ts. */
  addUplinkAddress(): void {
    this.addresses.set('eth0 192.168.77.1/24', {
      device: 'eth0',
      family: 4,
      address: '192.168.77.1',
      prefix: 24,
      scope: 0,
      tentative: false,
      nodad: false,
      permanent: true,
    })
  }

  addRoute(value: Route): void {
    this.routes.set(routeId(value), value)
  }

  removeLink(device: string): void {
    this.links.delete(device)
    const drop = <V extends { device: string | null }>(table: Map<string, V>) => {
      for (const [key, value] of table) if (value.device === device) table.delete(key)
    }
    drop(this.addresses)
    drop(this.routes)
    drop(this.neighbours)
    drop(this.fdb)
  }

  run(step: KernelStep): void {
    this.executed.push(step)
    const failure = this.fail(step)
    if (failure !== null) throw new Error(failure)
    switch (step.type) {
      case 'vxlan.add': {
        if (this.links.has(step.name)) throw new Error('EEXIST')
        const { name, mac, mtu, alias, vxlan } = step
        this.addLink(link(name, { kind: 'vxlan', mac, mtu, alias, vxlan, up: false }))
        for (const path of [
          'ipv4/conf/*/forwarding',
          'ipv6/conf/*/disable_ipv6',
          'ipv6/conf/*/addr_gen_mode',
        ])
          this.sysctls.set(`net/${path.replace('*', name)}`, '-')
        return
      }
      case 'link.set': {
        const { type: _, device, ...changes } = step
        this.links.set(device, { ...this.#device(device), ...changes })
        if (step.mac !== undefined)
          for (const [key, entry] of this.neighbours) if (entry.device === device) this.neighbours.delete(key)
        return
      }
      case 'link.delete':
        this.removeLink(step.device)
        return
      case 'address.add': {
        this.#device(step.device)
        const { type: _, ...address } = step
        const key = `${step.device} ${step.address}/${step.prefix}`
        this.addresses.set(key, { ...address, tentative: false, permanent: true })
        return
      }
      case 'address.delete':
        this.addresses.delete(`${step.device} ${step.address}/${step.prefix}`)
        return
      case 'route.replace':
        this.addRoute(this.#routeOf(step.route))
        return
      case 'route.delete':
        this.routes.delete(routeId(step.route))
        return
      case 'neighbour.replace': {
        this.#device(step.device)
        const { type: _, ...entry } = step
        this.neighbours.set(`${step.device} ${step.address}`, { ...entry, permanent: true })
        return
      }
      case 'neighbour.delete':
        this.neighbours.delete(`${step.device} ${step.address}`)
        return
      case 'fdb.replace': {
        this.#device(step.device)
        const { type: _, ...entry } = step
        for (const [key, { device, mac }] of this.fdb)
          if (device === step.device && mac === step.mac) this.fdb.delete(key)
        this.fdb.set(`${step.device} ${step.mac} ${step.dst}`, { ...entry, permanent: true })
        return
      }
      case 'fdb.delete':
        this.fdb.delete(`${step.device} ${step.mac} ${step.dst}`)
        return
      case 'sysctl.set':
        if (!this.sysctls.has(step.path)) throw new Error(`ENOENT ${step.path}`)
        this.sysctls.set(step.path, step.value)
        return
    }
  }

  #device(name: string): Link {
    const device = this.links.get(name)
    if (device === undefined) throw new Error(`ENODEV ${name}`)
    return device
  }

  #routeOf(spec: RouteSpec): Route {
    if (spec.device !== undefined && !this.#device(spec.device).up) throw new Error('ENETDOWN')
    if (spec.src !== undefined && ![...this.addresses.values()].some(({ address }) => address === spec.src))
      throw new Error(`EINVAL src ${spec.src}`)
    return route(spec.dst, { ...(spec as Partial<Route>) })
  }

  /** The members of Kernel that the loop uses. */
  kernel(): Kernel {
    const some: Partial<Kernel> = {
      readLinks: async () => {
        this.linkReads++
        return this.observed().links.slice()
      },
      readAddresses: async () => this.observed().addresses.slice(),
      readRoutes: async filter =>
        filter?.protocol === ROUTE_PROTOCOL
          ? this.observed().routes.slice()
          : this.advertised.map(device => route('::/0', { device, protocol: 9 })),
      readNeighbours: async () => this.observed().neighbours.slice(),
      readFdb: async device => this.observed().fdb.filter(entry => entry.device === device),
      readSysctl: async path => this.sysctls.get(path) ?? null,
      apply: async steps => steps.map(step => this.#outcome(step)),
      replaceRuleset: async ruleset => {
        if (this.failRules) throw new Error('nft failed')
        this.replacements++
        this.ruleset = ruleset
        this.intact = true
      },
      changeElements: async change => this.#changeElements(change),
      rulesetIntact: async () => this.intact,
      ensureAcceptChains: async chains => {
        const changed = JSON.stringify(chains) === JSON.stringify(this.accepted) ? [] : ['TWILL-FORWARD']
        this.accepted = chains
        return { changed }
      },
      glanceAtLegacyFilters: async () => this.legacyFilters,
      watch: listener => {
        this.listener = listener
        return { close: async () => {} }
      },
    }
    return some as Kernel
  }

  #outcome(step: KernelStep): StepOutcome {
    try {
      this.run(step)
      return { step, error: null }
    } catch (error) {
      return { step, error: error as Error }
    }
  }

  #changeElements({ add, remove }: { add: readonly SetElement[]; remove: readonly SetElement[] }): void {
    const elements = new Map([...(this.ruleset?.elements ?? [])].map(([set, each]) => [set, new Set(each)]))
    for (const { set, element } of add) elements.get(set)?.add(element)
    for (const { set, element } of remove) elements.get(set)?.delete(element)
    this.ruleset = { chains: this.ruleset?.chains ?? '', elements }
  }
}
