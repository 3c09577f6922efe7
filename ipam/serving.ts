/**
 * What other nodes ask of this one through slots: answered as soon as the watch shows it, and looked for again in
 * every pass of the upkeep, since a request may have come while the slot was in doubt or this daemon away.
 *
 * Also sees to requests that nobody waits for: this node's own of an earlier life, and those that have stood for
 * longer than anybody waits, counted on this daemon's own BOOTTIME.
 */
import type { SlotRecord } from '../datastore/records/slot.ts'
import type { Clock } from '../lib/clock.ts'
import { messageOf } from '../lib/errors.ts'
import type { Log } from '../lib/log.ts'
import type { Allocator } from './allocator.ts'
import type { Gifts } from './gifts.ts'
import { type OwnSlot, slotFromKey } from './own-slots.ts'
import { partsOf } from './slot.ts'
import type { SlotIndex } from './slot-index.ts'
import { type SlotRequest, silentOwners } from './slot-requests.ts'

export interface ServingOptions {
  readonly nodeUid: string
  /** After that, whoever asked has gone: many times what anybody waits. */
  readonly staleAfterMs: number
  /** A request could not be answered: the next pass is to come soon. */
  readonly onFailure: () => void
}

export interface ServingModules {
  readonly clock: Clock
  readonly log: Log
  readonly allocator: Allocator
  readonly slots: SlotIndex
  readonly gifts: Gifts
}

/** A gift takes a sync of the disk and two round trips. */
const REFUSE_AFTER_MS = 20
const REFUSE_EACH_MS = 3
const REFUSE_MOST_MS = 60

export class Serving {
  readonly #options: ServingOptions
  readonly #modules: ServingModules
  /** Request id → BOOTTIME at which it was first seen in a slot that is partly ours. */
  readonly #firstSeenMs = new Map<string, number>()
  /** BOOTTIME at which a request that waits for it may be refused. */
  #refuseAtMs = Number.POSITIVE_INFINITY

  constructor(options: ServingOptions, modules: ServingModules) {
    this.#options = options
    this.#modules = modules
  }

  /** The watch shows this slot of ours; answers in the background. */
  observe(slot: OwnSlot, record: SlotRecord, modRevision: number): void {
    if (!this.#isAsked(record)) return
    this.#serve(slot, { record, modRevision }).catch(error => this.#failed(slot, error))
  }

  #serve(slot: OwnSlot, shown: { record: SlotRecord; modRevision: number }): Promise<void> {
    return this.#modules.gifts.serve(slot, shown, (record, request) => this.#mayRefuse(record, request))
  }

  /**
   * Whoever has room answers at once, and then nobody needs to refuse: the others let him, and each other, go first. In
   * a slot of twenty owners their refusals were twenty commits of one key at the same time, most of them in vain.
   */
  #mayRefuse(record: SlotRecord, request: SlotRequest): boolean {
    const left = silentOwners(record, request)
    if (left.length < 2) return true
    const rank = left.indexOf(this.#options.nodeUid)
    const leftMs =
      Math.min(REFUSE_AFTER_MS + rank * REFUSE_EACH_MS, REFUSE_MOST_MS) - this.#standsForMs(request.id)
    if (leftMs <= 0) return true
    this.#refuseAtMs = Math.min(this.#refuseAtMs, this.#modules.clock.boottimeMs() + leftMs)
    return false
  }

  /** @throws what the first slot did that could not be dealt with; the others were */
  async pass(): Promise<void> {
    const { slots } = this.#modules
    const seen = new Set<string>()
    let failure: { readonly error: unknown } | null = null
    this.#refuseAtMs = Number.POSITIVE_INFINITY
    for (const key of slots.withRequests()) {
      const entry = slots.get(key)
      const slot = this.#slotOf(key)
      if (entry === undefined || slot === null) continue
      try {
        if (this.#isAsked(entry.value))
          await this.#serve(slot, { record: entry.value, modRevision: entry.modRevision })
        await this.#dropStale(slot, entry.value, seen)
      } catch (error) {
        failure ??= { error }
      }
    }
    for (const id of this.#firstSeenMs.keys()) if (!seen.has(id)) this.#firstSeenMs.delete(id)
    if (failure !== null) throw failure.error
  }

  #isAsked(record: SlotRecord): boolean {
    const { nodeUid } = this.#options
    return record.requests.some(request => silentOwners(record, request).includes(nodeUid))
  }

  async #dropStale(slot: OwnSlot, record: SlotRecord, seen: Set<string>): Promise<void> {
    const { nodeUid } = this.#options
    const stale = record.requests.filter(({ id, owner }) => {
      if (owner === nodeUid) return slot.claiming !== id
      if (partsOf(record, nodeUid).length === 0) return false
      seen.add(id)
      return this.#standsForMs(id) >= this.#options.staleAfterMs
    })
    if (stale.length === 0) return
    await this.#modules.gifts.drop(slot, new Set(stale.map(({ id }) => id)))
    // A watch that is behind shows them for a while.
    for (const { id } of stale) this.#firstSeenMs.delete(id)
  }

  #standsForMs(id: string): number {
    const nowMs = this.#modules.clock.boottimeMs()
    const sinceMs = this.#firstSeenMs.get(id) ?? nowMs
    this.#firstSeenMs.set(id, sinceMs)
    return nowMs - sinceMs
  }

  /** When the next request may be refused, or have become stale; Infinity: there is none. */
  nextDueMs(): number {
    const oldestMs = Math.min(...this.#firstSeenMs.values())
    return (
      Math.min(this.#refuseAtMs, oldestMs + this.#options.staleAfterMs) - this.#modules.clock.boottimeMs()
    )
  }

  #slotOf(key: string): OwnSlot | null {
    return this.#modules.allocator.slotOf(key) ?? slotFromKey(key)
  }

  #failed(slot: OwnSlot, error: unknown): void {
    this.#modules.log.warn(
      { slot: slot.text, err: messageOf(error) },
      'a request of another node is unanswered',
    )
    this.#options.onFailure()
  }
}
