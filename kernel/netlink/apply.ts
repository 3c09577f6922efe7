/**
 * Executes steps: one writer per step type, no decisions. Steps go out in datagrams of many; a step whose device
 * is not there, or whose writing fails, has its error in its outcome and stops nobody.
 *
 * Invariant: order is kept; a step that may change what names mean (a link comes or goes) is sent before the
 * next one is written. Trap: a name is looked up once per datagram, so a link that others rename in between is
 * hit by its index.
 */
import { existsSync } from 'node:fs'
import { parseCidr, parseIp } from '../../lib/address.ts'
import { messageOf, TwillError } from '../../lib/errors.ts'
import type { KernelStep, RouteSpec, StepOutcome } from '../kernel.ts'
import { ROUTE_PROTOCOL } from '../ownership.ts'
import type { Sysctls } from '../sysctl.ts'
import { writeAddress } from './addresses.ts'
import * as c from './constants.ts'
import { Datagram } from './datagram.ts'
import { failedWith, kernelFailed } from './libc.ts'
import { linkOf, readLink, writeAddVxlan, writeDeleteLink, writeGetLink, writeLinkHeader } from './links.ts'
import { writeFdbEntry, writeNeighbour } from './neighbours.ts'
import { type RouteFields, writeRoute } from './routes.ts'
import { failureOf, type NetlinkSocket, type Outcome } from './socket.ts'

type Step<T extends KernelStep['type']> = Extract<KernelStep, { type: T }>
type IndexOf = (device: string) => number
type Writer<T extends KernelStep['type']> = (request: Datagram, step: Step<T>, indexOf: IndexOf) => void
type BatchedType = Exclude<KernelStep['type'], 'vxlan.add' | 'link.delete' | 'sysctl.set'>

const PUT = c.NLM_F_CREATE | c.NLM_F_REPLACE
const FULL = 48 * 1024
const EEXIST = 17
/** RFC 8200, section 5: below it a link has no IPv6. */
const IPV6_MIN_MTU = 1280
const ENODEV = 19
/** What says that a thing to be deleted is not there. */
const GONE = ['ENODEV', 'ENOENT', 'ESRCH', 'EADDRNOTAVAIL']
const ROUTE_TYPES = {
  unicast: c.RTN_UNICAST,
  blackhole: c.RTN_BLACKHOLE,
  unreachable: c.RTN_UNREACHABLE,
} as const
/** RT_SCOPE_NOWHERE: in a deletion, any scope. */
const ANY_SCOPE = 255

const WRITERS: { readonly [T in BatchedType]: Writer<T> } = {
  'link.set': writeSetLink,
  'address.add': (request, step, indexOf) =>
    writeAddress(request, c.RTM_NEWADDR, PUT, {
      ...step,
      index: indexOf(step.device),
      address: parseIp(step.address),
    }),
  'address.delete': (request, step, indexOf) =>
    writeAddress(request, c.RTM_DELADDR, 0, {
      index: indexOf(step.device),
      address: parseIp(step.address),
      prefix: step.prefix,
      scope: 0,
      nodad: false,
    }),
  'route.replace': (request, step, indexOf) =>
    writeRoute(request, c.RTM_NEWROUTE, PUT, routeFields(step.route, indexOf, step.route.scope ?? 0)),
  'route.delete': (request, step, indexOf) =>
    writeRoute(request, c.RTM_DELROUTE, 0, routeFields(step.route, indexOf, step.route.scope ?? ANY_SCOPE)),
  'neighbour.replace': (request, step, indexOf) =>
    writeNeighbour(request, c.RTM_NEWNEIGH, PUT, {
      index: indexOf(step.device),
      address: parseIp(step.address),
      mac: step.mac,
    }),
  'neighbour.delete': (request, step, indexOf) =>
    writeNeighbour(request, c.RTM_DELNEIGH, 0, {
      index: indexOf(step.device),
      address: parseIp(step.address),
      mac: null,
    }),
  'fdb.replace': (request, step, indexOf) =>
    writeFdbEntry(request, c.RTM_NEWNEIGH, PUT, fdbFields(step, indexOf)),
  'fdb.delete': (request, step, indexOf) =>
    writeFdbEntry(request, c.RTM_DELNEIGH, 0, fdbFields(step, indexOf)),
}

