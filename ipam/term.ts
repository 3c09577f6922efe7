/**
 * The term in which a node may hand out addresses of a part without asking the store (ADDRESSES.md rule 7).
 * Pure. Invariant: never longer than the owner's allowance as the others count it, whatever the clocks do.
 */
import type { Clock } from '../lib/clock.ts'
import type { Instant } from './journal-records.ts'

export function instantNow(clock: Clock, boot: string): Instant {
  return { boot, boottimeMs: clock.boottimeMs(), realtimeMs: clock.realtimeMs() }
}

/**
 * Milliseconds from `since` to `now`, by the clock that says more: a paused machine's BOOTTIME stands still, a
 * REALTIME set back goes too slow. Infinity across a reboot, where BOOTTIMEs do not compare.
 */
export function elapsedMs(since: Instant, now: Instant): number {
  if (since.boot !== now.boot) return Number.POSITIVE_INFINITY
  return Math.max(now.boottimeMs - since.boottimeMs, now.realtimeMs - since.realtimeMs)
}

/** `confirmed`: just before the request that confirmed ownership was sent; null: never. */
export function inTerm(confirmed: Instant | null, now: Instant, allowanceMs: number): boolean {
  return confirmed !== null && elapsedMs(confirmed, now) < allowanceMs
}

/** The later of two confirmations of one boot. */
export function laterOf(a: Instant | null, b: Instant): Instant {
  return a === null || a.boot !== b.boot || a.boottimeMs < b.boottimeMs ? b : a
}
