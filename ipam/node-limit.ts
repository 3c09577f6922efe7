/**
 * How much of the address space one node may own, for each family: so that no node keeps what all need. Pure.
 * What a limit that was lowered makes too much is given back as far as it is empty (spare-parts.ts).
 */
import type { Family } from '../lib/address.ts'
import type { OwnedPart } from './own-slots.ts'

/** Of each family; null: none. */
export interface NodeLimit {
  readonly parts: number | null
  readonly addresses: number | null
}

export const NO_LIMIT: NodeLimit = { parts: null, addresses: null }

export interface Owned {
  readonly parts: number
  readonly addresses: number
}

export function ownedOf(parts: Iterable<OwnedPart>, family: Family): Owned {
  const owned = { parts: 0, addresses: 0 }
  for (const { cidr, addresses } of parts)
    if (cidr.family === family) {
      owned.parts++
      owned.addresses += addresses.size
    }
  return owned
}

/** How many addresses one part more may have: a power of two; 0: there may be none. */
export function mayAdd(limit: NodeLimit, { parts, addresses }: Owned): number {
  if (limit.parts !== null && parts >= limit.parts) return 0
  if (limit.addresses === null) return Number.POSITIVE_INFINITY
  return floorPowerOfTwo(limit.addresses - addresses)
}

/** 0 for what is below 1. */
export const floorPowerOfTwo = (count: number): number => (count < 1 ? 0 : 2 ** Math.floor(Math.log2(count)))

/** For an error: which limit stands in the way. */
export function describeLimit({ parts, addresses }: NodeLimit): string {
  const limits = [
    parts === null ? [] : [`${parts} parts`],
    addresses === null ? [] : [`${addresses} addresses`],
  ]
  return `this node may own ${limits.flat().join(' and ')} of each family`
}
