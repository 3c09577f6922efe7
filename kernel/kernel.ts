/**
 * Everything Twill asks of the kernel. Only kernel/ opens netlink sockets, enters namespaces or runs nft and
 * iptables; everybody else holds this interface. Implementations: `netlink/` (real) and `fake/` (stateful, with
 * a text dump and `failNext`); one contract suite runs against both.
 *
 * Devices are named, not numbered: a name resolves to an index at the moment of the call.
 * Every call may reject with TwillError kernel.failed {operation, errno, message} (message from the kernel's
 * extended ACK), retryable unless said otherwise. Times are milliseconds, MTUs bytes.
 */
import type { Family } from '../lib/address.ts'

// ---------------------------------------------------------------- what is observed

export interface Link {
  readonly index: number
  readonly name: string
  /** IFLA_INFO_KIND: 'veth', 'vxlan', 'bridge'…; null for hardware and lo. */
  readonly kind: string | null
  readonly mac: string | null
  readonly mtu: number
  /** IFF_UP, the administrative state. */
  readonly up: boolean
  /** IFF_LOWER_UP. */
  readonly carrier: boolean
  readonly loopback: boolean
  readonly alias: string | null
  readonly group: number
  /** IFLA_LINK: for veth the peer's index, in the peer's namespace. */
  readonly peerIndex: number | null
  readonly master: number | null
  readonly vxlan: VxlanAttributes | null
}

export interface VxlanAttributes {
  readonly vni: number
  /** UDP port. */
  readonly port: number
  /** Underlay source address. */
  readonly local: string | null
  /** Name of the underlay device (index resolved), null when unbound. */
  readonly underlay: string | null
  readonly learning: boolean
}

export interface LinkAddress {
  readonly device: string
  readonly family: Family
  readonly address: string
  readonly prefix: number
  /** rtnetlink scope: 0 global, 253 link, 254 host. */
  readonly scope: number
  readonly tentative: boolean
  readonly nodad: boolean
  readonly permanent: boolean
}

export type RouteType = 'unicast' | 'blackhole' | 'unreachable' | 'local' | 'broadcast' | 'other'

export interface Route {
  readonly family: Family
  /** CIDR text; 0.0.0.0/0 or ::/0 for the default route. */
  readonly dst: string
  readonly type: RouteType
  readonly device: string | null
  readonly gateway: string | null
  readonly src: string | null
  readonly metric: number
  readonly protocol: number
  readonly table: number
  readonly scope: number
  readonly onlink: boolean
  readonly mtu: number | null
}

export interface Neighbour {
  readonly device: string
  readonly family: Family
  readonly address: string
  readonly mac: string | null
  readonly permanent: boolean
}

export interface FdbEntry {
  readonly device: string
  readonly mac: string
  /** Remote VTEP. */
  readonly dst: string | null
  readonly permanent: boolean
}

// ---------------------------------------------------------------- what can be done

/** One typed change. Adding what is there with the same attributes succeeds; deleting what is gone succeeds. */
export type KernelStep =
  | { type: 'vxlan.add'; name: string; mac: string; mtu: number; alias: string; vxlan: VxlanAttributes }
  | {
      type: 'link.set'
      device: string
      up?: boolean
      mtu?: number
      mac?: string
      alias?: string
      group?: number
    }
  /** Recreates nothing by itself: the plan follows with what stood on the link. */
  | { type: 'link.delete'; device: string }
  | {
      type: 'address.add'
      device: string
      family: Family
      address: string
      prefix: number
      scope: number
      nodad: boolean
    }
  | { type: 'address.delete'; device: string; family: Family; address: string; prefix: number }
  /** NLM_F_REPLACE: same table, dst and metric are replaced. */
  | { type: 'route.replace'; route: RouteSpec }
  | { type: 'route.delete'; route: RouteSpec }
  | { type: 'neighbour.replace'; device: string; family: Family; address: string; mac: string }
  | { type: 'neighbour.delete'; device: string; family: Family; address: string }
  | { type: 'fdb.replace'; device: string; mac: string; dst: string }
  | { type: 'fdb.delete'; device: string; mac: string; dst: string }
  /** Path below /proc/sys, e.g. net/ipv4/ip_forward. A missing path is kernel.failed with errno ENOENT. */
  | { type: 'sysctl.set'; path: string; value: string }

