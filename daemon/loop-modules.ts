/** What the loop is told (options), what it is given (modules), and what it says of itself. */
import type { Kernel } from '../kernel/kernel.ts'
import type { Clock, Random } from '../lib/clock.ts'
import type { Log } from '../lib/log.ts'
import { PACING, type PacingOptions } from './apply/pacing.ts'
import type { Facts } from './desired/facts.ts'
import type { Kind, Problem, Reason } from './plan/observed.ts'

/**
 * What can be dirty: the kinds of objects, our table (`netfilter`), our chains in others' tables (`accept`),
 * and `facts`: every kind and both rule sets, but only compared with what we last put there.
 */
export type Domain = Kind | 'netfilter' | 'accept' | 'facts'

export interface LoopOptions {
  /** How long events are gathered before a pass. */
  readonly gatherMs: number
  /**
   * The same for what we and the kernel by itself changed: hardly damage, and a look takes in every pod. Each further
   * change begins the wait anew, `ownGatherMaxMs` in all at most: a burst of pods is looked at once, when it is over.
   */
  readonly ownGatherMs: number
  readonly ownGatherMaxMs: number
  /** Everything is looked at anew this often, a tenth sooner or later. */
  readonly resyncMs: number
  /** Switches under /proc/sys and iptables-legacy say nothing when they change: glanced at this often. */
  readonly silentMs: number
  /** Accept chains are looked at whole this often: a glance at iptables-legacy does not tell everything. */
  readonly acceptMs: number
  /** After a foreign change of nftables they are looked at this much later: kube-proxy makes many, a look is dear. */
  readonly acceptGatherMs: number
  readonly pacing: PacingOptions
}

export const LOOP: LoopOptions = {
  gatherMs: 50,
  ownGatherMs: 200,
  ownGatherMaxMs: 1_000,
  resyncMs: 60_000,
  silentMs: 500,
  acceptMs: 15_000,
  acceptGatherMs: 400,
  pacing: PACING,
}

export interface LoopMetrics {
  repaired(kind: Kind | 'netfilter' | 'accept' | 'pod', reason: Reason): void
  stepFailed(kind: Kind | 'netfilter' | 'accept' | 'observe'): void
  passed(durationMs: number, steps: number): void
}

export interface LoopModules {
  readonly kernel: Kernel
  /** A snapshot; see Facts for what it must hold to. */
  readonly facts: () => Facts
  readonly clock: Clock
  readonly random: Random
  readonly log: Log
  readonly metrics: LoopMetrics
  /** Builds an attached pod's endpoint again: its host end is gone. Called once at a time per attachment. */
  readonly reattach: (attachmentId: string) => Promise<void>
  /** A pod's MAC has changed inside the pod. */
  readonly learnPodMac: (attachmentId: string, mac: string) => Promise<void>
}

export interface Failure {
  readonly message: string
  /** BOOTTIME of the first try that failed. */
  readonly sinceMs: number
}

/** For status and readiness. */
export interface LoopReport {
  /** A pass over everything, with the cluster's facts known, has ended with nothing failed or waiting. */
  readonly converged: boolean
  /** Our table stands: pods may be attached. */
  readonly rulesStanding: boolean
  /** By object: what failed when last tried. */
  readonly failing: ReadonlyMap<string, Failure>
  readonly problems: readonly Problem[]
}
