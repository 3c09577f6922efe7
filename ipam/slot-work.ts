/**
 * What every operation of this node on a slot is made of. Operations on one slot are serial, and what the slot
 * becomes is in the journal before it is used or sent (ADDRESSES.md rule 3).
 */
import type { SlotRecord } from '../datastore/records/slot.ts'
import type { Store } from '../datastore/store.ts'
import type { Clock } from '../lib/clock.ts'
import type { Log } from '../lib/log.ts'
import { KeyedQueue } from '../lib/queue.ts'
import type { Allocator } from './allocator.ts'
import { type Changed, type ChangeOptions, changeRecord } from './change-record.ts'
import { examine, type Sight } from './examine.ts'
import type { Instant, IpamJournal } from './journal-records.ts'
import { journaledSlot, type OwnedPart, type OwnSlot } from './own-slots.ts'
import type { Restoration } from './restoration.ts'
import { parseSlot } from './slot-index.ts'
import { instantNow, inTerm } from './term.ts'

export interface SlotWorkOptions {
  readonly nodeUid: string
  readonly boot: string
  readonly offlineAllowanceMs: number
  readonly onLost: (part: OwnedPart) => void
}

export interface SlotWorkModules {
  readonly store: Store
  readonly clock: Clock
  readonly log: Log
  readonly journal: IpamJournal
  readonly allocator: Allocator
  readonly restoration: Restoration
}

export class SlotWork {
  readonly #options: SlotWorkOptions
  readonly #modules: SlotWorkModules
  readonly #queue = new KeyedQueue()

  constructor(options: SlotWorkOptions, modules: SlotWorkModules) {
    this.#options = options
    this.#modules = modules
  }

  get nodeUid(): string {
    return this.#options.nodeUid
  }

  /** After everything that was asked of this slot before. */
  run<T>(slot: OwnSlot, task: () => Promise<T>): Promise<T> {
    return this.#queue.run(slot.id, task)
  }

  /** Taken before a request is sent: what it confirms is confirmed since then. */
  now(): Instant {
    return instantNow(this.#modules.clock, this.#options.boot)
  }

  /** @throws what changeRecord does */
  change(
    key: string,
    step: ChangeOptions<SlotRecord>['step'],
    known?: ChangeOptions<SlotRecord>['known'],
  ): Promise<Changed<SlotRecord>> {
    return changeRecord<SlotRecord>(this.#modules.store, {
      key,
      parse: parseSlot,
      step,
      ...(known === undefined ? {} : { known }),
    })
  }

  /**
   * Takes in what the record shows of our parts, tells what is lost, and journals the slot if it has become another.
   * In the slot's turn. @throws journal.write-failed
   */
  async examine(slot: OwnSlot, sight: Sight): Promise<void> {
    const { allocator, clock, log, restoration } = this.#modules
    const confirms = sight.at !== null && (await this.mayConfirm(slot, sight.at))
    const before = JSON.stringify(journaledSlot(slot))
    const { lost, unknown, behind } = examine(
      slot,
      { ...sight, at: confirms ? sight.at : null },
      { nodeUid: this.#options.nodeUid, nowMs: clock.boottimeMs() },
    )
    for (const { text, generation } of behind)
      restoration.suspect(`our part ${text} of generation ${generation} is not in it`)
    if (unknown.length > 0) allocator.addSlot(slot)
    for (const { text, generation } of unknown)
      log.warn({ part: text, generation }, 'part is ours and unknown here')
    for (const part of lost) this.#options.onLost(part)
    if (JSON.stringify(journaledSlot(slot)) !== before) await this.record(slot)
  }

  /**
   * Rule 16: while the store is marked as restored only a term that runs is prolonged. To be asked after the slot was
   * read or written: whoever sets the mark later finds what we did before. @throws store.*
   */
  async mayConfirm(slot: OwnSlot, at: Instant): Promise<boolean> {
    if (this.isInTerm(slot, at)) return true
    return slot.parts.length > 0 && (await this.#modules.restoration.isOver())
  }

  isInTerm(slot: OwnSlot, at: Instant): boolean {
    return inTerm(slot.confirmed, at, this.#options.offlineAllowanceMs)
  }

  /** These parts are somebody else's. In the slot's turn. @throws journal.write-failed */
  async lose(slot: OwnSlot, parts: readonly OwnedPart[]): Promise<void> {
    if (parts.length === 0) return
    slot.parts = slot.parts.filter(part => !parts.includes(part))
    for (const part of parts) this.#options.onLost(part)
    await this.record(slot)
  }

  /** What the slot becomes is journaled before it is true in memory: nothing is used that a restart forgets. */
  async become(slot: OwnSlot, next: Partial<Pick<OwnSlot, 'parts' | 'claiming' | 'giving'>>): Promise<void> {
    await this.#modules.journal.append(journaledSlot({ ...slot, ...next }))
    Object.assign(slot, next)
  }

  /** Journals the slot as it is now. When that fails, `undo`, and the error goes on. */
  async record(slot: OwnSlot, undo: () => void = () => {}): Promise<void> {
    try {
      await this.#modules.journal.append(journaledSlot(slot))
    } catch (error) {
      undo()
      throw error
    }
  }
}
