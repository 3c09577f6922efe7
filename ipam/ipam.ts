/**
 * What the daemon asks of the address management. The protocol is ADDRESSES.md; the parts behind this
 * interface are pools, slots, the allocator and the ledger.
 *
 * An address is held from the moment `allocate` returns it; the caller journals it (with its attachment's
 * intent) and then calls `recorded`, and the ledger follows by group commit. After a restart the journal's
 * holders are given back by `restore`, before `start`.
 */
import type { Use } from '../datastore/resources/ippool.ts'
import type { Family, Ip } from '../lib/address.ts'
import type { PoolNames } from '../lib/pool-annotations.ts'

export interface Holder {
  /** Attachment id, or 'tunnel'. Allocation is idempotent per id. */
  readonly id: string
  /** Also the use for which its addresses are: they come from pools that allow it. */
  readonly kind: Use
  readonly network: string
  readonly containerId: string
  readonly ifName: string
  readonly pod: { readonly namespace: string; readonly name: string; readonly uid: string } | null
  /** Epoch milliseconds. */
  readonly since: number
}

export interface HeldAddress {
  readonly family: Family
  readonly address: string
  readonly poolUid: string
  /** CIDR of the slot it is from. */
  readonly slot: string
  /** Of the part it was taken from. */
  readonly generation: number
}

export interface OwnPart {
  readonly poolUid: string
  readonly slot: string
  readonly cidr: string
  readonly generation: number
  readonly free: number
  readonly held: number
  /** False: out of term, fenced or in doubt; nothing is handed out from it. */
  readonly usable: boolean
}

export interface AllocationRequest {
  readonly holder: Holder
  /** One address of each; [] means every family for which an enabled pool exists. */
  readonly families: readonly Family[]
  /** Names of pools to take from, in order; [] means every enabled one that allows the holder's kind of use. */
  readonly pools: readonly string[]
  /** The same from the pod itself: they come before `pools`. */
  readonly podPools?: PoolNames
  /** Asked for by name, one of a family at most: these, or nothing at all. From whatever pool they are in. */
  readonly addresses?: readonly Ip[]
}

/** As of an allocation: [] means every family, every pool for that use. */
export interface RoomRequest {
  readonly use: Use
  readonly families: readonly Family[]
  readonly pools: readonly string[]
}

export type Room = { readonly ok: true } | { readonly ok: false; readonly reason: string }

/** replaced: as soon as there is another; given-up: also without another, where no pod needs it. */
export type Standing = 'stays' | 'replaced' | 'given-up'

export interface Subnet {
  /** Length in bits. */
  readonly prefix: number
  readonly gateway: string | null
}

export interface Ipam {
  /** Before `start`: what the journal says is held, of this boot. */
  restore(holders: readonly { holder: Holder; addresses: readonly HeldAddress[] }[]): void
  /** Watches, confirms ownership, prefetches, commits ledgers until `stop`. Resolves without waiting for the store. */
  start(): void
  /** Resolves when pools and own parts were read once from the store. */
  ready(): Promise<void>
  stop(): Promise<void>

  /**
   * In memory when this node's parts have room and term; else a claim in the store.
   * @throws ipam.exhausted, ipam.no-pool, ipam.not-confirmed (retryable), store.unavailable (retryable);
   *   of an address by name: ipam.address-refused {address, reason}, ipam.owned-elsewhere (retryable)
   */
  allocate(request: AllocationRequest): Promise<HeldAddress[]>
  /** The holder's addresses are journaled: the ledger may follow. */
  recorded(holderId: string): void
  /** Its link is gone: the addresses cool down. Unknown holders are ignored. */
  release(holderId: string): void
  /**
   * Without waiting: could `allocate` be served? For pods (the default) from this node's parts, for ipam also from a part
   * that can be claimed. For STATUS.
   */
  room(wanted?: RoomRequest): Room

  /** What is to become of addresses of this pool that the node itself holds. Of what is not known yet: they stay. */
  standing(poolUid: string, use: Use): Standing

  /** What hosts of a pool for ipam are told of their subnet; null: no such pool. */
  subnetOf(poolUid: string): Subnet | null

  ownParts(): OwnPart[]
  heldBy(holderId: string): readonly HeldAddress[]
  /** Resolves when every recorded holder and release so far stands in the ledgers. */
  settled(): Promise<void>
}
