/**
 * What this node does to slots in the store: claims parts, confirms that it owns them, lifts fences, gives parts
 * back; and what it makes of what others did. All operations on one slot are serial.
 *
 * The order is the protocol (ADDRESSES.md rules 3, 4, 6 and 11): journal first, then send; in doubt, nothing of
 * what was asked for is used until a further successful commit of the slot has told what became of it; a claim
 * counts only once its pool was read as open after it.
 */
import { ADDRESS_SPACE_KEY, livenessKey, nodeKey } from '../datastore/keys.ts'
import { recordParser } from '../datastore/record.ts'
import { livenessRecord } from '../datastore/records/liveness.ts'
import { nodeRecord } from '../datastore/records/node.ts'
import type { Part, SlotRecord } from '../datastore/records/slot.ts'
import type { CommitOutcome, Store } from '../datastore/store.ts'
import { cidrOf, contains, formatCidr, formatIp, hostCidr, type Ip, parseIp } from '../lib/address.ts'
import type { Clock, Random } from '../lib/clock.ts'
import { isTwillError, TwillError } from '../lib/errors.ts'
import { faultPoint } from '../lib/fault.ts'
import type { Log } from '../lib/log.ts'
import { isOpen, parseSpace, readSpace } from './address-space.ts'
import type { Allocator } from './allocator.ts'
import { type Changed, changeRecord, KEEP } from './change-record.ts'
import {
  type Candidate,
  type ClaimablePool,
  type ClaimWanted,
  chooseFree,
  type SlotView,
} from './choose-slot.ts'
import { putBack } from './deleted-slots.ts'
import type { Sight } from './examine.ts'
import type { Gifts } from './gifts.ts'
import type { Instant } from './journal-records.ts'
import { isInDoubt, mustSettle, newPart, type OwnedPart, type OwnSlot } from './own-slots.ts'
import type { Restoration } from './restoration.ts'
import { claimedPart, claimPart, emptySlot, liftFences, partAround } from './slot.ts'
import { parseSlot, type SlotIndex } from './slot-index.ts'
import { withoutRequestsOf } from './slot-requests.ts'
import type { SlotWork } from './slot-work.ts'
import { laterOf } from './term.ts'
import { behindOf, enterPart } from './went-back.ts'

/** Each that fails has lost a race: somebody else got on. */
const CLAIM_ATTEMPTS = 8

type ClaimResult = OwnedPart | 'taken' | 'closed'

export interface OwnershipOptions {
  readonly nodeUid: string
  readonly nodeName: string
  readonly coolDownMs: number
}

export interface OwnershipModules {
  readonly store: Store
  readonly clock: Clock
  readonly random: Random
  readonly log: Log
  readonly work: SlotWork
  readonly gifts: Gifts
  readonly allocator: Allocator
  readonly slots: SlotView & Pick<SlotIndex, 'deleted'>
  readonly restoration: Restoration
}

const parseLiveness = recordParser(livenessRecord)
const parseNode = recordParser(nodeRecord)

export class Ownership {
  readonly #options: OwnershipOptions
  readonly #modules: OwnershipModules

  constructor(options: OwnershipOptions, modules: OwnershipModules) {
    this.#options = options
    this.#modules = modules
  }