function writeSetLink(request: Datagram, step: Step<'link.set'>, indexOf: IndexOf): void {
  const change = step.up === undefined ? 0 : c.IFF_UP
  writeLinkHeader(request.begin(c.RTM_SETLINK, 0), indexOf(step.device), step.up ? c.IFF_UP : 0, change)
  if (step.mac !== undefined) request.attrMac(c.IFLA_ADDRESS, step.mac)
  if (step.mtu !== undefined) request.attrU32(c.IFLA_MTU, step.mtu)
  if (step.alias !== undefined) request.attrString(c.IFLA_IFALIAS, step.alias)
  if (step.group !== undefined) request.attrU32(c.IFLA_GROUP, step.group)
}

function routeFields(route: RouteSpec, indexOf: IndexOf, scope: number): RouteFields {
  return {
    dst: parseCidr(route.dst),
    type: ROUTE_TYPES[route.type],
    protocol: ROUTE_PROTOCOL,
    scope,
    ...(route.device === undefined ? {} : { index: indexOf(route.device) }),
    ...(route.gateway === undefined ? {} : { gateway: parseIp(route.gateway) }),
    ...(route.src === undefined ? {} : { src: parseIp(route.src) }),
    ...(route.metric === undefined ? {} : { metric: route.metric }),
    ...(route.onlink === undefined ? {} : { onlink: route.onlink }),
    ...(route.mtu === undefined ? {} : { mtu: route.mtu }),
  }
}

function fdbFields(step: Step<'fdb.replace' | 'fdb.delete'>, indexOf: IndexOf) {
  return { index: indexOf(step.device), mac: step.mac, dst: parseIp(step.dst) }
}

export class StepExecutor {
  readonly #socket: NetlinkSocket
  readonly #sysctls: Sysctls
  readonly #request = new Datagram(65536)
  readonly #lookup = new Datagram(4096)
  readonly #ipv6 = existsSync('/proc/sys/net/ipv6')

  /** @param modules.socket NETLINK_ROUTE, in the node's own namespace */
  constructor(_options: object, modules: { socket: NetlinkSocket; sysctls: Sysctls }) {
    this.#socket = modules.socket
    this.#sysctls = modules.sysctls
  }

  /** Every step in order; an outcome for each. */
  apply(steps: readonly KernelStep[]): StepOutcome[] {
    const outcomes: StepOutcome[] = []
    for (let next = 0; next < steps.length; ) {
      const step = steps[next] as KernelStep
      if (isBatched(step)) next = this.#applyBatch(steps, next, outcomes)
      else outcomes.push(this.#applyAlone(steps[next++] as Exclude<KernelStep, { type: BatchedType }>))
    }
    return outcomes
  }

  /** Writes and sends what fits, from `first` on; answers where to go on. */
  #applyBatch(steps: readonly KernelStep[], first: number, outcomes: StepOutcome[]): number {
    const indexOf = this.#indexLookup()
    const request = this.#request.reset()
    const sent: number[] = []
    let next = first
    for (; next < steps.length && request.length < FULL; next++) {
      const step = steps[next] as KernelStep
      if (!isBatched(step)) break
      const written = request.messages.length
      outcomes.push({ step, error: writeStep(request, step, indexOf) })
      if (request.messages.length > written) sent.push(outcomes.length - 1)
    }
    this.#send(request, sent, outcomes)
    return next
  }

