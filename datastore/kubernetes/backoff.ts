/** How long to wait after failures in a row: doubling, jittered, never under what the server asks for. */
import type { Random } from '../../lib/clock.ts'
import { isTwillError } from '../../lib/errors.ts'

const FIRST_MS = 500
const LAST_MS = 30_000

export class Backoff {
  readonly #random: Random
  #failures = 0

  constructor(modules: { random: Random }) {
    this.#random = modules.random
  }

  /** Something worked. */
  reset(): void {
    this.#failures = 0
  }

  /** Between half and all of the doubled limit: nodes that lost the server together do not come back together. */
  next(error: unknown): number {
    const limit = Math.min(LAST_MS, FIRST_MS * 2 ** this.#failures++)
    return Math.max(limit * (0.5 + this.#random.fraction() / 2), retryAfterMs(error))
  }
}

function retryAfterMs(error: unknown): number {
  const wished = isTwillError(error) ? error.data.retryAfterMs : null
  return typeof wished === 'number' ? Math.min(wished, LAST_MS) : 0
}
