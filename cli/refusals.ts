/**
 * What the store would refuse of a set of documents, found before the first of them is written: fields that never
 * change, pools that overlap a stored one or one another, or cover a node's address. Each write decides again, by compare-and-swap.
 */
import type { AddressSpaceRecord } from '../datastore/records/address-space.ts'
import type { LocatedResource } from '../datastore/resources/documents.ts'
import type { IPPool } from '../datastore/resources/ippool.ts'
import { kindOf, type Resource } from '../datastore/resources/kinds.ts'
import type { Store } from '../datastore/store.ts'
import { asEntered, entryOf, readSpace, withEntry } from '../ipam/address-space.ts'
import { KEEP } from '../ipam/change-record.ts'
import { readUnderlays, refuseCovering, type Vital } from '../ipam/covered.ts'
import { updatedPool } from '../ipam/pools.ts'
import { isTwillError, messageOf } from '../lib/errors.ts'
import { getResource, refusedChanges } from './resources.ts'

/** One line for each, in the order of the documents. @throws store.* */
export async function refusals(documents: readonly LocatedResource[], store: Store): Promise<string[]> {
  let space = await readSpace(store)
  const vitals = await readUnderlays(store)
  const lines: string[] = []
  for (const { resource, where } of documents) {
    const refuse = (error: unknown) => {
      if (!isTwillError(error) || error.code.startsWith('store.')) throw error
      lines.push(refusalText(where, `${resource.kind} ${resource.metadata.name}`, messageOf(error)))
    }
    try {
      const stored = await getResource(kindOf(resource), resource.metadata.name, store)
      const current = stored?.kind === 'IPPool' ? asEntered(stored, space) : stored
      const changes = refusedChanges(resource, current)
      changes.forEach(refuse)
      if (changes.length === 0 && resource.kind === 'IPPool')
        space = spaceWith(space, resource, current, vitals)
    } catch (error) {
      refuse(error)
    }
  }
  return lines
}

/** "pools.yaml: document 1, line 1: IPPool a: why", the name once. */
export const refusalText = (where: string, name: string, message: string): string =>
  `${where}: ${message.startsWith(name) ? message : `${name}: ${message}`}`

/** @throws ipam.pool-overlap, ipam.pool-covers, document.invalid */
function spaceWith(
  space: AddressSpaceRecord,
  wanted: IPPool,
  current: Resource | null,
  vitals: readonly Vital[],
): AddressSpaceRecord {
  if (current?.kind === 'IPPool') updatedPool(current, wanted)
  if (current !== null) return space
  refuseCovering(wanted, vitals)
  const next = withEntry(space, entryOf(wanted, ''))
  return next === KEEP ? space : next
}
