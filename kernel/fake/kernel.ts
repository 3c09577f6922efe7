/**
 * A Kernel without a kernel: stateful, readable as text (`dump`), with failures on order (`failNext`). What both
 * do is in one contract suite, test/contract/kernel.test.ts.
 *
 * Trap: no packet flows here, so nothing says whether rules accept what they should.
 */

import { TwillError } from '../../lib/errors.ts'
import type {
  AcceptChain,
  Kernel,
  KernelEvent,
  KernelStep,
  Link,
  NetnsRef,
  PodDetachSpec,
  PodEndpoint,
  PodEndpointSpec,
  PodState,
  Ruleset,
  SetElement,
  StepOutcome,
} from '../kernel.ts'
import { failedWith } from '../netlink/libc.ts'
import { GATEWAY, HOST_MAC, POD_ALIAS_PREFIX, REAP_GROUP } from '../ownership.ts'
import { dumpElements, dumpNetwork } from './dump.ts'
import { FakeNetwork, refused } from './network.ts'

export interface FakeKernelOptions {
  /** SO_NETNS_COOKIE of the node's own namespace. */
  readonly cookie?: string
}

interface FakeNamespace {
  readonly ref: NetnsRef
  readonly network: FakeNetwork
}

export class FakeKernel implements Kernel {
  /** The node's own namespace; tests may change it at will. */
  readonly node: FakeNetwork
  /** What `readForeignFilters` answers. */
  foreignFilters: { table: string; chain: string; hook: string; reason: string }[] = []
  /** What `glanceAtLegacyFilters` answers. */
  legacyFilters = ''
  acceptChains: readonly AcceptChain[] = []
  /** Addresses whose flows were forgotten, in order. */
  readonly flushed: string[] = []
  readonly #namespaces = new Map<string, FakeNamespace>()
  readonly #failures = new Map<string, Error[]>()
  readonly #listeners = new Set<(event: KernelEvent) => void>()
  #ruleset: { chains: string; elements: Map<string, Set<string>> } | null = null
  #intact = false
  #nextInode = 1000
  #nextCookie: number

  constructor(options: FakeKernelOptions = {}) {
    const cookie = options.cookie ?? '1'
    this.node = new FakeNetwork({ cookie })
    this.#nextCookie = Number(cookie) + 1
  }

  // ------------------------------------------------------------------ for tests

  /** The next call of this name (`attachPod`, `apply`…), or step of this type, rejects with the error. */
  failNext(operation: keyof Kernel | KernelStep['type'], error: Error): void {
    this.#failures.set(operation, [...(this.#failures.get(operation) ?? []), error])
  }

