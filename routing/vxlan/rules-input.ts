/** What the overlay's netfilter rules are compiled from: facts of this node and its cluster, as text. */
import type { Family } from '../../lib/address.ts'

/** One pod interface of this node. */
export interface RuleEndpoint {
  /** Host end, POD_LINK_PREFIX and 12 hex digits. */
  readonly hostInterface: string
  readonly podMac: string
  readonly addresses: readonly { readonly family: Family; readonly address: string }[]
}

export interface RulePool {
  readonly cidr: string
  readonly natOutgoing: boolean
  /** With natOutgoing: prefixes to which pods go under their own addresses all the same. */
  readonly natExclusions: readonly string[]
  /** Only `Always` is an overlay: with the others the underlay carries pod addresses. */
  readonly encapsulation: 'Always' | 'CrossSubnet' | 'Never'
}

/** Another node with a VTEP. */
export interface RulePeer {
  /** Addresses its encapsulated packets come from. */
  readonly underlay: readonly string[]
  /** CIDRs that live behind it: its parts, addresses held singly, its tunnel addresses. May overlap. */
  readonly sources: readonly string[]
}

export interface RulesInput {
  /** Our own VTEP: UDP port and VXLAN devices; null when this node has no tunnel. */
  readonly vtep: { readonly port: number; readonly devices: readonly string[] } | null
  /**
   * Every attachment whose elements may stand in the kernel: from before `attachPod` is called until after
   * `detachPod` returned. One left out loses its elements, and with them its traffic, at the next replacement.
   */
  readonly endpoints: readonly RuleEndpoint[]
  /** Every pool pods live in, disabled and draining ones too. */
  readonly pools: readonly RulePool[]
  /** Underlay and host addresses of all nodes, this one included. */
  readonly nodeAddresses: readonly string[]
  readonly peers: readonly RulePeer[]
  /** Our addresses on the overlay, one of each pod family. */
  readonly tunnel: Readonly<Partial<Record<Family, string>>>
  /** Whom our own pods see when something is masqueraded to them: the node's address, else the tunnel's. */
  readonly nodeSource: Readonly<Partial<Record<Family, string>>>
  /** Packet mark bits by which others ask for masquerading (read, never changed); KUBE_PROXY_AND_PORTMAP. */
  readonly masqueradeMarks: number
}

/** kube-proxy's --iptables-masquerade-bit (14) and portmap's markMasqBit (13), their defaults. */
export const KUBE_PROXY_AND_PORTMAP = 0x6000
