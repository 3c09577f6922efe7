/**
 * Mends what the datastore alone proves: records that two others say are nobody's. Looked at twice, a grace period apart,
 * and deleted by compare-and-swap at the revision of the first look: a writer that is alive after all makes it fail.
 */
import type { Store } from '../../datastore/store.ts'
import type { Clock } from '../../lib/clock.ts'
import { messageOf } from '../../lib/errors.ts'
import type { ClusterFinding, Removable } from './cluster.ts'
import { findingId } from './finding.ts'
import { auditDatastore } from './read.ts'

export interface Mended {
  readonly finding: ClusterFinding
  /** null: it was done, or would have been. */
  readonly failure: string | null
}

export interface RepairOptions {
  readonly graceMs: number
  /** Nothing is written, and nothing waited for. */
  readonly dryRun: boolean
}

export interface RepairModules {
  readonly store: Store
  readonly clock: Pick<Clock, 'sleep'>
  /** Told before it waits, with how many findings it waits for. */
  readonly waiting: (findings: number) => void
}

/** @throws store.* of the looks; what fails of one finding is told with it */
export async function repairDatastore(
  { graceMs, dryRun }: RepairOptions,
  { store, clock, waiting }: RepairModules,
): Promise<Mended[]> {
  const first = (await auditDatastore(store)).findings.filter(({ removable }) => removable !== null)
  if (first.length === 0 || dryRun) return first.map(finding => ({ finding, failure: null }))
  waiting(first.length)
  await clock.sleep(graceMs)
  const mended: Mended[] = []
  for (const finding of stillThere(first, (await auditDatastore(store)).findings))
    mended.push({ finding, failure: await remove(finding.removable as Removable, store) })
  return mended
}

/** Pure. Found by both looks, and not written in between. */
export function stillThere(
  first: readonly ClusterFinding[],
  second: readonly ClusterFinding[],
): ClusterFinding[] {
  const before = new Map(first.map(finding => [findingId(finding), finding.removable]))
  return second.filter(finding => {
    const seen = before.get(findingId(finding))
    return (
      seen != null &&
      finding.removable?.key === seen.key &&
      finding.removable.modRevision === seen.modRevision
    )
  })
}

async function remove({ key, modRevision }: Removable, store: Store): Promise<string | null> {
  try {
    const { committed } = await store.commit({ key, expected: modRevision, value: null })
    return committed ? null : 'it was written meanwhile, and is left'
  } catch (error) {
    return messageOf(error)
  }
}