  /** A fresh namespace at the path; one that was there before is gone. */
  addNamespace(path: string): NetnsRef {
    const ref = { path, dev: '4', ino: String(this.#nextInode++) }
    this.#namespaces.set(path, { ref, network: new FakeNetwork({ cookie: String(this.#nextCookie++) }) })
    return ref
  }

  /** As when the last process of a pod and its mount are gone: its links go, and their peers. */
  removeNamespace(path: string): void {
    const namespace = this.#namespaces.get(path)
    this.#namespaces.delete(path)
    for (const link of namespace?.network.links.values() ?? []) {
      const peer = this.#hostEndOf(link)
      if (peer !== null) this.node.removeLink(peer.name)
    }
  }

  namespace(path: string): FakeNetwork | null {
    return this.#namespaces.get(path)?.network ?? null
  }

  /** Somebody else changes the ruleset: it is no longer intact. */
  damageRuleset(): void {
    this.#intact = false
  }

  /** Somebody else deletes the table, with every element. */
  deleteRuleset(): void {
    this.#ruleset = null
    this.#intact = false
  }

  emit(event: KernelEvent): void {
    for (const listener of this.#listeners) listener(event)
  }

  /** Everything, one object a line. */
  dump(): string {
    const pods = [...this.#namespaces].flatMap(([path, { network }]) =>
      dumpNetwork(network).map(line => `${path}: ${line}`),
    )
    return [...dumpNetwork(this.node), ...pods.sort(), ...dumpElements(this.elements())].join('\n')
  }

  elements(): SetElement[] {
    const sets = [...(this.#ruleset?.elements ?? [])]
    return sets.flatMap(([set, elements]) => [...elements].map(element => ({ set, element })))
  }

  // ------------------------------------------------------------------ the node

  async readLinks() {
    this.#mayFail('readLinks')
    return [...this.node.links.values()]
  }
  async readAddresses() {
    this.#mayFail('readAddresses')
    return [...this.node.addresses]
  }
  async readRoutes(filter: { protocol?: number; table?: number } = {}) {
    this.#mayFail('readRoutes')
    const { protocol, table = 254 } = filter
    return this.node.routes.filter(
      route => route.table === table && (protocol === undefined || route.protocol === protocol),
    )
  }
  async readNeighbours() {
    this.#mayFail('readNeighbours')
    return [...this.node.neighbours]
  }
  async readFdb(device: string) {
    this.#mayFail('readFdb')
    this.node.linkNamed(device)
    return this.node.fdb.filter(entry => entry.device === device)
  }
  async readSysctl(path: string) {
    this.#mayFail('readSysctl')
    return this.node.sysctls.get(path) ?? null
  }
  async lookupRoute(destination: string) {
    this.#mayFail('lookupRoute')
    return this.node.lookup(destination)
  }

  async apply(steps: readonly KernelStep[]): Promise<StepOutcome[]> {
    this.#mayFail('apply')
    return steps.map(step => {
      try {
        this.#mayFail(step.type)
        this.#applyToNode(step)
        return { step, error: null }
      } catch (error) {
        return { step, error: error as Error }
      }
    })
  }

  /** One end of a pair takes the other with it. */
  #applyToNode(step: KernelStep): void {
    const deleted = step.type === 'link.delete' ? this.node.links.get(step.device) : undefined
    if (deleted?.kind === 'veth') this.#removePair(deleted)
    else this.node.apply(step)
  }

  // ------------------------------------------------------------------ pods

  async attachPod(spec: PodEndpointSpec, elements: readonly SetElement[]): Promise<PodEndpoint> {
    this.#mayFail('attachPod')
    const network = this.#open(spec.netns)
    if (spec.netnsCookie !== null && spec.netnsCookie !== network.cookie) throw mismatch(spec.netns.path)
    await this.#makeWay(network, spec)
    if (this.node.links.has(spec.hostInterface)) throw refused(`create pair ${spec.hostInterface}`, 'EEXIST')
    if (elements.length > 0) await this.changeElements({ add: elements, remove: [] })
    return this.#wire(spec, network)
  }

  async #makeWay(network: FakeNetwork, spec: PodEndpointSpec): Promise<void> {
    const present = network.links.get(spec.podInterface)
    if (present !== undefined && this.#hostEndOf(present)?.group === REAP_GROUP) await this.reapLinks([])
    if (!network.links.has(spec.podInterface)) return
    const message = `${spec.podInterface} exists already in ${spec.netns.path}`
    throw new TwillError('kernel.interface-exists', message, { interface: spec.podInterface })
  }

  #wire(spec: PodEndpointSpec, network: FakeNetwork): PodEndpoint {
    const { mtu, alias } = spec
    const podMac = spec.podMac ?? '02:fa:ce:00:00:01'
    const veth = { kind: 'veth', mtu, up: true, carrier: true }
    const host = this.node.addLink({ ...veth, name: spec.hostInterface, mac: HOST_MAC, alias })
    const pod = network.addLink({ ...veth, name: spec.podInterface, mac: podMac, peerIndex: host.index })
    this.node.changeLink(host.name, { peerIndex: pod.index })
    for (const address of spec.addresses) {
      this.#wireAddress(host.name, podMac, address)
      wirePodAddress(network, pod.name, address)
    }
    const families = new Set(spec.addresses.map(({ family }) => family))
    if (families.has(6)) this.#addHostAddress(host.name, 6, GATEWAY[6], 64)
    if (spec.gatewayOnHostEnd) this.#addHostAddress(host.name, 4, GATEWAY[4], 32)
    return { hostIndex: host.index, podIndex: pod.index, podMac, netnsCookie: network.cookie }
  }

  #wireAddress(device: string, mac: string, pod: PodEndpointSpec['addresses'][number]): void {
    const { family, address } = pod
    const source = this.node.addresses.some(has => has.address === pod.routeSource) ? pod.routeSource : null
    this.node.apply({ type: 'neighbour.replace', device, family, address, mac })
    this.node.putRoute({
      family,
      dst: `${address}/${family === 4 ? 32 : 128}`,
      type: 'unicast',
      device,
      ...(source === null ? {} : { src: source }),
      ...(family === 4 ? { scope: 253 } : {}),
    })
  }

  #addHostAddress(device: string, family: 4 | 6, address: string, prefix: number): void {
    this.node.apply({ type: 'address.add', device, family, address, prefix, scope: 253, nodad: family === 6 })
  }

  async detachPod(spec: PodDetachSpec, elements: readonly SetElement[]): Promise<void> {
    this.#mayFail('detachPod')
    const host = this.node.links.get(spec.hostInterface)
    const ours = host !== undefined && host.alias === spec.alias ? host : null
    if (ours !== null) this.node.changeLink(ours.name, { up: false, carrier: false })
    if (spec.netns !== null) this.#podEndDown(spec, spec.netns, ours)
    if (elements.length > 0) await this.changeElements({ add: [], remove: elements }).catch(tolerateGone)
    if (ours !== null) this.node.changeLink(ours.name, { group: REAP_GROUP })
  }

  #podEndDown(spec: PodDetachSpec, ref: NetnsRef, host: Link | null): void {
    const network = this.#namespaces.get(ref.path)?.network
    if (network === undefined || !this.#isProven(ref, network, spec)) return
    const pod =
      host === null ? network.links.get(spec.podInterface) : network.linkByIndex(host.peerIndex ?? 0)
    if (!pod || (host !== null ? pod.peerIndex !== host.index : pod.mac !== spec.podMac)) return
    for (const { address, family } of spec.addresses)
      network.removeAddress(pod.name, address, family === 4 ? 32 : 128)
    network.changeLink(pod.name, { up: false, carrier: false })
  }

  #isProven(ref: NetnsRef, network: FakeNetwork, spec: PodDetachSpec): boolean {
    const actual = this.#namespaces.get(ref.path)?.ref
    const sameInode = ref.ino === null || ref.ino === actual?.ino
    return sameInode && (spec.netnsCookie === null || spec.netnsCookie === network.cookie)
  }

