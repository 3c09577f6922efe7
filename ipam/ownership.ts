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
import { parseIp } from '../lib/address.ts'
import type { Clock, Random } from '../lib/clock.ts'
import { isTwillError } from '../lib/errors.ts'
import { faultPoint } from '../lib/fault.ts'
import type { Log } from '../lib/log.ts'
import { KeyedQueue } from '../lib/queue.ts'
import { isOpen, parseSpace } from './address-space.ts'
import { type Allocator, heldAddress } from './allocator.ts'
import { changeRecord, KEEP } from './change-record.ts'
import { type Candidate, type ClaimablePool, chooseSlots, type SlotView } from './choose-slot.ts'
import type { Instant, IpamJournal } from './journal-records.ts'
import { isInDoubt, journaledSlot, newPart, newSlot, type OwnedPart, type OwnSlot } from './own-slots.ts'
import { claimedPart, claimPart, emptySlot, givePart, liftFences, partsOf } from './slot.ts'
import { parseSlot } from './slot-index.ts'
import { instantNow, laterOf } from './term.ts'

type ClaimResult = OwnedPart | 'taken' | 'closed'

interface Piece {
  readonly cidr: string
  readonly generation: number
  readonly cooling: Part['cooling']
}

export interface OwnershipOptions {
  readonly nodeUid: string
  readonly nodeName: string
  readonly boot: string
  readonly coolDownMs: number
  readonly onLost: (part: OwnedPart) => void
}

export interface OwnershipModules {
  readonly store: Store
  readonly clock: Clock
  readonly random: Random
  readonly log: Log
  readonly journal: IpamJournal
  readonly allocator: Allocator
  readonly slots: SlotView
}

const parseLiveness = recordParser(livenessRecord)
const parseNode = recordParser(nodeRecord)

export class Ownership {
  readonly #options: OwnershipOptions
  readonly #modules: OwnershipModules
  readonly #queue = new KeyedQueue()

  constructor(options: OwnershipOptions, modules: OwnershipModules) {
    this.#options = options
    this.#modules = modules
  }

