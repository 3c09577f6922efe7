/**
 * Records that this node needs and cannot read, damaged or of a newer version: told once each, shown while it lasts, and
 * never overwritten (whoever changes a record reads it first).
 */
import { isTwillError, messageOf } from '../lib/errors.ts'
import type { Log } from '../lib/log.ts'

export class UnreadableRecords {
  readonly #log: Log
  /** What it is about → why it cannot be read. */
  readonly #reasons = new Map<string, string>()

  constructor(modules: { readonly log: Log }) {
    this.#log = modules.log
  }

  /** Each a sentence that names the record. */
  get reasons(): string[] {
    return [...new Set(this.#reasons.values())]
  }

  get byAbout(): ReadonlyMap<string, string> {
    return this.#reasons
  }

  has(about: string): boolean {
    return this.#reasons.has(about)
  }

  /** Those about anything else concern nobody any more. */
  keepOnly(isMeant: (about: string) => boolean): void {
    for (const about of this.#reasons.keys()) if (!isMeant(about)) this.#reasons.delete(about)
  }

  /** Runs what reads records about one thing; false when one of them cannot be read. @throws every other error */
  async spare(about: string, work: () => Promise<unknown>): Promise<boolean> {
    try {
      await work()
      this.#reasons.delete(about)
      return true
    } catch (error) {
      if (!isTwillError(error, 'document.invalid') && !isTwillError(error, 'ipam.record-damaged')) throw error
      const reason = messageOf(error)
      if (this.#reasons.get(about) !== reason)
        this.#log.error(
          { about, reason },
          'a record cannot be read: kept as it is, and nothing done that needs it',
        )
      this.#reasons.set(about, reason)
      return false
    }
  }
}