  /**
   * The best free part of the pool, adopted, or so much of it as is wanted; null when the pool has none or is not open.
   * @throws store.unavailable, store.in-doubt, journal.write-failed; ipam.not-confirmed while the store is restored
   */
  async claim(pool: ClaimablePool, wanted: ClaimWanted): Promise<OwnedPart | null> {
    const { allocator, slots, restoration } = this.#modules
    restoration.refuseClaims()
    for (const candidate of chooseFree(pool, this.#options.nodeUid, slots, wanted)) {
      const slot = allocator.slotAt(pool.uid, candidate.slot)
      if (isInDoubt(slot)) continue
      const result = await this.#claimOrSettle(slot, candidate)
      if (result === 'closed') {
        restoration.refuseClaims()
        return null
      }
      if (result !== 'taken') return result
    }
    return null
  }

  /**
   * The part of ours that has this address: as it is, or, when it is free, claimed now: the address alone, so that
   * addresses asked for all over a pool do not take its slots from other nodes. null: it is another node's.
   * @throws ipam.no-pool: the pool is not open; store.conflict (retryable): lost every race; ipam.not-confirmed
   *   while the store is restored; store.*, journal.write-failed; document.invalid: the slot's record cannot be read
   */
  async claimAddress(pool: ClaimablePool, ip: Ip): Promise<OwnedPart | null> {
    const { allocator, store, slots, restoration } = this.#modules
    const slot = allocator.slotAt(pool.uid, cidrOf(ip, pool.slotPrefix))
    for (let attempt = 0; attempt < CLAIM_ATTEMPTS; attempt++) {
      if (mustSettle(slot)) await this.settle(slot)
      const own = slot.parts.find(part => contains(part.cidr, ip))
      if (own !== undefined) return own
      const { entry } = await store.get(slot.key)
      if (entry === null && slots.exists(slot.key)) {
        await this.#putBack(slot)
        continue
      }
      const record = entry === null ? null : parseSlot(entry.value, entry.key)
      const { owner } = partAround(record ?? emptySlot(slot.slot), ip)
      if (owner === this.#options.nodeUid) await this.confirm(slot)
      else if (owner !== null) return null
      else {
        restoration.refuseClaims()
        const cidr = formatCidr(hostCidr(ip))
        const modRevision = entry?.modRevision ?? 0
        const result = await this.#claimOrSettle(slot, { slot: slot.slot, cidr, record, modRevision })
        if (result === 'closed') {
          restoration.refuseClaims()
          throw notOpen(pool.uid)
        }
        if (result !== 'taken') return result
      }
    }
    throw new TwillError(
      'store.conflict',
      `${formatIp(ip)} could not be claimed: slot ${slot.text} keeps changing`,
      { address: formatIp(ip) },
      { retryable: true },
    )
  }

  async #claimOrSettle(slot: OwnSlot, candidate: Candidate): Promise<ClaimResult> {
    try {
      return await this.#modules.work.run(slot, () => this.#tryClaim(slot, candidate))
    } catch (error) {
      if (!isTwillError(error, 'store.in-doubt')) throw error
      return (await this.settle(slot)) ?? 'taken'
    }
  }

  async #tryClaim(slot: OwnSlot, candidate: Candidate): Promise<ClaimResult> {
    const { random, allocator } = this.#modules
    const before = newer(slot, candidate)
    const claim = { owner: this.#options.nodeUid, claim: random.hex(8) }
    const wanted = claimPart(before.value ?? emptySlot(slot.slot), candidate.cidr, claim)
    if (wanted === null || isInDoubt(slot)) return 'taken'
    slot.claiming = claim.claim
    allocator.addSlot(slot)
    await this.#modules.work.record(slot, () => {
      slot.claiming = null
    })
    faultPoint('claim.recorded')
    const at = this.#modules.work.now()
    const outcome = await this.#sendClaim(slot, wanted, before.modRevision)
    if (outcome.committed)
      return await this.#adopt(slot, { record: wanted, modRevision: outcome.revision, at })
    slot.seen = readableOf(slot, outcome.current)
    await this.endClaim(slot)
    // What was in the way may be our own, of a life that the journal forgot. The watch will not say it anew.
    if (slot.seen?.value != null)
      await this.#modules.work.examine(slot, {
        record: slot.seen.value,
        modRevision: slot.seen.modRevision,
        at: null,
      })
    return 'taken'
  }

  async #sendClaim(slot: OwnSlot, wanted: SlotRecord, expected: number): Promise<CommitOutcome> {
    try {
      const value = JSON.stringify(wanted)
      const outcome = await this.#modules.store.commit({ key: slot.key, expected, value })
      faultPoint('claim.committed')
      return outcome
    } catch (error) {
      if (isTwillError(error, 'store.unavailable')) await this.endClaim(slot)
      throw error
    }
  }

  /** It has not yielded a part, and no commit of it is in doubt. In the slot's turn. @throws journal.write-failed */
  async endClaim(slot: OwnSlot): Promise<void> {
    slot.claiming = null
    await this.#modules.work.record(slot)
  }

  /** The claim stands in the slot. Until its pool is read as open, and no restoration is marked, it stays in doubt. */
  async #adopt(slot: OwnSlot, sight: Sight & { readonly at: Instant }): Promise<OwnedPart | 'closed'> {
    // Older parts of ours that this very claim shows to be gone are lost first: their addresses may be in it.
    const { work, store, restoration } = this.#modules
    await work.examine(slot, { ...sight, at: null })
    const claim = { owner: this.#options.nodeUid, claim: slot.claiming ?? '' }
    const claimed = claimedPart(sight.record, claim) as Part
    const { entry } = await store.get(ADDRESS_SPACE_KEY)
    const space = entry === null ? null : parseSpace(entry.value, entry.key)
    restoration.see(space)
    const part = this.#partFrom(slot, claimed)
    if (restoration.stands || !isOpen(space, slot.poolUid)) {
      await this.#modules.gifts.returnClaimed(slot, part)
      return 'closed'
    }
    slot.confirmed = laterOf(slot.confirmed, sight.at)
    await this.#modules.work.become(slot, { parts: [...slot.parts, part], claiming: null })
    faultPoint('claim.adopted')
    this.#modules.log.info({ part: part.text, generation: part.generation }, 'part claimed')
    return part
  }

  /** An empty part with the cool-down that came with it. */
  #partFrom(slot: OwnSlot, claimed: Part): OwnedPart {
    const part = newPart(slot, claimed.cidr, claimed.generation)
    part.fenced = claimed.fence !== null
    const nowMs = this.#modules.clock.boottimeMs()
    const cooling = Object.entries(claimed.cooling).sort(([, a], [, b]) => a - b)
    for (const [address, seconds] of cooling) {
      const leftMs = Math.min(seconds * 1000, this.#options.coolDownMs)
      part.addresses.setFreed(
        Number(parseIp(address).value - part.cidr.base),
        nowMs - this.#options.coolDownMs + leftMs,
      )
    }
    return part
  }

  /**
   * Rule 4: a further successful commit of the slot, then what it shows is true.
   * Yields the part of a claim that turned out to have succeeded.
   * @throws store.unavailable, store.in-doubt: still open; journal.write-failed
   */
  settle(slot: OwnSlot): Promise<OwnedPart | null> {
    return this.#modules.work.run(slot, async () => {
      if (!mustSettle(slot)) return null
      await this.#loseWithPool(slot)
      // It takes out a request, too, that somebody still waits for.
      slot.asking = false
      const at = this.#modules.work.now()
      const { nodeUid } = this.#options
      const changed = await this.#modules.work.change(slot.key, current =>
        withoutRequestsOf(
          current ?? this.#modules.slots.deleted.get(slot.key) ?? emptySlot(slot.slot),
          nodeUid,
        ),
      )
      const record = changed.value as SlotRecord
      await this.#modules.gifts.settle(slot, record)
      return this.conclude(slot, { record, modRevision: changed.modRevision, at })
    })
  }

  /**
   * What became of a claim or request, by a read or a successful commit, with none in doubt before it: its part,
   * adopted, if it yielded one and the pool is open. In the slot's turn.
   */
  async conclude(slot: OwnSlot, sight: Sight & { readonly at: Instant }): Promise<OwnedPart | null> {
    const part = await this.#concludeClaim(slot, sight)
    // A claim in a pool that is closed was just given back: what was read before that is out of date.
    if ((slot.seen?.modRevision ?? 0) <= sight.modRevision) await this.#modules.work.examine(slot, sight)
    return part
  }

  async #concludeClaim(slot: OwnSlot, sight: Sight & { readonly at: Instant }): Promise<OwnedPart | null> {
    if (slot.claiming === null) return null
    const claim = { owner: this.#options.nodeUid, claim: slot.claiming }
    if (claimedPart(sight.record, claim) === null) {
      await this.endClaim(slot)
      return null
    }
    const adopted = await this.#adopt(slot, sight)
    return adopted === 'closed' ? null : adopted
  }

  /** Rule 6: a linearisable read of the slot. @throws store.unavailable; the record is damaged: document.invalid */
  confirm(slot: OwnSlot): Promise<void> {
    return this.#modules.work.run(slot, async () => {
      const at = this.#modules.work.now()
      const { entry } = await this.#modules.store.get(slot.key)
      const again = entry === null ? await this.#putBack(slot) : null
      if (entry === null && again === null) await this.#loseWithPool(slot)
      const found = entry === null ? again?.value : parseSlot(entry.value, entry.key)
      const record = found ?? emptySlot(slot.slot)
      const modRevision = entry?.modRevision ?? again?.modRevision ?? 0
      await this.#modules.work.examine(slot, { record, modRevision, at })
      if (behindOf(slot.parts, record, this.#options.nodeUid).length > 0) await this.#enterAgain(slot)
      if (slot.parts.some(part => part.fenced)) await this.#lift(slot)
    })
  }

  /** null: the record is missing, and it is not known that somebody deleted it. */
  async #putBack({ key }: OwnSlot): Promise<Changed<SlotRecord> | null> {
    const record = this.#modules.slots.deleted.get(key)
    return record === undefined ? null : await putBack(key, record, this.#modules)
  }

  /**
   * A slot without a record is of an older state of the store (rule 16), unless its pool was removed while this node was
   * away for longer than its term: a pool goes only when no node has a part of it. In the slot's turn.
   */
  async #loseWithPool(slot: OwnSlot): Promise<void> {
    const { work, store } = this.#modules
    if (slot.parts.length === 0 || work.isInTerm(slot, work.now())) return
    if ((await store.get(slot.key)).entry !== null) return
    const space = await readSpace(store)
    if (space.restored !== null || space.pools.some(({ uid }) => uid === slot.poolUid)) return
    await work.lose(slot, slot.parts)
  }

  /** Rule 16: what the restored store has forgotten is written again. What cannot be is lost. */
  async #enterAgain(slot: OwnSlot): Promise<void> {
    if (mustSettle(slot)) return
    const { work, log } = this.#modules
    const { nodeUid } = this.#options
    const at = work.now()
    const inTerm = work.isInTerm(slot, at)
    let refused: readonly OwnedPart[] = []
    const changed = await work.change(slot.key, current => {
      const before = current ?? emptySlot(slot.slot)
      const behind = behindOf(slot.parts, before, nodeUid)
      const after = behind.reduce(
        (record, part) => enterPart(record, nodeUid, part, inTerm) ?? record,
        before,
      )
      refused = behindOf(behind, after, nodeUid)
      return after === before ? KEEP : after
    })
    log.warn({ slot: slot.text, wrote: changed.wrote }, 'parts entered again into a store that was restored')
    await work.lose(slot, refused)
    const record = changed.value ?? emptySlot(slot.slot)
    await work.examine(slot, { record, modRevision: changed.modRevision, at: changed.wrote ? at : null })
  }

  /** The watch shows another state of a slot of ours. Confirms nothing; it may be older than what we know. */
  observe(slot: OwnSlot, record: SlotRecord, modRevision: number): Promise<void> {
    return this.#modules.work.run(slot, async () => {
      if (isInDoubt(slot) || modRevision <= (slot.seen?.modRevision ?? 0)) return
      await this.#modules.work.examine(slot, { record, modRevision, at: null })
    })
  }

  /** An unknown part has stood long enough: from now on it is like any other. */
  accept(part: OwnedPart): Promise<void> {
    return this.#modules.work.run(part.slot, async () => {
      const since = part.unknownSinceMs
      part.unknownSinceMs = null
      await this.#modules.work.record(part.slot, () => {
        part.unknownSinceMs = since
      })
    })
  }

  /** Rule 11. The commit that lifts is itself the confirmation. */
  async #lift(slot: OwnSlot): Promise<void> {
    const at = this.#modules.work.now()
    // The commit confirms: who must not be confirmed now has to wait.
    if (!(await this.#modules.work.mayConfirm(slot, at)) || !(await this.#mayReturn())) return
    const changed = await changeRecord<SlotRecord>(this.#modules.store, {
      key: slot.key,
      parse: parseSlot,
      step: current => (current === null ? KEEP : (liftFences(current, this.#options.nodeUid) ?? KEEP)),
    })
    if (changed.value === null || !changed.wrote) return
    await this.#modules.work.examine(slot, { record: changed.value, modRevision: changed.modRevision, at })
    this.#modules.log.warn({ slot: slot.text }, 'fence lifted: this node is back')
  }

  /** Is the name still ours, and may our own return end the removal? Takes the mark away if so. */
  async #mayReturn(): Promise<boolean> {
    const { store } = this.#modules
    const { nodeUid, nodeName } = this.#options
    const node = (await store.get(nodeKey(nodeName))).entry
    if (node !== null && parseNode(node.value, node.key).uid !== nodeUid) return false
    const changed = await changeRecord(store, {
      key: livenessKey(nodeUid),
      parse: parseLiveness,
      step: current => (current?.removed?.endsWith === 'return' ? { ...current, removed: null } : KEEP),
    })
    return changed.value !== null && changed.value.removed === null
  }
}

const notOpen = (poolUid: string) => new TwillError('ipam.no-pool', 'the pool is being removed', { poolUid })

function newer(slot: OwnSlot, candidate: Candidate): { value: SlotRecord | null; modRevision: number } {
  const { seen } = slot
  if (seen !== null && seen.modRevision > candidate.modRevision) return seen
  return { value: candidate.record, modRevision: candidate.modRevision }
}

/** What a lost race showed; null when it cannot be read. */
function readableOf(slot: OwnSlot, entry: { value: string; modRevision: number } | null): OwnSlot['seen'] {
  try {
    return seenOf(slot, entry)
  } catch {
    return null
  }
}

function seenOf(slot: OwnSlot, entry: { value: string; modRevision: number } | null): OwnSlot['seen'] {
  return entry === null
    ? { value: null, modRevision: 0 }
    : { value: parseSlot(entry.value, slot.key), modRevision: entry.modRevision }
}