  /**
   * The best free part of the pool, adopted; null when the pool has none or is not open.
   * @throws store.unavailable, store.in-doubt, journal.write-failed
   */
  async claim(pool: ClaimablePool): Promise<OwnedPart | null> {
    const { allocator, slots } = this.#modules
    for (const candidate of chooseSlots(pool, this.#options.nodeUid, slots)) {
      const fresh = newSlot(pool.uid, candidate.slot)
      const slot = allocator.slots.get(fresh.id) ?? fresh
      if (isInDoubt(slot)) continue
      const result = await this.#claimOrSettle(slot, candidate)
      if (result === 'closed') return null
      if (result !== 'taken') return result
    }
    return null
  }

  async #claimOrSettle(slot: OwnSlot, candidate: Candidate): Promise<ClaimResult> {
    try {
      return await this.#queue.run(slot.id, () => this.#tryClaim(slot, candidate))
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
    await this.#record(slot, () => {
      slot.claiming = null
    })
    faultPoint('claim.recorded')
    const at = this.#now()
    const outcome = await this.#sendClaim(slot, wanted, before.modRevision)
    if (outcome.committed) return await this.#adopt(slot, wanted, outcome.revision, at)
    slot.seen = readableOf(slot, outcome.current)
    await this.#endClaim(slot)
    return 'taken'
  }

  async #sendClaim(slot: OwnSlot, wanted: SlotRecord, expected: number): Promise<CommitOutcome> {
    try {
      const value = JSON.stringify(wanted)
      const outcome = await this.#modules.store.commit({ key: slot.key, expected, value })
      faultPoint('claim.committed')
      return outcome
    } catch (error) {
      if (isTwillError(error, 'store.unavailable')) await this.#endClaim(slot)
      throw error
    }
  }

  async #endClaim(slot: OwnSlot): Promise<void> {
    slot.claiming = null
    await this.#record(slot)
  }

  /** The claim stands in the slot. Until its pool is read as open, it stays in doubt. */
  async #adopt(
    slot: OwnSlot,
    record: SlotRecord,
    modRevision: number,
    at: Instant,
  ): Promise<OwnedPart | 'closed'> {
    // Older parts of ours that this very claim shows to be gone are lost first: their addresses may be in it.
    this.#examine(slot, record, modRevision, at)
    const claim = { owner: this.#options.nodeUid, claim: slot.claiming ?? '' }
    const claimed = claimedPart(record, claim) as Part
    const { entry } = await this.#modules.store.get(ADDRESS_SPACE_KEY)
    const space = entry === null ? null : parseSpace(entry.value, entry.key)
    if (!isOpen(space, slot.poolUid)) {
      slot.claiming = null
      await this.#giveJournaled(slot, claimed)
      return 'closed'
    }
    const part = this.#partFrom(slot, claimed)
    slot.confirmed = laterOf(slot.confirmed, at)
    await this.#become(slot, { parts: [...slot.parts, part], claiming: null })
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
    return this.#queue.run(slot.id, async () => {
      if (!isInDoubt(slot)) return null
      const at = this.#now()
      const changed = await changeRecord<SlotRecord>(this.#modules.store, {
        key: slot.key,
        parse: parseSlot,
        step: current => current ?? emptySlot(slot.slot),
      })
      const record = changed.value as SlotRecord
      await this.#settleGifts(slot, record)
      const claimed = await this.#settleClaim(slot, record, changed.modRevision, at)
      // A claim in a pool that is closed was just given back: what was read before that is out of date.
      if ((slot.seen?.modRevision ?? 0) <= changed.modRevision)
        this.#examine(slot, record, changed.modRevision, at)
      return claimed
    })
  }

  async #settleGifts(slot: OwnSlot, record: SlotRecord): Promise<void> {
    if (slot.giving.length === 0) return
    const kept = slot.giving.filter(piece =>
      findPart(record, this.#options.nodeUid, piece.cidr, piece.generation),
    )
    const nowMs = this.#modules.clock.boottimeMs()
    const back = kept.map(piece => newPart(slot, piece.cidr, piece.generation, nowMs))
    await this.#become(slot, { parts: [...slot.parts, ...back], giving: [] })
  }

  async #settleClaim(
    slot: OwnSlot,
    record: SlotRecord,
    modRevision: number,
    at: Instant,
  ): Promise<OwnedPart | null> {
    if (slot.claiming === null) return null
    const claim = { owner: this.#options.nodeUid, claim: slot.claiming }
    if (claimedPart(record, claim) === null) {
      await this.#endClaim(slot)
      return null
    }
    const adopted = await this.#adopt(slot, record, modRevision, at)
    return adopted === 'closed' ? null : adopted
  }

  /** Rule 6: a linearisable read of the slot. @throws store.unavailable; the record is damaged: document.invalid */
  confirm(slot: OwnSlot): Promise<void> {
    return this.#queue.run(slot.id, async () => {
      const at = this.#now()
      const { entry } = await this.#modules.store.get(slot.key)
      const before = JSON.stringify(journaledSlot(slot))
      const record = entry === null ? null : parseSlot(entry.value, entry.key)
      this.#examine(slot, record ?? emptySlot(slot.slot), entry?.modRevision ?? 0, at)
      if (slot.parts.some(part => part.fenced)) await this.#lift(slot)
      if (JSON.stringify(journaledSlot(slot)) !== before) await this.#record(slot)
    })
  }

  /** The watch shows another state of a slot of ours. Confirms nothing; it may be older than what we know. */
  observe(slot: OwnSlot, record: SlotRecord, modRevision: number): Promise<void> {
    return this.#queue.run(slot.id, async () => {
      if (isInDoubt(slot) || modRevision <= (slot.seen?.modRevision ?? 0)) return
      const before = JSON.stringify(journaledSlot(slot))
      this.#examine(slot, record, modRevision, null)
      if (JSON.stringify(journaledSlot(slot)) !== before) await this.#record(slot)
    })
  }

  /** Compares our parts with the record. `at`: when a linearisable read or a write of our own was sent. */
  #examine(slot: OwnSlot, record: SlotRecord, modRevision: number, at: Instant | null): void {
    slot.seen = { value: record, modRevision }
    const { nodeUid, onLost } = this.#options
    const lost: OwnedPart[] = []
    for (const part of slot.parts) {
      const shown = findPart(record, nodeUid, part.text, part.generation)
      part.fenced = shown?.fence != null
      if (shown === undefined) lost.push(part)
    }
    slot.parts = slot.parts.filter(part => !lost.includes(part))
    this.#addUnknown(slot, record)
    if (at !== null) slot.confirmed = laterOf(slot.confirmed, at)
    for (const part of lost) onLost(part)
  }

  /** Parts that bear our UID and that neither memory nor journal knows (rule 16). */
  #addUnknown(slot: OwnSlot, record: SlotRecord): void {
    if (isInDoubt(slot)) return
    for (const shown of partsOf(record, this.#options.nodeUid)) {
      const known = slot.parts.some(part => part.text === shown.cidr && part.generation === shown.generation)
      if (known) continue
      const nowMs = this.#modules.clock.boottimeMs()
      const part = newPart(slot, shown.cidr, shown.generation, nowMs)
      part.unknownSinceMs = nowMs
      part.fenced = shown.fence !== null
      slot.parts.push(part)
      slot.ledgerUnread = true
      this.#modules.allocator.addSlot(slot)
      this.#modules.log.warn(
        { part: part.text, generation: part.generation },
        'part is ours and unknown here',
      )
    }
  }

  /** An unknown part has stood long enough: from now on it is like any other. */
  accept(part: OwnedPart): Promise<void> {
    return this.#queue.run(part.slot.id, async () => {
      const since = part.unknownSinceMs
      part.unknownSinceMs = null
      await this.#record(part.slot, () => {
        part.unknownSinceMs = since
      })
    })
  }

  /** Rule 11. The commit that lifts is itself the confirmation. */
  async #lift(slot: OwnSlot): Promise<void> {
    if (!(await this.#mayReturn())) return
    const at = this.#now()
    const changed = await changeRecord<SlotRecord>(this.#modules.store, {
      key: slot.key,
      parse: parseSlot,
      step: current => (current === null ? KEEP : (liftFences(current, this.#options.nodeUid) ?? KEEP)),
    })
    if (changed.value === null || !changed.wrote) return
    this.#examine(slot, changed.value, changed.modRevision, at)
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

  /**
   * Frees a part in which nobody lives. True when it has gone.
   * @throws store.unavailable, store.in-doubt: it stays struck until the slot is settled; journal.write-failed:
   *   it is ours as before
   */
  giveBack(part: OwnedPart): Promise<boolean> {
    return this.#queue.run(part.slot.id, async () => {
      const { slot } = part
      if (part.addresses.held > 0 || isInDoubt(slot) || !slot.parts.includes(part)) return false
      const cooling = this.#coolingOf(part)
      const { parts } = slot
      slot.parts = parts.filter(known => known !== part)
      const undo = () => {
        slot.parts = parts
      }
      await this.#giveJournaled(slot, { cidr: part.text, generation: part.generation, cooling }, undo)
      return true
    })
  }

  /** Struck from memory already; now from the journal, then given (rule 3). `undo`: it could not be journaled. */
  async #giveJournaled(slot: OwnSlot, piece: Piece, undo: () => void = () => {}): Promise<void> {
    slot.giving = [{ cidr: piece.cidr, generation: piece.generation }]
    await this.#record(slot, () => {
      slot.giving = []
      undo()
    })
    const gift = {
      from: this.#options.nodeUid,
      generation: piece.generation,
      to: null,
      cooling: piece.cooling,
    }
    slot.seen = await changeRecord<SlotRecord>(this.#modules.store, {
      key: slot.key,
      parse: parseSlot,
      step: current => (current === null ? KEEP : (givePart(current, piece.cidr, gift) ?? KEEP)),
    })
    slot.giving = []
    await this.#record(slot)
  }

  /** Address → seconds left (rule 5). */
  #coolingOf(part: OwnedPart): Part['cooling'] {
    const { coolDownMs } = this.#options
    const nowMs = this.#modules.clock.boottimeMs()
    const cooling: Part['cooling'] = {}
    for (const { offset, freedMs } of part.addresses.freedAfter(nowMs - coolDownMs))
      cooling[heldAddress(part, offset).address] = Math.ceil((freedMs + coolDownMs - nowMs) / 1000)
    return cooling
  }

  /** What the slot becomes is journaled before it is true in memory: nothing is used that a restart forgets. */
  async #become(slot: OwnSlot, next: Partial<Pick<OwnSlot, 'parts' | 'claiming' | 'giving'>>): Promise<void> {
    await this.#modules.journal.append(journaledSlot({ ...slot, ...next }))
    Object.assign(slot, next)
  }

  /** Journals the slot as it is now. When that fails, `undo`, and the error goes on. */
  async #record(slot: OwnSlot, undo: () => void = () => {}): Promise<void> {
    try {
      await this.#modules.journal.append(journaledSlot(slot))
    } catch (error) {
      undo()
      throw error
    }
  }

  #now(): Instant {
    return instantNow(this.#modules.clock, this.#options.boot)
  }
}

function findPart(record: SlotRecord, owner: string, cidr: string, generation: number): Part | undefined {
  return partsOf(record, owner).find(part => part.cidr === cidr && part.generation === generation)
}

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