  async reapLinks(addresses: readonly string[]) {
    this.#mayFail('reapLinks')
    this.flushed.push(...addresses)
    const members = [...this.node.links.values()].filter(link => link.group === REAP_GROUP)
    const isOurs = (link: Link) => link.alias?.startsWith(POD_ALIAS_PREFIX) === true
    for (const link of members.filter(isOurs)) this.#removePair(link)
    const names = (links: Link[]) => links.map(({ name }) => name)
    return { deleted: names(members.filter(isOurs)), foreign: names(members.filter(link => !isOurs(link))) }
  }

  #removePair(host: Link): void {
    for (const { network } of this.#namespaces.values())
      for (const link of [...network.links.values()])
        if (link.peerIndex === host.index && link.kind === 'veth') network.removeLink(link.name)
    this.node.removeLink(host.name)
  }

  async inspectPod(netns: NetnsRef, podInterface: string): Promise<PodState> {
    this.#mayFail('inspectPod')
    const network = this.#open(netns)
    const link = network.links.get(podInterface)
    if (link === undefined) return { netnsCookie: network.cookie, pod: null }
    const onLink = <T extends { device: string | null }>(values: readonly T[]) =>
      values.filter(({ device }) => device === podInterface)
    const addresses = onLink(network.addresses)
    const routes = onLink(network.routes)
    const neighbours = onLink(network.neighbours)
    return { netnsCookie: network.cookie, pod: { ...link, addresses, routes, neighbours } }
  }

  async netnsCookie(netns: NetnsRef) {
    this.#mayFail('netnsCookie')
    return this.#open(netns).cookie
  }
  async ownNetnsCookie() {
    this.#mayFail('ownNetnsCookie')
    return this.node.cookie
  }

