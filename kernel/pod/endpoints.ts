/**
 * Pods' endpoints, synchronous, for one worker thread: attach, detach and inspect as kernel.ts specifies them.
 *
 * Invariant: an attach that throws leaves no link, route or element of its own; a detach that returns leaves
 * both ends down and the host end in REAP_GROUP. Trap: nothing here deletes a link or walks the tracked flows on
 * the good path, because that blocks the thread for 15-40 ms; see reap.ts.
 */
import { existsSync } from 'node:fs'
import { type Ip, parseIp } from '../../lib/address.ts'
import { messageOf, TwillError } from '../../lib/errors.ts'
import { faultPoint } from '../../lib/fault.ts'
import type {
  NetnsRef,
  PodDetachSpec,
  PodEndpoint,
  PodEndpointSpec,
  PodState,
  SetElement,
} from '../kernel.ts'
import { Datagram } from '../netlink/datagram.ts'
import { failedWith, type Libc } from '../netlink/libc.ts'
import { type LinkRecord, readLink, writeDeleteLink, writeGetLink } from '../netlink/links.ts'
import { failureOf, NetlinkSocket, type Outcome } from '../netlink/socket.ts'
import { isNamespaceAbsent, type Namespaces } from '../netns/namespaces.ts'
import { POD_ALIAS_PREFIX, REAP_GROUP } from '../ownership.ts'
import type { Sysctls } from '../sysctl.ts'
import { inspectPod } from './inspect.ts'
import {
  writeDown,
  writeGroup,
  writeHostEnd,
  writePair,
  writePodEnd,
  writeSecondDefault6,
} from './messages.ts'

/** The policy entries of pods, kept by whoever owns the table. */
export interface ElementTable {
  change(change: { add: readonly SetElement[]; remove: readonly SetElement[] }): void
}

export interface EndpointModules {
  readonly libc: Libc
  /** NETLINK_ROUTE in the node's own namespace. */
  readonly socket: NetlinkSocket
  readonly namespaces: Namespaces
  readonly elements: ElementTable
  readonly sysctls: Sysctls
}

export interface AttachJob {
  readonly spec: PodEndpointSpec
  readonly elements: readonly SetElement[]
}

export interface DetachJob {
  readonly spec: PodDetachSpec
  readonly elements: readonly SetElement[]
}

/** Called once for each job, in order. */
export type Answering<T> = (index: number, outcome: T | Error) => void

interface CreatedPair {
  readonly hostIndex: number
  readonly podIndex: number
}

/** ENXIO: a link without IPv6, as one with an MTU below 1280 is, has no IPv6 address to take away. */
const NO_SUCH = ['ENODEV', 'ENOENT', 'ESRCH', 'EADDRNOTAVAIL', 'ENXIO']

export class PodEndpoints {
  readonly #modules: EndpointModules
  readonly #ipv6 = existsSync('/proc/sys/net/ipv6')
  readonly #request = new Datagram(16384)
  /** For the short-lived sockets inside pods; one at a time. */
  readonly #received = Buffer.allocUnsafeSlow(65536)

  constructor(_options: object, modules: EndpointModules) {
    this.#modules = modules
  }

  /**
   * Attaches each. Their policy comes first, in one change: it costs as much for many as for one. Answers, each when it
   * is done: the endpoint; 'awaiting-reap' when podInterface is one of ours whose deletion is due (nothing was touched:
   * reap, then attach again); or TwillError kernel.netns-gone, kernel.netns-mismatch, kernel.interface-exists,
   * kernel.failed.
   */
  attach(jobs: readonly AttachJob[], answer: Answering<PodEndpoint | 'awaiting-reap'>): void {
    const stand = this.#addTogether(jobs)
    jobs.forEach((job, i) => {
      answer(
        i,
        attempted(() => this.#attachOne(job, stand)),
      )
    })
  }

  /** Detaches each, and answers null or TwillError kernel.failed; an absent or foreign namespace is no error. */
  detach(jobs: readonly DetachJob[], answer: Answering<null>): void {
    const hosts = jobs.map(({ spec }) => attempted(() => this.#takeDown(spec)))
    // The kernel took routes and neighbours with the links' going down.
    const gone = this.#removedTogether(jobs.filter((_, i) => !(hosts[i] instanceof Error)))
    jobs.forEach(({ elements }, i) => {
      const host = hosts[i] as LinkRecord | null | Error
      answer(
        i,
        attempted(() => {
          if (host instanceof Error) throw host
          if (!gone) this.#removeElements(elements)
          this.#leaveToReaper(host)
          return null
        }),
      )
    })
  }

  /** @throws TwillError kernel.netns-gone, kernel.netns-mismatch, kernel.failed */
  inspect(netns: NetnsRef, podInterface: string): PodState {
    return this.#inside(netns, socket => ({
      netnsCookie: this.#modules.namespaces.cookieOf(socket.fd),
      pod: inspectPod(socket, podInterface),
    }))
  }

