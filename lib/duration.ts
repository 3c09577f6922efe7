/** Durations as operators write them: a number and one of ms, s, m, h ("90s", "1h"). */
const UNIT_MS: Readonly<Record<string, number>> = { ms: 1, s: 1000, m: 60_000, h: 3_600_000 }

/** Milliseconds, or null when the text is not a duration. */
export function parseDurationMs(text: string): number | null {
  const match = /^(\d+)(ms|s|m|h)$/.exec(text)
  return match ? Number(match[1]) * (UNIT_MS[match[2] as string] as number) : null
}
