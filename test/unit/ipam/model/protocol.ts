/**
 * The store of the model: judges every change of a slot as it happens, by ADDRESSES.md rules 1, 2 and 3. What it finds
 * is kept for whoever looks between the steps, since a throw here would be taken for a fault of the store.
 */
import { ADDRESS_SPACE_KEY } from '../../../../datastore/keys.ts'
import { MemoryCluster, type MemorySnapshot } from '../../../../datastore/memory/cluster.ts'
import type { AddressSpaceRecord } from '../../../../datastore/records/address-space.ts'
import type { Part, SlotRecord } from '../../../../datastore/records/slot.ts'
import type { Commit, CommitOutcome } from '../../../../datastore/store.ts'
import { replay, slotId } from '../../../../ipam/journal-records.ts'
import { checkSlot, emptySlot, mergeFree, parseSlotKey } from '../../../../ipam/slot.ts'
import { formatCidr, overlaps, parseCidr } from '../../../../lib/address.ts'
import { TwillError } from '../../../../lib/errors.ts'
import type { Machine } from './machine.ts'

/** Many times what everybody together has reason to write. */
const COMMITS_AT_ONCE = 3000

/** Of a restoration, in the record address-space. */
const markOf = (value: string | null): string | null =>
  value === null ? null : ((JSON.parse(value) as AddressSpaceRecord).restored?.id ?? null)

export class ModelCluster extends MemoryCluster {
  readonly violations: string[] = []
  machines: readonly Machine[] = []
  /** An older state was restored: what was known then may be entered again (rule 16). */
  wasRestored = false
  /**
   * Slot and generation of parts that were claimed by nodes without memory before anybody had marked a restored store: the
   * one case that rule 16 names and cannot close.
   */
  readonly claimedBlindly = new Set<string>()
  nowMs = () => 0
  #instant = { atMs: 0, commits: 0 }
  /** Restored, and not marked since: the mark that stood in the snapshot. */
  #unmarked: { readonly old: string | null } | null = null

  override commit(commit: Commit): CommitOutcome {
    this.#judgeHaste(commit.key)
    const place = parseSlotKey(commit.key)
    const before = place === null ? null : this.get(commit.key)
    const outcome = super.commit(commit)
    if (commit.key === ADDRESS_SPACE_KEY && markOf(commit.value) !== (this.#unmarked?.old ?? null))
      this.#unmarked = null
    if (place === null || !outcome.committed) return outcome
    if (commit.value === null) this.#judgeDeletion(commit.key, place.poolUid)
    else {
      const after = JSON.parse(commit.value) as SlotRecord
      this.#judge(place, before === null ? emptySlot(place.slot) : JSON.parse(before.value), after)
    }
    return outcome
  }

  /** Rules 3 and 4: whoever still has his journal knows what he sent, whether or not it was answered. */
  judgeUnknown(what: string): void {
    if (!this.wasRestored) this.violations.push(`rule 4: ${what}`)
  }

  override restore(snapshot: MemorySnapshot): void {
    this.wasRestored = true
    this.#unmarked = { old: markOf(snapshot.entries.get(ADDRESS_SPACE_KEY)?.value ?? null) }
    super.restore(snapshot)
  }

  #judge(
    { poolUid, slot }: NonNullable<ReturnType<typeof parseSlotKey>>,
    before: SlotRecord,
    after: SlotRecord,
  ): void {
    const wrong = (what: string) =>
      this.violations.push(`${what}: ${JSON.stringify(before.parts)} -> ${JSON.stringify(after.parts)}`)
    try {
      checkSlot(after, slot)
    } catch (error) {
      wrong(String(error))
    }
    if (this.#unmarked !== null) this.#noteBlindClaims(slotId(poolUid, formatCidr(slot)), before, after)
    if (this.wasRestored) return
    if (after.generation < before.generation) wrong('rule 1: the counter falls')
    if (mergeFree(after) !== after) wrong('rule 2: free parts that belong together are apart')
    const id = slotId(poolUid, formatCidr(slot))
    for (const part of after.parts)
      for (const old of before.parts) {
        if (!overlaps(parseCidr(part.cidr), parseCidr(old.cidr))) continue
        const moved = part.owner !== old.owner
        if (moved && part.generation <= before.generation) wrong('rule 1: a new owner, no new generation')
        if (!moved && part.owner !== null && part.generation !== old.generation)
          wrong('rule 1: the same owner, another generation')
        if (moved) this.#judgeJournals(id, old, part, wrong)
      }
  }

  /** A slot goes with its pool only: the counter would begin anew. */
  #judgeDeletion(key: string, poolUid: string): void {
    const space = this.get(ADDRESS_SPACE_KEY)
    const pools = space === null ? [] : (JSON.parse(space.value) as AddressSpaceRecord).pools
    if (pools.some(({ uid }) => uid === poolUid)) this.violations.push(`${key} was deleted`)
  }

  /** Nothing takes time here: what goes to and fro without end would do so for ever, within one instant. */
  #judgeHaste(key: string): void {
    const atMs = this.nowMs()
    this.#instant = { atMs, commits: atMs === this.#instant.atMs ? this.#instant.commits + 1 : 0 }
    if (this.#instant.commits < COMMITS_AT_ONCE) return
    this.violations.push(`${key} and others are changed without end`)
    throw new TwillError('store.unavailable', 'enough', {}, { retryable: true })
  }

  #noteBlindClaims(id: string, before: SlotRecord, after: SlotRecord): void {
    for (const { owner, generation } of after.parts) {
      const isNew = owner !== null && generation > before.generation
      const claimant = this.machines.find(({ uid, ipam }) => uid === owner && ipam !== null)
      if (isNew && (claimant?.knownRevision ?? 0) < this.revision)
        this.claimedBlindly.add(`${id} ${generation}`)
    }
  }

  /** Rule 3: who gives has struck it from his journal; who gets finds the id of his claim there. A clone may be one of them. */
  #judgeJournals(id: string, old: Part, part: Part, wrong: (what: string) => void): void {
    const [givers, takers] = [old.owner, part.owner].map(uid =>
      this.machines.filter(node => node.uid === uid),
    )
    const hasClaim = ({ records, hasForgotten }: Machine) =>
      hasForgotten || records.some(record => record.t === 'slot' && record.claiming === part.claim)
    if (takers?.length && !takers.some(hasClaim))
      wrong(`rule 3: ${takers[0]?.name} has no claim ${part.claim} in its journal`)
    const isKept = ({ records }: Machine) =>
      replay(records)
        .slots.get(id)
        ?.parts.some(
          ({ cidr, generation }) =>
            generation === old.generation && overlaps(parseCidr(cidr), parseCidr(part.cidr)),
        )
    if (old.fence === null && givers?.length && givers.every(isKept))
      wrong(`rule 3: ${givers[0]?.name} still has in its journal what it gave`)
  }
}
