/** Durations as operators write them: a number and one of ms, s, m, h ("90s", "1h"). */
import { z } from 'zod'

const UNIT_MS: Readonly<Record<string, number>> = { ms: 1, s: 1000, m: 60_000, h: 3_600_000 }

/** Milliseconds, or null when the text is not a duration. */
export function parseDurationMs(text: string): number | null {
  const match = /^(\d+)(ms|s|m|h)$/.exec(text)
  return match ? Number(match[1]) * (UNIT_MS[match[2] as string] as number) : null
}

/** Text → milliseconds. */
export const duration = z
  .string()
  .refine(text => parseDurationMs(text) !== null, 'expected a duration such as 500ms, 90s, 5m or 1h')
  .transform(text => parseDurationMs(text) as number)

/** What is added to a removed node's allowance before its addresses are free, unless the configuration says else. */
export const FENCE_MARGIN = '60s'
