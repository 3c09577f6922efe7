/**
 * Everything the desired state is made of, as one immutable snapshot. The daemon's registration, watches and
 * journal keep the parts; the loop asks for a snapshot when it needs one.
 *
 * Invariant the loop relies on: an attachment is in the facts, and busy, before any kernel object of it is made
 * or unmade, and stays so until that has ended.
 */
import type { NodeRecord } from '../../datastore/records/node.ts'
import type { SlotRecord } from '../../datastore/records/slot.ts'
import type { IPPool } from '../../datastore/resources/ippool.ts'
import type { Family } from '../../lib/address.ts'
import type { Underlay } from '../../routing/vxlan/desired.ts'

export interface Facts {
  /** Pools, nodes and slots are what the store once said: since the start, or, until it answers, before it. */
  readonly known: boolean
  /** Each has been listed once since the daemon started. Until then nothing is deleted. Implies `known`. */
  readonly complete: boolean
  readonly self: SelfFacts
  /** Every node's record, our own among them. */
  readonly nodes: readonly NodeRecord[]
  readonly pools: readonly IPPool[]
  /** By key relative to the store's prefix: slots/<pool uid>/<base>-<prefix>. */
  readonly slots: ReadonlyMap<string, SlotRecord>
  readonly attachments: readonly AttachmentFacts[]
}

export interface SelfFacts {
  readonly name: string
  readonly uid: string
  /** The chosen underlay, per family that the node has. */
  readonly underlay: Partial<Record<Family, Underlay>>
  /** Every other global address of the node. */
  readonly hostAddresses: readonly string[]
  readonly vtep: { readonly mac: string; readonly vni: number; readonly port: number }
  readonly tunnel: Partial<Record<Family, string>>
  /** Ours on the overlay too, while one replaces another; absent: none. */
  readonly besideTunnel?: readonly { readonly family: Family; readonly address: string }[]
  /** Addresses that it lives by: no route of ours may lead there. Absent: none. */
  readonly vitals?: readonly string[]
  /** The larger of net.ipv4.conf.{all,default}.arp_ignore: from 1 on the gateway must stand on host ends too. */
  readonly arpIgnore: number
}

export interface AttachmentFacts {
  readonly id: string
  readonly hostInterface: string
  /** '' while it is not known yet. */
  readonly podMac: string
  /** Bytes. */
  readonly mtu: number
  readonly addresses: readonly { readonly family: Family; readonly address: string }[]
  /** As the journal says: only what is 'attached' is desired; the others belong to whoever finishes them. */
  readonly state: 'attaching' | 'attached' | 'detaching'
  /** An operation of it is under way: the loop touches none of its objects. */
  readonly busy: boolean
}
