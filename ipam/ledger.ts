/**
 * The ledgers of this node, one key for each slot: who holds which address. Written by group commit, a little
 * after the fact: a burst of pods costs a few writes, and what changes during a write goes into the next one.
 *
 * This node alone writes them, so a conflict is its own past (a commit in doubt that landed, an earlier life of
 * this daemon), and memory, fed by the journal, is right. The first commit of a slot after a start is always
 * written, equal or not: only that settles a commit of the life before that may still be under way (rule 4).
 */
import { isDeepStrictEqual } from 'node:util'
import { ledgerKey } from '../datastore/keys.ts'
import { recordParser } from '../datastore/record.ts'
import {
  type LedgerEntry,
  type LedgerRecord,
  ledgerRecord,
  type PastHolder,
} from '../datastore/records/ledger.ts'
import type { Store } from '../datastore/store.ts'
import type { Clock, Timer } from '../lib/clock.ts'
import { isTwillError, messageOf } from '../lib/errors.ts'
import { faultPoint } from '../lib/fault.ts'
import type { Log } from '../lib/log.ts'
import { type Holding, heldAddress } from './allocator.ts'
import { changeRecord, KEEP } from './change-record.ts'
import type { OwnSlot } from './own-slots.ts'

export interface LedgerOptions {
  readonly nodeUid: string
  readonly boot: string
  /** How long a change waits for others to join its commit: after the last change, and at most ten times this. */
  readonly lingerMs: number
  /** Past holders kept in each ledger. */
  readonly recentMax: number
}

export interface LedgerModules {
  readonly store: Store
  readonly clock: Clock
  readonly log: Log
  readonly holdings: ReadonlyMap<string, Holding>
}

interface Page {
  readonly slot: OwnSlot
  dirty: boolean
  firstDirtyMs: number
  /** BOOTTIME at which its commit is due, if it is dirty. */
  dueMs: number
  timer: Timer | null
  running: boolean
  failures: number
  /** A commit of an earlier life may be under way. */
  unsettled: boolean
  known: { value: LedgerRecord | null; modRevision: number } | undefined
  recent: PastHolder[]
}

const parseLedger = recordParser(ledgerRecord)
const RETRY_MAX_MS = 15_000

export class Ledgers {
  readonly #options: LedgerOptions
  readonly #modules: LedgerModules
  readonly #pages = new Map<string, Page>()
  readonly #waiters: (() => void)[] = []
  #stopped = false

  constructor(options: LedgerOptions, modules: LedgerModules) {
    this.#options = options
    this.#modules = modules
  }

