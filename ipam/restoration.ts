/**
 * What follows when the store was restored from an older snapshot (ADDRESSES.md rule 16). Whoever sees it sets a mark
 * in the record `address-space`, which every claim reads. While the mark stands nobody claims, and nobody confirms
 * what he did not hold by a running term: meanwhile those whose term runs enter their parts again. It is taken away by
 * whoever has seen it stand for the longest allowance plus margin, on his own BOOTTIME.
 *
 * Trap: a mark that was there before is no mark of this restoration. One that comes to be known with it is.
 */
import { ADDRESS_SPACE_KEY, PREFIX } from '../datastore/keys.ts'
import { recordParser } from '../datastore/record.ts'
import type { AddressSpaceRecord } from '../datastore/records/address-space.ts'
import { livenessRecord } from '../datastore/records/liveness.ts'
import type { Store } from '../datastore/store.ts'
import type { Clock, Random } from '../lib/clock.ts'
import { TwillError } from '../lib/errors.ts'
import type { Log } from '../lib/log.ts'
import { emptySpace, parseSpace } from './address-space.ts'
import { changeRecord, KEEP } from './change-record.ts'
import type { IpamJournal } from './journal-records.ts'
import { instantNow } from './term.ts'

export interface RestorationOptions {
  readonly boot: string
  readonly offlineAllowanceMs: number
  readonly marginMs: number
  /** What is believed of the store is out of date: everything is to be looked at again, then call `rechecked`. */
  readonly onBegin: () => void
}

export interface RestorationModules {
  readonly store: Store
  readonly clock: Clock
  readonly random: Random
  readonly log: Log
  readonly journal: IpamJournal
}

type Mark = NonNullable<AddressSpaceRecord['restored']>

const parseLiveness = recordParser(livenessRecord)

export class Restoration {
  readonly #options: RestorationOptions
  readonly #modules: RestorationModules
  #mark: (Mark & { readonly sinceMs: number }) | null = null
  /** Seen by us and not yet marked; `old`: the mark that stood before, which is none of this. */
  #suspicion: { readonly reason: string; readonly old: string | null } | null = null
  #isRechecked = true

  constructor(options: RestorationOptions, modules: RestorationModules) {
    this.#options = options
    this.#modules = modules
  }

  /** Why nothing is claimed; null: no restoration is under way. */
  get reason(): string | null {
    if (this.#suspicion !== null) return this.#suspicion.reason
    return this.#mark === null ? null : 'the datastore was restored from an older snapshot'
  }

  get stands(): boolean {
    return this.#suspicion !== null || this.#mark !== null
  }

  /** @param reason what shows it */
  suspect(reason: string): void {
    const { log } = this.#modules
    // What is found while all is looked at again is known.
    if (this.#suspicion !== null || (this.#mark !== null && !this.#isRechecked)) return
    log.error({ reason }, 'the datastore went back to an older state: nothing is claimed for a while')
    this.#suspicion = { reason, old: this.#mark?.id ?? null }
    this.#begin()
  }

  /** Takes in what `address-space` says. */
  see(space: AddressSpaceRecord | null): void {
    const mark = space?.restored ?? null
    if (mark === null || mark.id === this.#mark?.id) {
      if (mark === null) this.#mark = null
      return
    }
    this.#mark = { ...mark, sinceMs: this.#modules.clock.boottimeMs() }
    this.#modules.log.warn(
      { mark: mark.id },
      'the datastore is marked as restored: nothing is claimed for a while',
    )
    if (this.#suspicion === null) this.#begin()
    else if (this.#suspicion.old !== mark.id) this.#suspicion = null
  }

  #begin(): void {
    this.#isRechecked = false
    this.#options.onBegin()
  }

  /** Everything was compared with the store since it began. */
  rechecked(): void {
    this.#isRechecked = true
  }

  /** By a linearisable read: no mark stands, and we know of nothing that would ask for one. @throws store.* */
  async isOver(): Promise<boolean> {
    if (this.stands) return false
    const { entry } = await this.#modules.store.get(ADDRESS_SPACE_KEY)
    this.see(entry === null ? null : parseSpace(entry.value, entry.key))
    return !this.stands
  }

  /** @throws ipam.not-confirmed (retryable) */
  refuseClaims(): void {
    if (!this.stands) return
    throw new TwillError(
      'ipam.not-confirmed',
      `no further addresses are claimed for up to ${Math.ceil(this.#totalMs() / 60_000)} min: ${this.reason}`,
      {},
      { retryable: true },
    )
  }

  /** Sets the mark, or takes it away when its time has come. @throws store.*, journal.write-failed */
  async tend(): Promise<void> {
    if (this.#suspicion !== null) await this.#setMark(this.#suspicion.old)
    else if (this.#mark !== null && this.nextDueMs() <= 0) await this.#takeAway(this.#mark.id)
  }

  /** How long nothing is claimed yet, at the most; null: no restoration is under way. */
  endsInMs(): number | null {
    if (!this.stands) return null
    return this.#suspicion === null ? this.nextDueMs() : this.#totalMs()
  }

  /** Until `tend` has something to do. */
  nextDueMs(): number {
    if (this.#suspicion !== null) return 0
    if (this.#mark === null) return Number.POSITIVE_INFINITY
    return this.#mark.sinceMs + this.#totalMs() - this.#modules.clock.boottimeMs()
  }

  #totalMs(): number {
    const { offlineAllowanceMs, marginMs } = this.#options
    return Math.max(offlineAllowanceMs, this.#mark?.allowanceMs ?? 0) + marginMs
  }

  async #setMark(old: string | null): Promise<void> {
    const { store, random, journal, clock } = this.#modules
    const mark: Mark = { id: random.hex(8), allowanceMs: await this.#longestAllowanceMs() }
    const changed = await changeRecord<AddressSpaceRecord>(store, {
      key: ADDRESS_SPACE_KEY,
      parse: parseSpace,
      step: current => {
        const stands = current?.restored ?? null
        if (stands !== null && stands.id !== old) return KEEP
        return { ...(current ?? emptySpace), restored: mark }
      },
    })
    // The revision from now on: what was seen before must not raise the alarm again at the next start.
    const revision = store.status().lastRevision
    await journal.append({ t: 'confirmed', ...instantNow(clock, this.#options.boot), revision, slots: [] })
    this.see(changed.value)
    this.#suspicion = null
  }

  async #longestAllowanceMs(): Promise<number> {
    const { entries } = await this.#modules.store.list(PREFIX.liveness)
    const told = entries.map(({ key, value }) => {
      try {
        return parseLiveness(value, key).allowanceMs
      } catch {
        return 0
      }
    })
    return Math.max(this.#options.offlineAllowanceMs, ...told)
  }

  async #takeAway(id: string): Promise<void> {
    const changed = await changeRecord<AddressSpaceRecord>(this.#modules.store, {
      key: ADDRESS_SPACE_KEY,
      parse: parseSpace,
      step: current => (current?.restored?.id === id ? { ...current, restored: null } : KEEP),
    })
    if (changed.wrote) this.#modules.log.info({ mark: id }, 'the restoration of the datastore is over')
    this.see(changed.value)
  }
}
