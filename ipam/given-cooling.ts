/**
 * How many addresses of other nodes' parts still cool since they were given. A part's record says for how long each had
 * to cool when the part changed hands, and not when that was: here it counts from when this node saw it first, which
 * errs towards cooling. The new owner's ledger names only what was released at his.
 */
import type { MirrorChange } from '../datastore/mirror.ts'
import type { Part, SlotRecord } from '../datastore/records/slot.ts'
import type { Clock } from '../lib/clock.ts'

export class GivenCooling {
  readonly #clock: Clock
  /** Slot key → generation of a part that came with cooling addresses → BOOTTIME at which it was first seen. */
  readonly #seenMs = new Map<string, ReadonlyMap<number, number>>()

  constructor(modules: { readonly clock: Clock }) {
    this.#clock = modules.clock
  }

  observe(changes: readonly MirrorChange<SlotRecord>[]): void {
    const nowMs = this.#clock.boottimeMs()
    for (const { key, after } of changes) {
      const before = this.#seenMs.get(key)
      const cooling = (after?.value.parts ?? []).filter(part => Object.keys(part.cooling).length > 0)
      if (cooling.length > 0)
        this.#seenMs.set(
          key,
          new Map(cooling.map(({ generation }) => [generation, before?.get(generation) ?? nowMs])),
        )
      else if (before !== undefined) this.#seenMs.delete(key)
    }
  }

  /** Addresses of the part, one of the slot's as observed, that still cool. */
  of(key: string, { generation, cooling }: Part): string[] {
    const nowMs = this.#clock.boottimeMs()
    const passedMs = nowMs - (this.#seenMs.get(key)?.get(generation) ?? nowMs)
    return Object.keys(cooling).filter(address => (cooling[address] ?? 0) * 1000 > passedMs)
  }
}