  /** Something that belongs in the slot's ledger has changed. `past`: who has gone. */
  mark(slot: OwnSlot, past: readonly PastHolder[] = []): void {
    const page = this.#page(slot, false)
    page.recent.push(...past)
    // While the store is away nothing takes them off; more than this would not be kept anyway.
    if (!page.running) page.recent.splice(0, page.recent.length - this.#options.recentMax)
    this.#touch(page)
  }

  /** Known from the journal of an earlier life: to be written once whatever it says. */
  reopen(slot: OwnSlot): void {
    this.#touch(this.#page(slot, true))
  }

  /** What the store has of it may be out of date: to be written again, equal or not. */
  rewrite(slot: OwnSlot): void {
    const page = this.#page(slot, true)
    page.unsettled = true
    page.known = undefined
    this.#touch(page)
  }

  /** Slots whose ledger is behind memory. */
  pending(): number {
    return [...this.#pages.values()].filter(page => page.dirty || page.running).length
  }

  settled(): Promise<void> {
    if (this.pending() === 0) return Promise.resolve()
    return new Promise(resolve => this.#waiters.push(resolve))
  }

  /** Commits now what is pending, once each; what fails stays for the next life. */
  async stop(): Promise<void> {
    this.#stopped = true
    for (const page of this.#pages.values()) page.timer?.cancel()
    const rest = [...this.#pages.values()].filter(page => page.dirty && !page.running)
    await Promise.all(rest.map(page => this.#run(page)))
  }

  #page(slot: OwnSlot, unsettled: boolean): Page {
    const known = this.#pages.get(slot.id)
    if (known !== undefined) return known
    const page: Page = {
      slot,
      dirty: false,
      firstDirtyMs: 0,
      dueMs: 0,
      timer: null,
      running: false,
      failures: 0,
      unsettled,
      known: undefined,
      recent: [],
    }
    this.#pages.set(slot.id, page)
    return page
  }

  #touch(page: Page): void {
    const nowMs = this.#modules.clock.boottimeMs()
    if (!page.dirty) page.firstDirtyMs = nowMs
    page.dirty = true
    if (page.running || this.#stopped || page.failures > 0) return
    const { lingerMs } = this.#options
    page.dueMs = Math.min(nowMs + lingerMs, page.firstDirtyMs + 10 * lingerMs)
    // One that runs is due no later, and looks again when it fires: a burst sets one timer and not one for each address.
    if (page.timer === null) this.#schedule(page, page.dueMs - nowMs)
  }

  #schedule(page: Page, delayMs: number): void {
    page.timer?.cancel()
    page.timer = this.#modules.clock.setTimer(delayMs, () => {
      page.timer = null
      const leftMs = page.dueMs - this.#modules.clock.boottimeMs()
      if (leftMs > 0) this.#schedule(page, leftMs)
      else void this.#run(page)
    })
  }

  async #run(page: Page): Promise<void> {
    if (page.running) return
    page.running = true
    page.dirty = false
    try {
      await this.#commit(page)
      page.failures = 0
    } catch (error) {
      this.#failed(page, error)
    }
    page.running = false
    if (page.dirty && !this.#stopped) this.#again(page)
    else if (!page.dirty) this.#tellWaiters()
  }

  #failed(page: Page, error: unknown): void {
    const { log } = this.#modules
    page.dirty = true
    page.failures++
    if (isTwillError(error, 'store.in-doubt')) page.unsettled = true
    page.known = undefined
    log.warn({ slot: page.slot.text, err: messageOf(error), failures: page.failures }, 'ledger not written')
  }

  #again(page: Page): void {
    const backoffMs = Math.min(RETRY_MAX_MS, 250 * 2 ** Math.min(page.failures, 10))
    const delayMs = page.failures === 0 ? this.#options.lingerMs : backoffMs
    page.firstDirtyMs = this.#modules.clock.boottimeMs()
    page.dueMs = page.firstDirtyMs + delayMs
    this.#schedule(page, delayMs)
  }

  async #commit(page: Page): Promise<void> {
    const sent = page.recent.length
    faultPoint('ledger.before-commit')
    const changed = await changeRecord<LedgerRecord>(this.#modules.store, {
      key: ledgerKey(page.slot.poolUid, page.slot.slot, this.#options.nodeUid),
      parse: parseLedger,
      step: current => {
        const next = this.#content(page, current, sent)
        return !page.unsettled && isDeepStrictEqual(next, current) ? KEEP : next
      },
      known: page.known,
    })
    faultPoint('ledger.after-commit')
    page.known = changed
    page.unsettled = false
    page.recent.splice(0, sent)
    // A record that only settled a doubt: now it can go.
    if (page.slot.parts.length === 0 && changed.value !== null) this.#touch(page)
  }

  /** null: nothing to say, the key goes. */
  #content(page: Page, current: LedgerRecord | null, recentCount: number): LedgerRecord | null {
    // While a creation may still land, only a record settles it; it goes with the next commit.
    if (page.slot.parts.length === 0 && !page.unsettled) return null
    const recent = [...(current?.recent ?? []), ...page.recent.slice(0, recentCount)]
    const generations: LedgerRecord['generations'] = {}
    for (const part of page.slot.parts) {
      const entries = Object.assign(generations[part.generation] ?? {}, this.#entriesOf(part))
      if (Object.keys(entries).length > 0) generations[part.generation] = entries
    }
    const empty = recent.length === 0 && Object.keys(generations).length === 0
    if (current === null && empty && !page.unsettled) return null
    return { v: 1, owner: this.#options.nodeUid, generations, recent: recent.slice(-this.#options.recentMax) }
  }

  #entriesOf(part: OwnSlot['parts'][number]): Record<string, LedgerEntry> {
    const entries: Record<string, LedgerEntry> = {}
    for (const { offset, holder } of part.addresses.holders()) {
      const holding = this.#modules.holdings.get(holder)
      if (holding?.recorded) entries[heldAddress(part, offset).address] = entryOf(holding, this.#options.boot)
    }
    return entries
  }

  #tellWaiters(): void {
    if (this.pending() > 0) return
    for (const waiter of this.#waiters.splice(0)) waiter()
  }
}

function entryOf({ holder }: Holding, boot: string): LedgerEntry {
  const { id, kind, network, containerId, ifName, pod, since } = holder
  return { holder: id, kind, network, containerId, ifName, pod, since, boot }
}