  // ------------------------------------------------------------------ netfilter

  async replaceRuleset(ruleset: Ruleset): Promise<void> {
    this.#mayFail('replaceRuleset')
    const elements = new Map([...ruleset.elements].map(([set, values]) => [set, new Set(values)]))
    this.#ruleset = { chains: ruleset.chains, elements }
    this.#intact = true
  }

  async changeElements(change: { add: readonly SetElement[]; remove: readonly SetElement[] }): Promise<void> {
    this.#mayFail('changeElements')
    const sets = [...change.add, ...change.remove].map(({ set }) => this.#ruleset?.elements.get(set))
    if (sets.includes(undefined)) throw refused('change elements', 'ENOENT')
    for (const { set, element } of change.remove) this.#ruleset?.elements.get(set)?.delete(element)
    for (const { set, element } of change.add) this.#ruleset?.elements.get(set)?.add(element)
  }

  async rulesetIntact() {
    this.#mayFail('rulesetIntact')
    return this.#intact
  }

  async removeRuleset() {
    this.#mayFail('removeRuleset')
    const stood = this.#ruleset !== null
    this.deleteRuleset()
    return stood
  }

  async ensureAcceptChains(chains: readonly AcceptChain[]) {
    this.#mayFail('ensureAcceptChains')
    const same = JSON.stringify(chains) === JSON.stringify(this.acceptChains)
    this.acceptChains = chains
    return { changed: same ? [] : ['accept chains'] }
  }

  async readForeignFilters() {
    this.#mayFail('readForeignFilters')
    return this.foreignFilters
  }

  async glanceAtLegacyFilters() {
    this.#mayFail('glanceAtLegacyFilters')
    return this.legacyFilters
  }

  watch(listener: (event: KernelEvent) => void) {
    this.#listeners.add(listener)
    return {
      close: async () => {
        this.#listeners.delete(listener)
      },
    }
  }

  async close(): Promise<void> {
    this.#listeners.clear()
  }

  // ------------------------------------------------------------------

  #mayFail(operation: string): void {
    const error = this.#failures.get(operation)?.shift()
    if (error !== undefined) throw error
  }

  #open(ref: NetnsRef): FakeNetwork {
    const namespace = this.#namespaces.get(ref.path)
    if (namespace === undefined)
      throw new TwillError('kernel.netns-gone', `network namespace ${ref.path} cannot be opened`, {
        path: ref.path,
      })
    if (ref.ino !== null && ref.ino !== namespace.ref.ino) throw mismatch(ref.path)
    return namespace.network
  }

  #hostEndOf(podEnd: Link): Link | null {
    if (podEnd.kind !== 'veth' || podEnd.peerIndex === null) return null
    const host = this.node.linkByIndex(podEnd.peerIndex)
    return host?.peerIndex === podEnd.index ? host : null
  }
}

/** A table or set that somebody deleted holds no elements either. */
function tolerateGone(error: unknown): void {
  if (!failedWith(error, 'ENOENT')) throw error
}

function mismatch(path: string): TwillError {
  return new TwillError('kernel.netns-mismatch', `${path} is another namespace here`, { path })
}

function wirePodAddress(
  network: FakeNetwork,
  device: string,
  { family, address }: PodEndpointSpec['addresses'][number],
): void {
  const prefix = family === 4 ? 32 : 128
  const gateway = GATEWAY[family]
  network.apply({ type: 'address.add', device, family, address, prefix, scope: 0, nodad: family === 6 })
  network.apply({ type: 'neighbour.replace', device, family, address: gateway, mac: HOST_MAC })
  const route = { family, type: 'unicast', device } as const
  if (family === 4) network.putRoute({ ...route, dst: `${gateway}/32`, scope: 253 })
  const dst = family === 4 ? '0.0.0.0/0' : '::/0'
  const taken = network.routes.some(has => has.dst === dst && has.device !== device)
  network.putRoute({
    ...route,
    dst,
    gateway,
    ...(taken ? { metric: 1024 + network.linkNamed(device).index } : {}),
  })
}
