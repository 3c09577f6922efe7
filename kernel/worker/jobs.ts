/**
 * What the kernel's threads are asked to do, and how answers travel. Two threads, because calls block:
 *
 * | thread | jobs | blocks for |
 * |---|---|---|
 * | pods | attach, detach, inspect; all of nftables | under a millisecond each; a whole ruleset up to 0.2 s |
 * | node | reads and steps of the loop, accept chains, deletion of links, notifications | 15-50 ms |
 *
 * A third would cost 10 MiB and gain nothing: the loop and whoever waits for a deletion have tens of milliseconds.
 *
 * nftables lives with the pods: their elements go in before their links, and whole rulesets are rare. Invariant: jobs
 * are done in the order they were posted; of pods that wait together, those of one kind together.
 */
import { type ErrorCode, type ErrorData, messageOf, TwillError } from '../../lib/errors.ts'
import type { HostPaths } from '../host-paths.ts'
import type {
  Kernel,
  KernelEvent,
  NetnsRef,
  PodDetachSpec,
  PodEndpoint,
  PodEndpointSpec,
  PodState,
  SetElement,
} from '../kernel.ts'

type Sync<F> = F extends (...args: infer A) => Promise<infer R> ? (...args: A) => R : never

export interface PodsJobs {
  attach(spec: PodEndpointSpec, elements: readonly SetElement[]): PodEndpoint | 'awaiting-reap'
  detach(spec: PodDetachSpec, elements: readonly SetElement[]): void
  inspect(netns: NetnsRef, podInterface: string): PodState
  netnsCookie(netns: NetnsRef): string
  ownNetnsCookie(): string
  replaceRuleset: Sync<Kernel['replaceRuleset']>
  changeElements: Sync<Kernel['changeElements']>
  rulesetIntact(): boolean
  removeRuleset(): boolean
  /** Addresses of this thread's sockets, by which its changes are told from others'. */
  ports(): number[]
}

export interface NodeJobs {
  readLinks: Sync<Kernel['readLinks']>
  readAddresses: Sync<Kernel['readAddresses']>
  readRoutes: Sync<Kernel['readRoutes']>
  readNeighbours: Sync<Kernel['readNeighbours']>
  readFdb: Sync<Kernel['readFdb']>
  readSysctl: Sync<Kernel['readSysctl']>
  lookupRoute: Sync<Kernel['lookupRoute']>
  apply: Sync<Kernel['apply']>
  ensureAcceptChains: Sync<Kernel['ensureAcceptChains']>
  readForeignFilters: Sync<Kernel['readForeignFilters']>
  glanceAtLegacyFilters: Sync<Kernel['glanceAtLegacyFilters']>
  reapLinks: Sync<Kernel['reapLinks']>
  /** Every pod's MAC is reported soon. */
  askPodMacs(): void
  /** Begins to report; `ports` are those of our other sockets. */
  watch(ports: readonly number[]): void
}

/** What a thread is given when it begins. */
export interface ThreadData {
  readonly role: Role
  readonly host: HostPaths
}

export interface Roles {
  pods: PodsJobs
  node: NodeJobs
}

export type Role = keyof Roles

export interface Request {
  readonly id: number
  readonly job: string
  readonly args: readonly unknown[]
}

/** Done sooner than a message of its own is sent and answered: shares one with others of its kind. */
export const isShort = (job: string): boolean => job === 'netnsCookie'

/** Errors lose their class on the way; what makes a TwillError travels as data. */
export interface SentError {
  readonly code: ErrorCode
  readonly message: string
  readonly data: ErrorData
  readonly retryable: boolean
}

/** `wakeFd`: to be written to after each message, since the thread waits elsewhere; see monitor/. */
export interface Ready {
  readonly ready: true
  readonly wakeFd: number | null
}

export type Answered =
  | { readonly id: number; readonly value: unknown }
  | { readonly id: number; readonly error: SentError }

/** The thread sends; it is sent arrays of `Request`. */
export type Answer = Ready | { readonly answers: readonly Answered[] } | { readonly event: KernelEvent }

export function sentError(error: unknown): SentError {
  if (error instanceof TwillError)
    return { code: error.code, message: error.message, data: error.data, retryable: error.retryable }
  const message = error instanceof Error ? (error.stack ?? error.message) : messageOf(error)
  return { code: 'internal', message, data: {}, retryable: false }
}

export function receivedError(sent: SentError): TwillError {
  return new TwillError(sent.code, sent.message, sent.data, { retryable: sent.retryable })
}