export interface RouteSpec {
  readonly family: Family
  readonly dst: string
  readonly type: 'unicast' | 'blackhole' | 'unreachable'
  readonly device?: string
  readonly gateway?: string
  readonly src?: string
  readonly metric?: number
  readonly scope?: number
  readonly onlink?: boolean
  readonly mtu?: number
}

export interface StepOutcome {
  readonly step: KernelStep
  readonly error: Error | null
}

// ---------------------------------------------------------------- pods

/** A namespace as the caller opened it. The daemon opens `path` itself and compares before it touches anything. */
export interface NetnsRef {
  readonly path: string
  /** st_dev and st_ino as decimal text; null when the caller could not say (spooled or old requests). */
  readonly dev: string | null
  readonly ino: string | null
}

export interface PodAddress {
  readonly family: Family
  readonly address: string
  /** The node's own address or its tunnel address, for the host route's `src`; null: leave it out. */
  readonly routeSource: string | null
}

export interface PodEndpointSpec {
  readonly netns: NetnsRef
  /** CNI_IFNAME. */
  readonly podInterface: string
  /** Unique per attachment: POD_LINK_PREFIX and 12 hex digits. */
  readonly hostInterface: string
  /** POD_ALIAS_PREFIX and the attachment id. */
  readonly alias: string
  /** null: the kernel's choice is taken and returned. */
  readonly podMac: string | null
  readonly mtu: number
  readonly addresses: readonly PodAddress[]
  /** Cookie the namespace must have (SO_NETNS_COOKIE, decimal) when it is known, for a repair; else null. */
  readonly netnsCookie: string | null
  /** Put 169.254.1.1 on the host end too: where arp_ignore is 1 or more. */
  readonly gatewayOnHostEnd: boolean
}

export interface PodEndpoint {
  readonly hostIndex: number
  readonly podIndex: number
  readonly podMac: string
  readonly netnsCookie: string
}

export interface PodDetachSpec {
  /** Without it, or when it is gone, only the host side is undone. */
  readonly netns: NetnsRef | null
  readonly netnsCookie: string | null
  readonly podInterface: string
  readonly hostInterface: string
  readonly alias: string
  readonly podMac: string | null
  readonly addresses: readonly PodAddress[]
}

/** What CHECK compares. null members: the thing is not there. */
export interface PodState {
  readonly netnsCookie: string
  readonly pod:
    | (Link & {
        readonly addresses: readonly LinkAddress[]
        readonly routes: readonly Route[]
        readonly neighbours: readonly Neighbour[]
      })
    | null
}

// ---------------------------------------------------------------- netfilter

/** One element of a set in table inet NFT_TABLE, in nft's own text, e.g. "twlab12 . 10.0.0.1 . 02:…". */
export interface SetElement {
  readonly set: string
  readonly element: string
}

/**
 * The whole table as desired. `chains` is nft text of everything but elements; `elements` maps a set's name to
 * its elements. Two rulesets are the same when both are equal.
 */
export interface Ruleset {
  readonly chains: string
  readonly elements: ReadonlyMap<string, ReadonlySet<string>>
}

export interface AcceptChain {
  /** Base chain of another's filter table that may drop what ours accepts. */
  readonly hook: 'forward' | 'input'
  readonly family: Family
  /** iptables rule bodies without target, each accepted: ['-i', 'twl+'] … */
  readonly matches: readonly (readonly string[])[]
}

// ---------------------------------------------------------------- notifications

export type KernelEvent =
  /**
   * A domain changed by somebody; the loop observes and compares. Our own changes are reported too; `own` is true
   * when nothing but calls of this Kernel caused them, `consequence` when otherwise only the kernel by itself did:
   * what follows from a call, ours or another's, or from a cable. `pods`, whoever it was: host ends of pods and what stands
   * on them, and nothing else.
   */
  | {
      type: 'changed'
      domain: 'link' | 'address' | 'route' | 'neighbour' | 'fdb' | 'netfilter'
      own?: boolean
      consequence?: boolean
      pods?: boolean
    }
  /** The receive buffer overflowed, or the monitor restarted: anything may have changed. */
  | { type: 'overflow' }
  /**
   * MAC of the far end of our own link `hostIndex`: of each when a watch begins, then of those that change. Told
   * only of what that link itself says is its peer, since a pod can make links that say they are another's.
   */
  | { type: 'pod-mac'; hostIndex: number; hostInterface: string; mac: string }

