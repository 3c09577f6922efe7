/**
 * Whether a pool is in use, and why not, from its document, the address space and what all nodes live by: what every
 * daemon would say.
 */
import type { AddressSpaceRecord } from '../datastore/records/address-space.ts'
import type { IPPool } from '../datastore/resources/ippool.ts'
import { messageOf } from '../lib/errors.ts'
import {
  changedError,
  entryOf,
  hasEntry,
  isEntryOf,
  isNamesakeOf,
  overlapError,
  withEntry,
} from './address-space.ts'
import { refuseCovering, type Vital } from './covered.ts'

export interface Acceptance {
  /** Unknown: no daemon has come to it yet. */
  readonly status: 'True' | 'False' | 'Unknown'
  readonly reason: 'Entered' | 'Pending' | 'Closing' | 'Changed' | 'Overlap' | 'Covers'
  readonly message: string
}

const PENDING: Acceptance = { status: 'Unknown', reason: 'Pending', message: 'no daemon has entered it yet' }

/** @param vitals asked for only where it matters */
export function acceptanceOf(
  pool: IPPool,
  space: AddressSpaceRecord,
  vitals: () => readonly Vital[],
): Acceptance {
  const entry = space.pools.find(each => isNamesakeOf(each, pool))
  if (entry === undefined) return unentered(pool, space, vitals)
  if (!isEntryOf(entry, pool))
    return { status: 'False', reason: 'Changed', message: changedError(pool, entry).message }
  if (entry.state === 'closed')
    return {
      status: 'False',
      reason: 'Closing',
      message: 'it hands out nothing more, and goes when it is empty',
    }
  return { status: 'True', reason: 'Entered', message: `${entry.cidr} is its own` }
}

function unentered(pool: IPPool, space: AddressSpaceRecord, vitals: () => readonly Vital[]): Acceptance {
  const { uid } = pool.metadata
  // What lost its uid is given it back.
  if (hasEntry(pool, space)) return PENDING
  try {
    refuseCovering(pool, vitals())
  } catch (error) {
    return { status: 'False', reason: 'Covers', message: messageOf(error) }
  }
  if (uid === undefined) return PENDING
  const wanted = entryOf(pool, uid)
  try {
    const other = space.pools.find(each => each.uid === uid)
    if (other !== undefined) throw overlapError(wanted, other)
    withEntry(space, wanted)
    return PENDING
  } catch (error) {
    return { status: 'False', reason: 'Overlap', message: messageOf(error) }
  }
}