  /** @throws TwillError kernel.netns-gone, kernel.netns-mismatch, kernel.failed */
  cookie(netns: NetnsRef): string {
    return this.#inside(netns, socket => this.#modules.namespaces.cookieOf(socket.fd))
  }

  ownCookie(): string {
    return this.#modules.namespaces.cookieOf(this.#modules.socket.fd)
  }

  // ------------------------------------------------------------------ attach

  /** False: one of them does not go in, so each is to try alone. */
  #addTogether(jobs: readonly AttachJob[]): boolean {
    const elements = jobs.flatMap(job => job.elements)
    try {
      if (elements.length > 0) this.#modules.elements.change({ add: elements, remove: [] })
      faultPoint('add.policy-in-force')
      return true
    } catch {
      return false
    }
  }

  #attachOne({ spec, elements }: AttachJob, stand: boolean): PodEndpoint | 'awaiting-reap' {
    if (!stand) this.#modules.elements.change({ add: elements, remove: [] })
    // Of a pod that is attached and attached anew they are not this attempt's: its link may stand after all.
    const own = spec.netnsCookie === null ? elements : []
    let endpoint: PodEndpoint | 'awaiting-reap'
    try {
      endpoint = this.#build(spec)
    } catch (error) {
      throw this.#undone(error, () => this.#removeElements(own))
    }
    if (endpoint === 'awaiting-reap') this.#removeElements(own)
    return endpoint
  }

  #build(spec: PodEndpointSpec): PodEndpoint | 'awaiting-reap' {
    const { namespaces } = this.#modules
    const netns = namespaces.open(spec.netns)
    try {
      if (spec.netnsCookie !== null) this.#proveCookie(netns, spec)
      const pair = this.#createPair(spec, netns)
      return pair === 'awaiting-reap' ? pair : this.#finish(spec, netns, pair)
    } finally {
      namespaces.close(netns)
    }
  }

  #createPair(spec: PodEndpointSpec, netns: number): CreatedPair | 'awaiting-reap' {
    writePair(this.#request, spec, netns)
    const [created, named] = this.#modules.socket.execute(this.#request) as [Outcome, Outcome]
    if (created.errno !== 0) return this.#pairRefused(spec, netns, created)
    faultPoint('add.pair-created')
    const link = created.replies[0] === undefined ? null : readLink(created.replies[0])
    if (link === null || link.peerIndex === null)
      throw new TwillError('internal', `the kernel did not echo the pair of ${spec.hostInterface}`)
    if (named.errno !== 0) {
      throw this.#undone(failureOf(`name ${spec.hostInterface} as ours`, named), () =>
        this.#deleteLink(link.index),
      )
    }
    return { hostIndex: link.index, podIndex: link.peerIndex }
  }

  /** Says why, by looking; the kernel's EEXIST means either end's name, its EINVAL may mean the namespace. */
  #pairRefused(spec: PodEndpointSpec, netns: number, outcome: Outcome): 'awaiting-reap' {
    const failure = failureOf(`create pair ${spec.hostInterface}`, outcome)
    const socket = this.#socketIn(netns, spec.netns.path)
    try {
      if (!failedWith(failure, 'EEXIST')) throw failure
      const present = this.#findLink(socket, spec.podInterface)
      if (present === null) throw failure
      if (this.#awaitsReap(present)) return 'awaiting-reap'
    } finally {
      socket.close()
    }
    throw new TwillError(
      'kernel.interface-exists',
      `${spec.podInterface} exists already in ${spec.netns.path}`,
      { interface: spec.podInterface, path: spec.netns.path },
    )
  }

  #awaitsReap(podEnd: LinkRecord): boolean {
    if (podEnd.kind !== 'veth' || podEnd.peerIndex === null) return false
    const host = this.#findLink(this.#modules.socket, podEnd.peerIndex)
    return (
      host !== null &&
      host.peerIndex === podEnd.index &&
      host.group === REAP_GROUP &&
      host.alias?.startsWith(POD_ALIAS_PREFIX) === true
    )
  }

  #finish(spec: PodEndpointSpec, netns: number, pair: CreatedPair): PodEndpoint {
    let socket: NetlinkSocket | null = null
    try {
      socket = this.#enter(spec, netns)
      const podMac = spec.podMac ?? this.#macOf(socket, pair.podIndex)
      this.#configureHostEnd(spec, pair.hostIndex, podMac)
      faultPoint('add.host-configured')
      this.#configurePodEnd(spec, socket, pair.podIndex)
      faultPoint('add.pod-configured')
      return { ...pair, podMac, netnsCookie: this.#modules.namespaces.cookieOf(socket.fd) }
    } catch (error) {
      throw this.#undone(error, () => this.#deleteLink(pair.hostIndex))
    } finally {
      socket?.close()
    }
  }

  /** One visit to the pod's namespace: its socket, and what only files there can say. */
  #enter(spec: PodEndpointSpec, netns: number): NetlinkSocket {
    return this.#modules.namespaces.within(netns, spec.netns.path, () => {
      const socket = this.#newSocket()
      this.#writeIpv6Sysctls(spec, spec.podInterface)
      return socket
    })
  }

  /**
   * No router advertisements taken (CVE-2020-10749), and IPv6 on where the pod has it (CNI-082). Below an MTU of
   * 1280 a link has no IPv6 and no such files, which is well for a pod without.
   */
  #writeIpv6Sysctls(spec: PodEndpointSpec, device: string): void {
    if (!this.#ipv6) return
    const { sysctls } = this.#modules
    const conf = `net/ipv6/conf/${device}`
    try {
      sysctls.write(`${conf}/accept_ra`, '0')
      if (hasIpv6(spec)) sysctls.write(`${conf}/disable_ipv6`, '0')
    } catch (error) {
      if (hasIpv6(spec) || !failedWith(error, 'ENOENT')) throw error
    }
  }

  #configureHostEnd(spec: PodEndpointSpec, index: number, podMac: string): void {
    this.#writeIpv6Sysctls(spec, spec.hostInterface)
    const host = { index, podMac, ipv6: this.#ipv6 }
    try {
      writeHostEnd(this.#request, spec, { ...host, withSource: true })
      this.#modules.socket.executeAll('configure host end', this.#request)
    } catch (error) {
      // A source that is tentative or gone: better a route without than no pod; the loop puts it right.
      if (!failedWith(error, 'EINVAL') || spec.addresses.every(({ routeSource }) => routeSource === null))
        throw error
      writeHostEnd(this.#request, spec, { ...host, withSource: false })
      this.#modules.socket.executeAll('configure host end', this.#request)
    }
  }

  #configurePodEnd(spec: PodEndpointSpec, socket: NetlinkSocket, index: number): void {
    const addresses = spec.addresses.map(({ address }) => parseIp(address))
    writePodEnd(this.#request, addresses, index)
    const outcomes = socket.execute(this.#request)
    const failed = outcomes.findIndex(outcome => outcome.errno !== 0)
    if (failed < 0) return
    const failure = failureOf('configure pod end', outcomes[failed] as Outcome)
    // CNI-080: the last request is the IPv6 default route; another network may have one.
    if (failed !== outcomes.length - 1 || !hasIpv6(spec) || !failedWith(failure, 'EEXIST')) throw failure
    writeSecondDefault6(this.#request, index)
    socket.executeAll('add second default route', this.#request)
  }

  /** Answers the error to throw: the cause, and with it what went wrong while undoing. */
  #undone(cause: unknown, undo: () => void): unknown {
    try {
      undo()
      return cause
    } catch (error) {
      const message = `${messageOf(cause)}; and undoing it: ${messageOf(error)}`
      return new TwillError(
        'kernel.failed',
        message,
        { operation: 'attach', errno: 'EIO', message },
        { cause },
      )
    }
  }

  /** Its going takes routes and neighbours along, and ends all traffic: the policy goes after it. */
  #deleteLink(hostIndex: number): void {
    writeDeleteLink(this.#request.reset(), hostIndex)
    checkGone('delete half-made pair', this.#modules.socket.execute(this.#request))
  }

  /** A table or set that somebody deleted holds no elements either. */
  #removeElements(elements: readonly SetElement[]): void {
    try {
      if (elements.length > 0) this.#modules.elements.change({ add: [], remove: elements })
    } catch (error) {
      if (!failedWith(error, 'ENOENT')) throw error
    }
  }

  #proveCookie(netns: number, spec: PodEndpointSpec): void {
    const socket = this.#socketIn(netns, spec.netns.path)
    const actual = this.#modules.namespaces.cookieOf(socket.fd)
    socket.close()
    if (actual === spec.netnsCookie) return
    throw new TwillError(
      'kernel.netns-mismatch',
      `${spec.netns.path} is another namespace now: cookie ${actual}, expected ${spec.netnsCookie}`,
      { path: spec.netns.path, expected: spec.netnsCookie, actual },
    )
  }

  // ------------------------------------------------------------------ detach

  #takeDown(spec: PodDetachSpec): LinkRecord | null {
    const addresses = spec.addresses.map(({ address }) => parseIp(address))
    const host = this.#ownHostEnd(spec.hostInterface, spec.alias)
    if (host !== null) this.#execute('set host end down', writeDown, host.index, [])
    if (spec.netns !== null) this.#podEndDown(spec, spec.netns, host, addresses)
    faultPoint('del.link-down')
    return host
  }

  /** False: each is to try alone. */
  #removedTogether(jobs: readonly DetachJob[]): boolean {
    try {
      this.#removeElements(jobs.flatMap(({ elements }) => elements))
      faultPoint('del.policy-removed')
      return true
    } catch {
      return false
    }
  }

  #leaveToReaper(host: LinkRecord | null): void {
    if (host !== null)
      this.#execute('put host end into the group of the deleted', writeGroup, host.index, REAP_GROUP)
    faultPoint('del.group-set')
  }

  #ownHostEnd(name: string, alias: string): LinkRecord | null {
    const link = this.#findLink(this.#modules.socket, name)
    return link !== null && link.alias === alias ? link : null
  }

  #podEndDown(spec: PodDetachSpec, ref: NetnsRef, host: LinkRecord | null, addresses: readonly Ip[]): void {
    try {
      this.#inside(ref, socket => {
        const link = this.#findLink(socket, host?.peerIndex ?? spec.podInterface)
        if (link === null || !this.#isOurs(spec, socket, host, link)) return
        writeDown(this.#request, link.index, addresses)
        checkGone('take pod end down', socket.execute(this.#request))
      })
    } catch (error) {
      // Whatever root in the pod has made of it: with the host end, which is down, goes this one.
      if (host === null && !isNamespaceAbsent(error)) throw error
    }
  }

  /** CNI-137: the path may have been recycled for another pod. */
  #isOurs(spec: PodDetachSpec, socket: NetlinkSocket, host: LinkRecord | null, podEnd: LinkRecord): boolean {
    const sameNamespace =
      spec.netnsCookie === null || spec.netnsCookie === this.#modules.namespaces.cookieOf(socket.fd)
    if (!sameNamespace) return false
    if (host !== null)
      return podEnd.kind === 'veth' && podEnd.index === host.peerIndex && podEnd.peerIndex === host.index
    return spec.netnsCookie !== null && spec.podMac !== null && podEnd.mac === spec.podMac
  }

  #execute<A extends unknown[]>(
    operation: string,
    write: (request: Datagram, ...args: A) => void,
    ...args: A
  ): void {
    write(this.#request, ...args)
    checkGone(operation, this.#modules.socket.execute(this.#request))
  }

  // ------------------------------------------------------------------ namespaces and links

  #inside<T>(ref: NetnsRef, work: (socket: NetlinkSocket) => T): T {
    const netns = this.#modules.namespaces.open(ref)
    try {
      const socket = this.#socketIn(netns, ref.path)
      try {
        return work(socket)
      } finally {
        socket.close()
      }
    } finally {
      this.#modules.namespaces.close(netns)
    }
  }

  #socketIn(netns: number, path: string): NetlinkSocket {
    return this.#modules.namespaces.within(netns, path, () => this.#newSocket())
  }

  #newSocket(): NetlinkSocket {
    return new NetlinkSocket({ protocol: 0, receiveInto: this.#received }, { libc: this.#modules.libc })
  }

  #findLink(socket: NetlinkSocket, link: string | number): LinkRecord | null {
    const outcome = socket.execute(writeGetLink(this.#request.reset(), link))[0] as Outcome
    if (outcome.errno === 0) return outcome.replies[0] === undefined ? null : readLink(outcome.replies[0])
    const failure = failureOf(`look up link ${link}`, outcome)
    if (failedWith(failure, ...NO_SUCH)) return null
    throw failure
  }

  #macOf(socket: NetlinkSocket, index: number): string {
    const mac = this.#findLink(socket, index)?.mac
    if (!mac) throw new TwillError('internal', `pod end ${index} has no MAC`)
    return mac
  }
}

function attempted<T>(work: () => T): T | Error {
  try {
    return work()
  } catch (error) {
    return error as Error
  }
}

const hasIpv6 = (spec: PodEndpointSpec) => spec.addresses.some(address => address.family === 6)

/** Taking away what is gone succeeds. */
function checkGone(operation: string, outcomes: readonly Outcome[]): void {
  for (const outcome of outcomes) {
    if (outcome.errno === 0) continue
    const failure = failureOf(operation, outcome)
    if (!failedWith(failure, ...NO_SUCH)) throw failure
  }
}
