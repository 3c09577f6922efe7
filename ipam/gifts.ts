/**
 * What this node gives away: empty parts that nobody needs, and pieces that another node asked for through the slot's
 * record. What is given is struck from memory and from the journal before the commit is sent (ADDRESSES.md rule 3),
 * and comes back only when a successful commit or read has shown it as ours still.
 */
import { livenessKey } from '../datastore/keys.ts'
import { recordParser } from '../datastore/record.ts'
import { livenessRecord } from '../datastore/records/liveness.ts'
import type { Part, SlotRecord } from '../datastore/records/slot.ts'
import type { Store } from '../datastore/store.ts'
import { type Cidr, covers, parseCidr, sizeOf } from '../lib/address.ts'
import type { Clock } from '../lib/clock.ts'
import { isTwillError } from '../lib/errors.ts'
import { faultPoint } from '../lib/fault.ts'
import type { Log } from '../lib/log.ts'
import { type Allocator, heldAddress } from './allocator.ts'
import { type Changed, KEEP } from './change-record.ts'
import { holderName } from './holder-name.ts'
import type { Instant } from './journal-records.ts'
import { floorPowerOfTwo } from './node-limit.ts'
import { isInDoubt, mustSettle, type OwnedPart, type OwnSlot } from './own-slots.ts'
import { largestEmptyPiece, lastPiece, type Piece, strike } from './part-pieces.ts'
import type { Restoration } from './restoration.ts'
import { type Gift, givePart, type Step } from './slot.ts'
import { answerRequest, dropRequests, refuseRequest, type SlotRequest } from './slot-requests.ts'
import type { SlotWork } from './slot-work.ts'
import type { WaitingPods } from './waiting-pods.ts'

export interface GiftsOptions {
  readonly coolDownMs: number
}

export interface GiftsModules {
  readonly work: SlotWork
  readonly restoration: Pick<Restoration, 'stands'>
  readonly store: Store
  readonly clock: Clock
  readonly log: Log
  readonly allocator: Allocator
  readonly waiting: WaitingPods
}

type GiftStep = (record: SlotRecord, cidr: string, gift: Omit<Gift, 'to'>) => Step

const parseLiveness = recordParser(livenessRecord)

export class Gifts {
  readonly #options: GiftsOptions
  readonly #modules: GiftsModules

  constructor(options: GiftsOptions, modules: GiftsModules) {
    this.#options = options
    this.#modules = modules
  }

