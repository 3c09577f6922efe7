/**
 * Parts of ours cut into pieces and put together again, with what is known of each address: who holds it, since
 * when it is free. Nothing here changes a part; whoever gets new ones puts them in the place of the old.
 */
import { bitsOf, type Cidr, compareCidr, covers, formatCidr, overlaps, sizeOf } from '../lib/address.ts'
import type { OwnedPart, OwnSlot } from './own-slots.ts'
import { PartAddresses } from './part-addresses.ts'
import { carve } from './slot.ts'

export interface Piece {
  readonly part: OwnedPart
  readonly cidr: Cidr
}

/** The part as pieces of which one is `piece`, in order of address. */
export function cutPart(part: OwnedPart, piece: Cidr): OwnedPart[] {
  return carve(part.cidr, piece).map(cidr => partFrom(cidr, [part]))
}

/** `members` cover `cidr` together and are of one generation. */
export function joinParts(cidr: Cidr, members: readonly OwnedPart[]): OwnedPart {
  return partFrom(cidr, members)
}

function partFrom(cidr: Cidr, sources: readonly OwnedPart[]): OwnedPart {
  const [first] = sources
  if (first === undefined) throw new Error(`nothing is known of ${formatCidr(cidr)}`)
  const unknown = sources.map(part => part.unknownSinceMs).filter(since => since !== null)
  const known = sources.map(part => ({
    addresses: part.addresses,
    shift: Number(part.cidr.base - cidr.base),
  }))
  return {
    slot: first.slot,
    cidr,
    text: formatCidr(cidr),
    generation: first.generation,
    addresses: PartAddresses.from(cidr, known),
    fenced: sources.some(part => part.fenced),
    unknownSinceMs: unknown.length === 0 ? null : Math.max(...unknown),
  }
}

/**
 * Largest first, down to a single address (rule 2); among those of one size the one whose addresses have been free
 * for longest. `freedBy`: only one whose addresses were all freed by then. null: there is none.
 */
export function largestEmptyPiece(
  parts: readonly OwnedPart[],
  freedBy = Number.POSITIVE_INFINITY,
): Piece | null {
  let best: { piece: Piece; size: number; youngestMs: number } | null = null
  for (const part of parts) {
    const found = largestIn(part, best?.size ?? 1, freedBy)
    if (found === null) continue
    const better = best === null || found.size > best.size || found.youngestMs < best.youngestMs
    if (better) best = found
  }
  return best?.piece ?? null
}

/** Of which nothing is held and nothing may go out; null: there is none. */
export function largestUselessPiece(part: OwnedPart): Piece | null {
  const { addresses } = part
  for (let size = addresses.size; size >= 1; size /= 2)
    for (let offset = 0; offset < addresses.size; offset += size) {
      const isUseless = addresses.isEmpty(offset, size) && addresses.youngestFreedMs(offset, size) === null
      if (isUseless) return pieceOf(part, offset, size)
    }
  return null
}

function pieceOf(part: OwnedPart, offset: number, size: number): Piece {
  const { family, base } = part.cidr
  return { part, cidr: { family, base: base + BigInt(offset), prefix: bitsOf(family) - Math.log2(size) } }
}

/** The last addresses of a range, a power of two of them and no more than it has. */
export function lastPiece(cidr: Cidr, size: number): Cidr {
  const prefix = cidr.prefix + Math.log2(Number(sizeOf(cidr)) / size)
  return { family: cidr.family, base: cidr.base + sizeOf(cidr) - BigInt(size), prefix }
}

/** Of at least `least` addresses. */
function largestIn(part: OwnedPart, least: number, freedBy: number) {
  const { addresses } = part
  for (let size = addresses.size; size >= least; size /= 2) {
    let best: { offset: number; youngestMs: number } | null = null
    for (let offset = 0; offset < addresses.size; offset += size) {
      const youngestMs = addresses.youngestFreedMs(offset, size)
      if (youngestMs === null || youngestMs > freedBy) continue
      // The last of equals: a part is filled from its beginning.
      if (best === null || youngestMs <= best.youngestMs) best = { offset, youngestMs }
    }
    if (best === null) continue
    return { piece: pieceOf(part, best.offset, size), size, youngestMs: best.youngestMs }
  }
  return null
}

/**
 * Our parts as the record cuts them: `shown` are those that it says are ours. What it shows whole is put together,
 * of what it shows smaller the pieces stay; the rest is lost.
 */
export function alignParts(
  parts: readonly OwnedPart[],
  shown: readonly { readonly cidr: Cidr; readonly generation: number }[],
): { parts: OwnedPart[]; lost: OwnedPart[] } {
  const kept: OwnedPart[] = []
  const lost: OwnedPart[] = []
  for (const part of parts) {
    const mine = shown.filter(({ generation }) => generation === part.generation).map(({ cidr }) => cidr)
    for (const piece of piecesOf(part, mine))
      (mine.some(cidr => covers(cidr, piece.cidr)) ? kept : lost).push(piece)
  }
  return { parts: joined(kept, shown), lost }
}

function piecesOf(part: OwnedPart, mine: readonly Cidr[]): OwnedPart[] {
  if (mine.some(cidr => covers(cidr, part.cidr))) return [part]
  const inside = mine.filter(cidr => covers(part.cidr, cidr))
  return inside.reduce<OwnedPart[]>(
    (pieces, cidr) => pieces.flatMap(piece => (covers(piece.cidr, cidr) ? cutPart(piece, cidr) : [piece])),
    [part],
  )
}

function joined(
  parts: readonly OwnedPart[],
  shown: readonly { readonly cidr: Cidr; readonly generation: number }[],
): OwnedPart[] {
  return shown.reduce<OwnedPart[]>(
    (before, { cidr, generation }) => {
      const members = before.filter(part => part.generation === generation && covers(cidr, part.cidr))
      const size = members.reduce((sum, part) => sum + part.addresses.size, 0)
      if (members.length < 2 || BigInt(size) !== sizeOf(cidr)) return before
      // What is known stays known, and in the journal, beside what is not yet.
      if (new Set(members.map(part => part.unknownSinceMs === null)).size > 1) return before
      const whole = joinParts(cidr, members)
      return before.flatMap(part => (part === members[0] ? [whole] : members.includes(part) ? [] : [part]))
    },
    [...parts],
  )
}

/** What of `whole` none of `taken` covers, in order of address. */
export function remainder(whole: Cidr, taken: readonly Cidr[]): Cidr[] {
  const inside = taken.filter(cidr => overlaps(whole, cidr))
  if (inside.some(cidr => covers(cidr, whole))) return []
  const pieces = inside.reduce<Cidr[]>(
    (left, cidr) => left.flatMap(piece => (covers(piece, cidr) ? carve(piece, cidr) : [piece])),
    [whole],
  )
  return pieces.filter(piece => !inside.some(cidr => covers(cidr, piece))).sort(compareCidr)
}

/** Parts of the slot with `piece` struck out of `part`; it is returned, no longer among them. */
export function strike(slot: OwnSlot, { part, cidr }: Piece): OwnedPart {
  const pieces = cutPart(part, cidr)
  const struck = pieces.find(piece => piece.text === formatCidr(cidr)) as OwnedPart
  slot.parts = slot.parts.flatMap(known =>
    known === part ? pieces.filter(piece => piece !== struck) : [known],
  )
  return struck
}
