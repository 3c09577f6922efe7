/** What was seen in the kernel before a plan, and what a plan is made of. */
import type { FdbEntry, KernelStep, Link, LinkAddress, Neighbour, Route } from '../../kernel/kernel.ts'

export interface Observed {
  readonly links: readonly Link[]
  readonly addresses: readonly LinkAddress[]
  /** Those of our protocol, main table. */
  readonly routes: readonly Route[]
  readonly neighbours: readonly Neighbour[]
  /** Of our own VXLAN devices. */
  readonly fdb: readonly FdbEntry[]
  /** By path; null: no such path. Paths that were not asked for are absent. */
  readonly sysctls: ReadonlyMap<string, string | null>
  /** Devices that have an IPv6 default route from a router advertisement. */
  readonly advertisedUplinks: readonly string[]
}

export const KINDS = ['link', 'address', 'route', 'neighbour', 'fdb', 'sysctl'] as const
export type Kind = (typeof KINDS)[number]

/** missing: not there. different: there with other attributes. unwanted: ours, and nobody desires it. */
export type Reason = 'missing' | 'different' | 'unwanted'

/** One step and the object it is about. `key` names the object among those of its kind. */
export interface Change {
  readonly kind: Kind
  readonly key: string
  readonly reason: Reason
  readonly step: KernelStep
}

/** What stands in the way and only people can move. */
export interface Problem {
  readonly kind: Kind
  readonly key: string
  readonly message: string
}

export interface Plan {
  /** In an order that is safe to execute. */
  readonly changes: readonly Change[]
  /** Attachments whose host end is gone. */
  readonly reattach: readonly string[]
  readonly problems: readonly Problem[]
}
