/** Why this node has no address to give at once, for people: what is waited for, and until when if that is known. Pure. */
import type { Family } from '../lib/address.ts'
import type { OwnedPart } from './own-slots.ts'

export interface NoRoom {
  readonly family: Family
  /** Parts with room that may not be used. */
  readonly unusable: readonly OwnedPart[]
  /** Until further addresses are claimed; null: nothing forbids it. */
  readonly claimsInMs: number | null
  readonly nowMs: number
  /** After so long a part is used that bears our UID and that the journal does not know. */
  readonly unknownMs: number
}

export function noRoom({ family, unusable, claimsInMs, nowMs, unknownMs }: NoRoom): string {
  const addresses = `this node's IPv${family} addresses`
  const waiting = unusable.filter(({ unknownSinceMs }) => unknownSinceMs === null)
  if (waiting.length > 0 && waiting.every(({ fenced }) => fenced))
    return `${addresses} are fenced, since the node was removed: that ends some seconds after it is back (in Kubernetes: after it has a Node object again)`
  const restored =
    claimsInMs === null ? '' : `: the datastore went back to an older state, ${within(claimsInMs)}`
  if (waiting.length > 0) return `${addresses} are not confirmed${restored}`
  const [unknown] = unusable
  if (unknown !== undefined) {
    const sinceMs = Math.min(...unusable.map(({ unknownSinceMs }) => unknownSinceMs ?? nowMs))
    return `${addresses} are known to the datastore alone, not to the journal: ${within(sinceMs + unknownMs - nowMs)}`
  }
  return `${addresses} have no room${restored}`
}

const within = (ms: number): string => `${Math.max(1, Math.ceil(ms / 60_000))} min more at the most`
