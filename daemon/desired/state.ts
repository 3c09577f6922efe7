/** What this node's kernel should hold, whole. The plan compares it with what was observed. */
import type { AcceptChain, Ruleset } from '../../kernel/kernel.ts'
import type { RoutingState } from '../../routing/state.ts'

export interface DesiredState extends RoutingState {
  /** The facts were known: the overlay is in here. */
  readonly known: boolean
  /** The facts were complete: what is ours and not in here may be deleted. */
  readonly complete: boolean
  /** As in SelfFacts: a route of ours over one of them is deleted before the facts are complete too. */
  readonly vitals: readonly string[]
  readonly hostEnds: readonly HostEnd[]
  readonly held: Held
  /** IPv6 is forwarded: devices that take router advertisements must go on taking them. */
  readonly forwardsIpv6: boolean
}

/** Host end of an attached pod's veth pair: mended here, but made only by the attachment's own queue. */
export interface HostEnd {
  readonly attachmentId: string
  readonly device: string
  readonly alias: string
  /** Bytes. */
  readonly mtu: number
}

/** What belongs to attachments whose operation is under way: neither mended nor deleted. */
export interface Held {
  /** Host ends' names. */
  readonly devices: ReadonlySet<string>
  /** Pods' addresses, as host prefixes (10.0.0.1/32, fd00::1/128). */
  readonly prefixes: ReadonlySet<string>
}

export interface DesiredRules {
  readonly ruleset: Ruleset
  readonly acceptChains: readonly AcceptChain[]
}
