/**
 * Which empty parts a node gives back. One whole slot is kept as a spare, and more of them as long as without them
 * there were less free than twice the mark below which the node claims another; every part goes only after it has
 * been empty for a while: else parts would bounce. A piece of a slot is no spare: only free parts merge again.
 */
import { sizeOf } from '../lib/address.ts'
import { floorPowerOfTwo, type NodeLimit, ownedOf } from './node-limit.ts'
import type { OwnedPart } from './own-slots.ts'
import { largestEmptyPiece, largestUselessPiece, lastPiece, type Piece } from './part-pieces.ts'

export interface SpareOptions {
  readonly lowWater: number
  /** How long a part stays empty before it goes. */
  readonly restMs: number
}

export interface Surplus {
  readonly parts: readonly OwnedPart[]
  /** Milliseconds until a part may have rested enough; Infinity: none rests. */
  readonly dueMs: number
}

export class SpareParts {
  readonly #options: SpareOptions
  /** BOOTTIME at which a part was first seen empty. */
  readonly #emptySinceMs = new WeakMap<OwnedPart, number>()

  constructor(options: SpareOptions) {
    this.#options = options
  }

  /** `parts`: all of one group of pools, of which one spare is kept. */
  surplus(parts: readonly OwnedPart[], nowMs: number): Surplus {
    const known = parts.filter(part => part.unknownSinceMs === null)
    let free = known.reduce((sum, part) => sum + part.addresses.free, 0)
    let empty = this.#empty(known, nowMs)
    const given: OwnedPart[] = []
    let dueMs = Number.POSITIVE_INFINITY
    for (const part of empty) {
      const spares = empty.filter(other => other !== part && isWhole(other)).length
      if (!this.#isSurplus(part, spares, free - part.addresses.free)) continue
      const leftMs = this.#options.restMs - (nowMs - (this.#emptySinceMs.get(part) ?? nowMs))
      if (leftMs > 0) {
        dueMs = Math.min(dueMs, leftMs)
        continue
      }
      given.push(part)
      free -= part.addresses.free
      empty = empty.filter(other => other !== part)
    }
    return { parts: given, dueMs }
  }

  /** Smallest first: the largest is the best spare. */
  #empty(parts: readonly OwnedPart[], nowMs: number): OwnedPart[] {
    const empty = parts.filter(part => part.addresses.held === 0 && !part.fenced)
    for (const part of parts)
      if (!empty.includes(part)) this.#emptySinceMs.delete(part)
      else if (!this.#emptySinceMs.has(part)) this.#emptySinceMs.set(part, nowMs)
    return empty.sort((a, b) => a.addresses.size - b.addresses.size)
  }

  /** `freeBeside`: free addresses of the other parts, empty or not. */
  #isSurplus(part: OwnedPart, sparesBeside: number, freeBeside: number): boolean {
    return !isWhole(part) || (sparesBeside > 0 && freeBeside >= 2 * this.#options.lowWater)
  }
}

const isWhole = (part: OwnedPart): boolean => part.cidr.prefix === part.slot.slot.prefix

/**
 * Empty pieces that bring the node nearer to its limit, at most one of each part: call again when they have gone.
 * Where there are too many parts, smallest first; where too many addresses, largest piece first.
 */
export function excess(parts: readonly OwnedPart[], limit: NodeLimit): Piece[] {
  const known = parts.filter(part => part.unknownSinceMs === null && !part.fenced)
  return ([4, 6] as const).flatMap(family => {
    const own = known.filter(part => part.cidr.family === family)
    const owned = ownedOf(parts, family)
    const whole = limit.parts === null ? [] : emptyOnes(own).slice(0, Math.max(0, owned.parts - limit.parts))
    if (whole.length > 0 || limit.addresses === null) return whole
    return emptyPieces(own, owned.addresses - limit.addresses)
  })
}

const emptyOnes = (parts: readonly OwnedPart[]): Piece[] =>
  parts
    .filter(part => part.addresses.held === 0)
    .sort((a, b) => a.addresses.size - b.addresses.size)
    .map(part => ({ part, cidr: part.cidr }))

/** `count` addresses in all, or fewer; of each part first what cannot go out. */
function emptyPieces(parts: readonly OwnedPart[], count: number): Piece[] {
  if (count <= 0) return []
  const pieces = parts
    .map(part => largestUselessPiece(part) ?? largestEmptyPiece([part]))
    .filter(piece => piece !== null)
  let left = count
  return pieces
    .sort((a, b) => a.cidr.prefix - b.cidr.prefix)
    .flatMap(({ part, cidr }) => {
      const size = Math.min(Number(sizeOf(cidr)), floorPowerOfTwo(left))
      left -= size
      return size === 0 ? [] : [{ part, cidr: lastPiece(cidr, size) }]
    })
}