// ---------------------------------------------------------------- the interface

export interface Kernel {
  readLinks(): Promise<Link[]>
  readAddresses(): Promise<LinkAddress[]>
  /** Main table (and local table when asked), both families; of one protocol when given. */
  readRoutes(filter?: { protocol?: number; table?: number }): Promise<Route[]>
  readNeighbours(): Promise<Neighbour[]>
  readFdb(device: string): Promise<FdbEntry[]>
  /** null: no such path. */
  readSysctl(path: string): Promise<string | null>
  /** The route the kernel would take: device, source and gateway. Rejects when there is none. */
  lookupRoute(destination: string): Promise<Route>

  /** Executes every step in order; a failed step does not stop the others. */
  apply(steps: readonly KernelStep[]): Promise<StepOutcome[]>

  /**
   * Builds a pod's endpoint: veth pair, policy elements, host end, pod end, in that order; no end is up before
   * the elements stand. Undoes what it did when it fails.
   * @throws kernel.netns-gone, kernel.netns-mismatch (the path means another namespace here),
   *         kernel.interface-exists (podInterface is there already; untouched), kernel.failed
   */
  attachPod(spec: PodEndpointSpec, elements: readonly SetElement[]): Promise<PodEndpoint>
  /**
   * Takes a pod off the network: both ends down, pod end without address, routes, neighbours and elements gone,
   * link in REAP_GROUP. Idempotent; touches podInterface only when it is proven ours (peer of hostInterface, or
   * cookie and MAC agree). The link itself, and the flows of its addresses, go with `reapLinks`.
   */
  detachPod(spec: PodDetachSpec, elements: readonly SetElement[]): Promise<void>
  /**
   * Forgets the tracked flows of these addresses, whose pods are off the network, then deletes the links in
   * REAP_GROUP, by group when all members are ours, else one by one. Resolves when gone. An address may be given
   * to another pod only after a call that named it.
   */
  reapLinks(addresses: readonly string[]): Promise<{ deleted: string[]; foreign: string[] }>
  /** @throws kernel.netns-gone, kernel.netns-mismatch */
  inspectPod(netns: NetnsRef, podInterface: string): Promise<PodState>
  /** Cookie of the namespace at the path. @throws kernel.netns-gone, kernel.netns-mismatch */
  netnsCookie(netns: NetnsRef): Promise<string>
  ownNetnsCookie(): Promise<string>

  /** Replaces table inet NFT_TABLE as a whole in one transaction; packets see the old or the new. */
  replaceRuleset(ruleset: Ruleset): Promise<void>
  /** Adds and removes elements in one transaction; adding what is there and removing what is gone succeed. */
  changeElements(change: { add: readonly SetElement[]; remove: readonly SetElement[] }): Promise<void>
  /** True when the table in the kernel is what `replaceRuleset`/`changeElements` of this process last left there. */
  rulesetIntact(): Promise<boolean>
  /** Takes table inet NFT_TABLE away, whoever made it. Answers whether there was one. */
  removeRuleset(): Promise<boolean>
  /** Makes our accept chains in others' tables be exactly these; [] removes them. Says which were changed. */
  ensureAcceptChains(chains: readonly AcceptChain[]): Promise<{ changed: string[] }>
  /** Base chains of others, on forward and input, that drop by policy or rule and that we do not reach: for status. */
  readForeignFilters(): Promise<{ table: string; chain: string; hook: string; reason: string }[]>
  /**
   * Tells most changes of iptables-legacy's filter tables, which report none: another text then. Cheap. '' where there is
   * no such table.
   */
  glanceAtLegacyFilters(): Promise<string>

  watch(listener: (event: KernelEvent) => void): { close(): Promise<void> }
  close(): Promise<void>
}
