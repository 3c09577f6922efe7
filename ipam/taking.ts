/**
 * The way to one address: from memory where this node's parts have one, else by a confirmation, a claim, or a gift
 * of another node; the addresses that still cool last of all.
 */
import type { Store } from '../datastore/store.ts'
import type { Clock } from '../lib/clock.ts'
import { isTwillError, messageOf, TwillError } from '../lib/errors.ts'
import type { Allocator } from './allocator.ts'
import type { Asking } from './asking.ts'
import { chooseSlots } from './choose-slot.ts'
import type { HeldAddress, Holder } from './ipam.ts'
import { describeLimit, type NodeLimit } from './node-limit.ts'
import type { OwnedPart } from './own-slots.ts'
import type { KnownPool } from './pool-view.ts'
import type { SlotIndex } from './slot-index.ts'
import type { Upkeep } from './upkeep.ts'
import type { WaitingPods } from './waiting-pods.ts'

/** An ADD that waits for other nodes is answered within two seconds. */
export const REQUEST_PATIENCE_MS = 1_700

/** So long for an address that has rested elsewhere: one that cools here may be at hand. */
const FRESH_PATIENCE_MS = 500

export interface TakingOptions {
  readonly nodeUid: string
  readonly nodeLimit: NodeLimit
  readonly usable: (part: OwnedPart) => boolean
}

export interface TakingModules {
  readonly store: Store
  readonly clock: Clock
  readonly allocator: Allocator
  readonly slots: SlotIndex
  readonly upkeep: Upkeep
  readonly asking: Asking
  readonly waiting: WaitingPods
}

export class Taking {
  readonly #options: TakingOptions
  readonly #modules: TakingModules

  constructor(options: TakingOptions, modules: TakingModules) {
    this.#options = options
    this.#modules = modules
  }

  /**
   * From memory, else from a part confirmed or claimed now, the first pools before the next; else from another node
   * that has fresh ones; else from the addresses that cool: here, in parts that are free, at other nodes.
   */
  async takeFrom(holder: Holder, tiers: readonly (readonly KnownPool[])[]): Promise<HeldAddress> {
    const uids = tiers.flat().map(({ uid }) => uid)
    return await this.#modules.waiting.during(uids, () => this.#takeAny(holder, tiers))
  }

