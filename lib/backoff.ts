/** How long to wait after failures in a row: doubling, jittered, never under what the server asks for. */
import type { Random } from './clock.ts'
import { isTwillError } from './errors.ts'

const FIRST_MS = 500
const LAST_MS = 30_000

export class Backoff {
  readonly #random: Pick<Random, 'fraction'>
  readonly #lastMs: number
  #failures = 0

  constructor(
    modules: { readonly random: Pick<Random, 'fraction'> },
    { lastMs = LAST_MS }: { readonly lastMs?: number } = {},
  ) {
    this.#random = modules.random
    this.#lastMs = lastMs
  }

  /** Something worked. */
  reset(): void {
    this.#failures = 0
  }

  /** Between half and all of the doubled limit: nodes that lost the server together do not come back together. */
  next(error: unknown): number {
    const limit = Math.min(this.#lastMs, FIRST_MS * 2 ** this.#failures++)
    return Math.max(limit * (0.5 + this.#random.fraction() / 2), retryAfterMs(error))
  }
}

function retryAfterMs(error: unknown): number {
  if (!isTwillError(error)) return 0
  const { retryAfterMs: wished } = error.data
  return typeof wished === 'number' ? Math.min(wished, LAST_MS) : retryAfterMs(error.cause)
}
