/** What is no longer this node's, as those are told who live in it (ADDRESSES.md rule 15). */
import { contains, parseCidr, parseIp } from '../lib/address.ts'
import type { HeldAddress } from './ipam.ts'

export interface LostPart {
  readonly poolUid: string
  readonly slot: string
  readonly cidr: string
  readonly generation: number
  /** Ids of holders with an address in it, as of its loss. */
  readonly holders: readonly string[]
}

/**
 * Was this address lost with it? To be asked when the loss is acted on: what bears the holder's id by then may be
 * a newer attachment, with an address that is ours.
 */
export function isLost(
  { poolUid, slot, generation, address }: HeldAddress,
  lost: Pick<LostPart, 'poolUid' | 'slot' | 'cidr' | 'generation'>,
): boolean {
  const same = poolUid === lost.poolUid && slot === lost.slot && generation === lost.generation
  return same && contains(parseCidr(lost.cidr), parseIp(address))
}