  /**
   * Frees a part in which nobody lives, or an empty piece of it. True when it has gone.
   * @throws store.unavailable, store.in-doubt: it stays struck until the slot is settled; journal.write-failed:
   *   it is ours as before
   */
  giveBack(part: OwnedPart, cidr: Cidr = part.cidr): Promise<boolean> {
    const { slot } = part
    return this.#modules.work.run(slot, async () => {
      const offset = Number(cidr.base - part.cidr.base)
      const size = Number(sizeOf(cidr))
      const empty = part.addresses.isEmpty(offset, size)
      if (!empty || isInDoubt(slot) || this.#modules.restoration.stands || !slot.parts.includes(part))
        return false
      const struck = strike(slot, { part, cidr })
      await this.#give(slot, struck, free, () => {
        slot.parts = [...slot.parts, struck]
      })
      return true
    })
  }

  /** A claim whose pool turned out to be closed: nothing of it was ever used. In the slot's turn. */
  async returnClaimed(slot: OwnSlot, claimed: OwnedPart): Promise<void> {
    const { claiming } = slot
    slot.claiming = null
    await this.#give(slot, claimed, free, () => {
      slot.claiming = claiming
    })
  }

  /** Requests that nobody waits for any more. @throws store.* */
  drop(slot: OwnSlot, ids: ReadonlySet<string>): Promise<void> {
    return this.#modules.work.run(slot, () => this.#drop(slot, ids))
  }

  /**
   * Answers what other nodes ask of this slot, as far as it can be judged now: the rest is for the next call. What it
   * must refuse, and `mayRefuse` does not let it yet, is left, too.
   * @throws store.*, journal.write-failed
   */
  serve(
    slot: OwnSlot,
    { record, modRevision }: { readonly record: SlotRecord; readonly modRevision: number },
    mayRefuse: (record: SlotRecord, request: SlotRequest) => boolean,
  ): Promise<void> {
    const { work } = this.#modules
    return work.run(slot, async () => {
      const stale = modRevision < (slot.seen?.modRevision ?? 0)
      const current = (stale ? slot.seen?.value : null) ?? record
      const refused: SlotRequest[] = []
      for (const request of current.requests)
        if ((await this.#answer(slot, request)) === 'no room' && mayRefuse(current, request))
          refused.push(request)
      if (refused.length > 0) await this.#refuse(slot, refused)
    })
  }

  async #answer(slot: OwnSlot, request: SlotRequest): Promise<'no room' | 'done'> {
    const { log } = this.#modules
    // While the store is restored a gift's generation could beat that of an owner who is not back yet.
    if (mustSettle(slot) || slot.ledgerUnread || this.#modules.restoration.stands) return 'done'
    const isMember = await this.#isMember(request.owner)
    if (isMember === null) return 'done'
    if (!isMember) {
      await this.#drop(slot, new Set([request.id]))
      return 'done'
    }
    const piece = this.#pieceFor(slot, request)
    if (piece === null) return 'no room'
    if (piece === 'kept') return 'done'
    const struck = strike(slot, piece)
    const answer: GiftStep = (record, text, gift) => answerRequest(record, text, request.id, gift)
    await this.#give(slot, struck, answer, () => {
      slot.parts = [...slot.parts, struck]
    })
    log.info({ part: struck.text, to: request.owner }, 'piece given to a node that asked')
    return 'done'
  }

  /** A part whose ownership others may doubt is nobody's to give. kept: pods of this node wait for as much as is free. */
  #pieceFor(slot: OwnSlot, { cidr, fresh }: SlotRequest): Piece | 'kept' | null {
    const ours = [...this.#modules.allocator.partsOf(slot.poolUid)].filter(
      part => part.slot === slot && !part.fenced && part.unknownSinceMs === null,
    )
    if (cidr === null) return this.#anyPiece(slot.poolUid, ours, fresh === true)
    const wanted = parseCidr(cidr)
    const part = ours.find(known => covers(known.cidr, wanted))
    if (part === undefined) return null
    const size = Number(sizeOf(wanted))
    const offset = Number(wanted.base - part.cidr.base)
    return part.addresses.youngestFreedMs(offset, size) === null ? null : { part, cidr: wanted }
  }

  #anyPiece(poolUid: string, ours: readonly OwnedPart[], fresh: boolean): Piece | 'kept' | null {
    const { allocator, clock, waiting } = this.#modules
    const freedBy = fresh ? clock.boottimeMs() - this.#options.coolDownMs : Number.POSITIVE_INFINITY
    const piece = largestEmptyPiece(ours, freedBy)
    const kept = waiting.of(poolUid)
    if (piece === null || kept === 0) return piece
    const most = kept + Number(sizeOf(piece.cidr))
    const free = fresh ? allocator.ready(poolUid, most) : allocator.free([poolUid], most)
    // Who can do with what cools is better served by his own than by waiting.
    if (free <= kept) {
      if (fresh) return null
      waiting.keep(poolUid)
      return 'kept'
    }
    return { part: piece.part, cidr: lastPiece(piece.cidr, floorPowerOfTwo(free - kept)) }
  }

  /**
   * Nothing goes to a node that was removed, or that nobody knows any more. null: its record cannot be read; then it is not
   * answered, others are, and its request goes when it has stood too long.
   */
  async #isMember(uid: string): Promise<boolean | null> {
    const { entry } = await this.#modules.store.get(livenessKey(uid))
    if (entry === null) return false
    try {
      return parseLiveness(entry.value, entry.key).removed === null
    } catch (error) {
      if (!isTwillError(error, 'document.invalid')) throw error
      return null
    }
  }

  /** In one commit: all owners of a slot refuse at about the same time. */
  async #refuse(slot: OwnSlot, requests: readonly SlotRequest[]): Promise<void> {
    const { nodeUid } = this.#modules.work
    const reasonFor = ({ cidr }: SlotRequest) =>
      (cidr === null ? null : this.#useOf(slot, parseCidr(cidr))) ?? 'no room'
    await this.#mark(slot, record =>
      requests.reduce<Step>(
        (step, request) => refuseRequest(step ?? record, request.id, nodeUid, reasonFor(request)) ?? step,
        null,
      ),
    )
  }

  /** Why `cidr` is not given: of an address that was asked for by name, who holds it. null: it is not ours. */
  #useOf(slot: OwnSlot, cidr: Cidr): string | null {
    const part = slot.parts.find(known => covers(known.cidr, cidr))
    if (part === undefined) return null
    const id = part.addresses.holderOf(Number(cidr.base - part.cidr.base))
    const holding = id === null ? undefined : this.#modules.allocator.holdings.get(id)
    return holding === undefined ? 'in use' : `${holderName(holding.holder)} holds it`
  }

  async #drop(slot: OwnSlot, ids: ReadonlySet<string>): Promise<void> {
    await this.#mark(slot, record => dropRequests(record, ids))
  }

  async #mark(slot: OwnSlot, step: (record: SlotRecord) => Step): Promise<void> {
    const at = this.#modules.work.now()
    await this.#see(slot, await this.#change(slot, step), at)
  }

  #change(slot: OwnSlot, step: (record: SlotRecord) => Step): Promise<Changed<SlotRecord>> {
    return this.#modules.work.change(
      slot.key,
      current => (current === null ? KEEP : (step(current) ?? KEEP)),
      slot.seen ?? undefined,
    )
  }

  /** A commit of our own is a confirmation (rule 6). */
  async #see(slot: OwnSlot, { value, modRevision, wrote }: Changed<SlotRecord>, at: Instant): Promise<void> {
    if (value === null || modRevision < (slot.seen?.modRevision ?? 0)) return
    await this.#modules.work.examine(slot, { record: value, modRevision, at: wrote ? at : null })
  }

  /** Struck from memory already; now from the journal, then given. `undo`: it could not be journaled. */
  async #give(slot: OwnSlot, struck: OwnedPart, step: GiftStep, undo: () => void): Promise<void> {
    const { work } = this.#modules
    slot.giving = [struck]
    await work.record(slot, () => {
      slot.giving = []
      undo()
    })
    faultPoint('gift.recorded')
    const gift = { from: work.nodeUid, generation: struck.generation, cooling: this.#coolingOf(struck) }
    const at = work.now()
    const changed = await this.#change(slot, record => step(record, struck.text, gift))
    faultPoint('gift.committed')
    await this.settle(slot, changed.value)
    await this.#see(slot, changed, at)
  }

  /** What a successful commit, or a read with no commit in doubt before it, says of pieces on their way. In the slot's turn. */
  async settle(slot: OwnSlot, record: SlotRecord | null): Promise<void> {
    if (slot.giving.length === 0) return
    const ours = (record?.parts ?? []).filter(part => part.owner === this.#modules.work.nodeUid)
    const kept = slot.giving.filter(piece => ours.some(part => isPieceOf(piece, part)))
    await this.#modules.work.become(slot, { parts: [...slot.parts, ...kept], giving: [] })
  }

  /** Address → seconds left (rule 5), oldest first. */
  #coolingOf(part: OwnedPart): Part['cooling'] {
    const { coolDownMs } = this.#options
    const nowMs = this.#modules.clock.boottimeMs()
    const cooling: Part['cooling'] = {}
    for (const { offset, freedMs } of part.addresses.freedAfter(nowMs - coolDownMs).reverse())
      cooling[heldAddress(part, offset).address] = Math.ceil((freedMs + coolDownMs - nowMs) / 1000)
    return cooling
  }
}

const free: GiftStep = (record, cidr, gift) => givePart(record, cidr, { ...gift, to: null })

const isPieceOf = (piece: OwnedPart, part: Part): boolean =>
  part.generation === piece.generation && covers(parseCidr(part.cidr), piece.cidr)
