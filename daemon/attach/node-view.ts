/** What attaching a pod needs to know of this node; the facts answer it at the moment of the call. */
import type { Family } from '../../lib/address.ts'

export interface NodeView {
  /** `src` of the host routes: the node's own address of the family, else its tunnel address, else none. */
  routeSource(family: Family): string | null
  /** The smallest MTU of the paths of these pools, in bytes. */
  podMtu(poolUids: readonly string[]): number
  /** 169.254.1.1 must stand on each host end: arp_ignore is 1 or more. */
  readonly gatewayOnHostEnd: boolean
}