  async #takeAny(holder: Holder, tiers: readonly (readonly KnownPool[])[]): Promise<HeldAddress> {
    const endMs = this.#modules.clock.boottimeMs() + REQUEST_PATIENCE_MS
    const pools = tiers.flat()
    const fresh = await this.#takeFresh(holder, tiers, endMs)
    if (!('failure' in fresh)) return fresh
    const cooling = this.#takeCooling(holder, pools)
    if (cooling !== null) return cooling
    const isFinal = fresh.failure !== null && !isTwillError(fresh.failure, 'ipam.owner-silent')
    if (isFinal) throw this.#refusal(pools, fresh.failure)
    return await this.#takeLast(holder, pools, endMs)
  }

  async #takeFresh(
    holder: Holder,
    tiers: readonly (readonly KnownPool[])[],
    endMs: number,
  ): Promise<HeldAddress | { failure: unknown }> {
    try {
      for (;;) {
        const ready = await this.#takeHere(holder, tiers)
        if (ready !== null) return ready
        if (!(await this.#given(tiers.flat(), false, endMs))) return { failure: null }
      }
    } catch (failure) {
      return { failure }
    }
  }

  /** What fails of the first pools keeps nobody from the next; without the store those are not waited for. */
  async #takeHere(holder: Holder, tiers: readonly (readonly KnownPool[])[]): Promise<HeldAddress | null> {
    let failure: { readonly error: unknown } | null = null
    for (const [i, pools] of tiers.entries()) {
      const mayWait = i === tiers.length - 1 || this.#modules.store.status().connected
      try {
        const ready = await (mayWait ? this.#takeOwn(holder, pools) : this.#takeReady(holder, pools))
        if (ready !== null) return ready
      } catch (error) {
        failure ??= { error }
      }
    }
    if (failure !== null) throw failure.error
    return null
  }

  /** Without other nodes. */
  async #takeOwn(holder: Holder, pools: readonly KnownPool[]): Promise<HeldAddress | null> {
    for (;;) {
      const ready = this.#takeReady(holder, pools)
      if (ready !== null) return ready
      if (!(await this.#confirmedMore(pools)) && !(await this.#claimed(pools, false))) return null
    }
  }

  /** Whatever there is anywhere, cooling or not. @throws what `allocate` does */
  async #takeLast(holder: Holder, pools: readonly KnownPool[], endMs: number): Promise<HeldAddress> {
    try {
      while ((await this.#claimed(pools, true)) || (await this.#given(pools, true, endMs))) {
        const taken = this.#takeReady(holder, pools) ?? this.#takeCooling(holder, pools)
        if (taken !== null) return taken
      }
    } catch (failure) {
      throw this.#refusal(pools, failure)
    }
    throw this.#refusal(pools, null)
  }

  /**
   * Has another node given a part that is usable? One that only cools is no reason to ask for another: without `cooling`
   * it counts for none.
   * @throws ipam.owner-silent, store.*, journal.write-failed
   */
  async #given(pools: readonly KnownPool[], cooling: boolean, endMs: number): Promise<boolean> {
    const { allocator, asking, upkeep } = this.#modules
    let failure: { readonly error: unknown } | null = null
    for (const pool of pools) {
      if (pool.nodeRanges !== null || upkeep.mayAdd(pool.cidr.family) === 0) continue
      try {
        const leftMs = endMs - this.#modules.clock.boottimeMs()
        const patienceMs = cooling ? leftMs : Math.min(leftMs, FRESH_PATIENCE_MS)
        const part = await asking.find(pool, { cooling, patienceMs })
        if (part !== null) return this.#options.usable(part) && (cooling || !allocator.onlyCools(part))
      } catch (error) {
        failure ??= { error }
      }
    }
    if (failure !== null) throw failure.error
    return false
  }

  #takeReady(holder: Holder, pools: readonly KnownPool[]): HeldAddress | null {
    for (const pool of pools) {
      const held = this.#modules.allocator.takeReady(holder, pool.uid)
      if (held !== null) return held
    }
    return null
  }

  /** However the pools are ordered: what has cooled longest is missed least. */
  #takeCooling(holder: Holder, pools: readonly KnownPool[]): HeldAddress | null {
    return this.#modules.allocator.takeCooling(
      holder,
      pools.map(pool => pool.uid),
    )
  }

  /** Did confirming parts that have room make one of them usable? */
  async #confirmedMore(pools: readonly KnownPool[]): Promise<boolean> {
    const waiting = this.unusable(pools)
    if (waiting.length === 0) return false
    await this.#modules.upkeep.confirm(waiting.map(part => part.slot))
    return waiting.some(part => this.#options.usable(part))
  }

  /** Parts of these pools with room that may not be used now, and may after a confirmation. */
  unusable(pools: readonly KnownPool[]): OwnedPart[] {
    return pools
      .flatMap(pool => [...this.#modules.allocator.partsWithRoom(pool.uid)])
      .filter(part => part.unknownSinceMs === null && !this.#options.usable(part))
  }

  /** Is there a usable part more now? `cooling`: also one in which every address cools. */
  async #claimed(pools: readonly KnownPool[], cooling: boolean): Promise<boolean> {
    for (const pool of pools) {
      const part = await this.#modules.upkeep.claims.need(pool, { cooling })
      // One that may not be used is no reason to claim another.
      if (part !== null) return this.#options.usable(part)
    }
    return false
  }

  #refusal(pools: readonly KnownPool[], failure: unknown): unknown {
    const names = pools.map(pool => pool.name).join(', ')
    if (this.unusable(pools).length > 0 && (failure === null || isTwillError(failure)))
      return new TwillError(
        'ipam.not-confirmed',
        `this node's ownership of its addresses in ${names} is not confirmed${failure === null ? '' : `: ${messageOf(failure)}`}`,
        { pools: names },
        { retryable: true, cause: failure },
      )
    if (failure !== null) return failure
    const limited = pools.filter(pool => this.#modules.upkeep.mayAdd(pool.cidr.family) === 0)
    const why = limited.length === 0 ? '' : `: ${describeLimit(this.#options.nodeLimit)}`
    return new TwillError('ipam.exhausted', `no address is free in ${names}${why}`, { pools: names })
  }

  /** Every slot is taken, and another node may have an address to give, as far as is known. */
  mayBeGiven(pool: KnownPool): boolean {
    const { slots, asking, upkeep } = this.#modules
    if (!this.#modules.store.status().connected || asking.isHopeless(pool.uid)) return false
    if (pool.nodeRanges !== null || upkeep.mayAdd(pool.cidr.family) === 0) return false
    if (!chooseSlots(pool, this.#options.nodeUid, slots).next().done) return false
    for (const key of slots.keysOf(pool.uid)) {
      const parts = slots.get(key)?.value.parts ?? []
      if (parts.some(part => part.owner !== this.#options.nodeUid && part.fence === null)) return true
    }
    return false
  }
}