  #send(request: Datagram, sent: readonly number[], outcomes: StepOutcome[]): void {
    let answers: Outcome[] | TwillError
    try {
      answers = this.#socket.execute(request)
    } catch (error) {
      if (!(error instanceof TwillError)) throw error
      answers = error
    }
    sent.forEach((at, i) => {
      const { step } = outcomes[at] as StepOutcome
      const error = answers instanceof TwillError ? answers : judge(step, answers[i] as Outcome)
      outcomes[at] = { step, error }
    })
  }

  #applyAlone(step: Exclude<KernelStep, { type: BatchedType }>): StepOutcome {
    try {
      if (step.type === 'sysctl.set') this.#sysctls.write(step.path, step.value)
      else if (step.type === 'vxlan.add') this.#addVxlan(step)
      else this.#deleteLink(step.device)
      return { step, error: null }
    } catch (error) {
      return { step, error: asError(error) }
    }
  }

  #addVxlan(step: Step<'vxlan.add'>): void {
    const present = this.#socket.execute(writeGetLink(this.#lookup.reset(), step.name))[0] as Outcome
    if (present.errno === 0) this.#compareVxlan(step, present)
    else this.#createVxlan(step)
  }

  #createVxlan(step: Step<'vxlan.add'>): void {
    const underlay = step.vxlan.underlay === null ? 0 : this.#indexLookup()(step.vxlan.underlay)
    writeAddVxlan(this.#request.reset(), step, underlay)
    // The kernel ignores an alias in the creating message; one datagram is not cut in two by a kill.
    writeLinkHeader(this.#request.begin(c.RTM_SETLINK, 0), 0)
    this.#request.attrString(c.IFLA_IFNAME, step.name).attrString(c.IFLA_IFALIAS, step.alias)
    // No link-local address of its own, also when the switch for that becomes desired only after it is up.
    if (this.#ipv6 && step.mtu >= IPV6_MIN_MTU)
      this.#request
        .nest(c.IFLA_AF_SPEC)
        .nest(c.AF_INET6)
        .attrU8(c.IFLA_INET6_ADDR_GEN_MODE, c.IN6_ADDR_GEN_MODE_NONE)
        .end()
        .end()
    this.#socket.executeAll(`add ${step.name}`, this.#request)
  }

  /** Adding what is there with the same attributes succeeds. */
  #compareVxlan(step: Step<'vxlan.add'>, present: Outcome): void {
    const reply = present.replies[0]
    const nameOf = (index: number) => this.#nameOf(index)
    const link = reply === undefined ? null : linkOf(readLink(reply), nameOf)
    const same =
      link !== null &&
      link.alias === step.alias &&
      link.mac === step.mac &&
      link.mtu === step.mtu &&
      JSON.stringify(link.vxlan) === JSON.stringify(inOrder(step.vxlan))
    if (!same) throw kernelFailed(`add ${step.name}`, EEXIST, 'a link of that name exists, and differs')
  }

  #deleteLink(device: string): void {
    const index = this.#findIndex(device)
    if (index === null) return
    const outcome = this.#socket.execute(writeDeleteLink(this.#request.reset(), index))[0] as Outcome
    const failure = outcome.errno === 0 ? null : failureOf(`delete ${device}`, outcome)
    if (failure !== null && !failedWith(failure, ...GONE)) throw failure
  }

  #indexLookup(): IndexOf {
    const known = new Map<string, number | null>()
    return device => {
      if (!known.has(device)) known.set(device, this.#findIndex(device))
      const index = known.get(device)
      if (index === null || index === undefined)
        throw kernelFailed(`look up ${device}`, ENODEV, 'no such device')
      return index
    }
  }

  #findIndex(device: string): number | null {
    const outcome = this.#socket.execute(writeGetLink(this.#lookup.reset(), device))[0] as Outcome
    const reply = outcome.replies[0]
    if (outcome.errno === 0 && reply !== undefined) return readLink(reply).index
    const failure = failureOf(`look up ${device}`, outcome)
    if (failedWith(failure, 'ENODEV')) return null
    throw failure
  }

  #nameOf(index: number): string | null {
    const outcome = this.#socket.execute(writeGetLink(this.#lookup.reset(), index))[0] as Outcome
    const reply = outcome.replies[0]
    return outcome.errno === 0 && reply !== undefined ? readLink(reply).name : null
  }
}

function isBatched(step: KernelStep): step is Extract<KernelStep, { type: BatchedType }> {
  return step.type in WRITERS
}

/** Writes nothing when it fails, nor when what is to be deleted has no device any more. */
function writeStep(
  request: Datagram,
  step: Extract<KernelStep, { type: BatchedType }>,
  indexOf: IndexOf,
): Error | null {
  const mark = request.mark()
  try {
    ;(WRITERS[step.type] as Writer<BatchedType>)(request, step as Step<BatchedType>, indexOf)
    return null
  } catch (error) {
    request.rewind(mark)
    return isDeletion(step) && failedWith(error, ...GONE) ? null : asError(error)
  }
}

function judge(step: KernelStep, outcome: Outcome): Error | null {
  if (outcome.errno === 0) return null
  const failure = failureOf(step.type, outcome)
  return isDeletion(step) && failedWith(failure, ...GONE) ? null : failure
}

const isDeletion = (step: KernelStep) => step.type.endsWith('.delete')

const inOrder = ({ vni, port, local, underlay, learning }: Step<'vxlan.add'>['vxlan']) => ({
  vni,
  port,
  local,
  underlay,
  learning,
})

function asError(error: unknown): Error {
  return error instanceof Error ? error : new TwillError('internal', messageOf(error))
}
