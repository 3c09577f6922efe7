/**
 * How often the loop may touch one object: at once as a rule, ever more slowly while its step fails or while
 * somebody else keeps undoing it. So a foreign program that insists costs a step a minute, not a core.
 */
import type { Clock } from '../../lib/clock.ts'

export interface PacingOptions {
  /** First wait after a failure; doubles with each. */
  readonly failureMs: number
  readonly maxFailureMs: number
  /** So many repairs of one object within `windowMs` are taken for accidents. */
  readonly freeRepairs: number
  readonly windowMs: number
  /** First wait after that; doubles with each further repair. */
  readonly disputeMs: number
  readonly maxDisputeMs: number
}

export const PACING: PacingOptions = {
  failureMs: 100,
  maxFailureMs: 5_000,
  freeRepairs: 8,
  windowMs: 30_000,
  disputeMs: 1_000,
  maxDisputeMs: 60_000,
}

interface Record {
  failures: number
  repairs: number
  lastRepairMs: number
  notBeforeMs: number
}

export class Pacing {
  readonly #options: PacingOptions
  readonly #clock: Clock
  readonly #records = new Map<string, Record>()

  constructor(options: PacingOptions, modules: { clock: Clock }) {
    this.#options = options
    this.#clock = modules.clock
  }

  /** Milliseconds until this object may be touched; 0: now. */
  waitMs(object: string): number {
    const record = this.#records.get(object)
    return record === undefined ? 0 : Math.max(0, record.notBeforeMs - this.#clock.boottimeMs())
  }

  failed(object: string): void {
    const record = this.#recordOf(object)
    const { failureMs, maxFailureMs } = this.#options
    record.notBeforeMs = this.#clock.boottimeMs() + doubled(failureMs, record.failures++, maxFailureMs)
  }

  /** Its step was executed. */
  succeeded(object: string): void {
    const record = this.#records.get(object)
    if (record === undefined) return
    record.failures = 0
    if (record.repairs === 0) this.#records.delete(object)
  }

  /** It had to be put right after somebody else. True when from now on it waits: this is a dispute. */
  repaired(object: string): boolean {
    const { freeRepairs, disputeMs, maxDisputeMs } = this.#options
    const now = this.#clock.boottimeMs()
    const record = this.#recordOf(object)
    if (now - record.lastRepairMs > this.#calmMs(record)) record.repairs = 0
    record.failures = 0
    record.lastRepairMs = now
    record.repairs++
    if (record.repairs <= freeRepairs) return false
    record.notBeforeMs = now + doubled(disputeMs, record.repairs - freeRepairs - 1, maxDisputeMs)
    return true
  }

  /** Forgets objects that have been left alone for long enough; call it now and then. */
  forget(): void {
    const now = this.#clock.boottimeMs()
    for (const [object, record] of this.#records)
      if (now - Math.max(record.lastRepairMs, record.notBeforeMs) > this.#calmMs(record))
        this.#records.delete(object)
  }

  /** A dispute is over only when nothing happened for longer than its last wait. */
  #calmMs(record: Record): number {
    const { freeRepairs, windowMs, maxDisputeMs } = this.#options
    return record.repairs > freeRepairs ? windowMs + maxDisputeMs : windowMs
  }

  #recordOf(object: string): Record {
    const known = this.#records.get(object)
    if (known !== undefined) return known
    const record: Record = { failures: 0, repairs: 0, lastRepairMs: 0, notBeforeMs: 0 }
    this.#records.set(object, record)
    return record
  }
}

function doubled(firstMs: number, times: number, maxMs: number): number {
  return Math.min(maxMs, firstMs * 2 ** Math.min(times, 30))
}
