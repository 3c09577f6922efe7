/**
 * What the address management does without being asked: settles doubts, confirms ownership, reads ledgers after
 * a reboot, enters pools, claims ahead of need, gives back parts of pools that are being removed. One pass at a
 * time; events wake it, a failed step is tried again soon, and no step keeps the others from their turn.
 */
import { isIP } from 'node:net'
import { ledgerKey } from '../datastore/keys.ts'
import type { MirrorChange } from '../datastore/mirror.ts'
import { recordParser } from '../datastore/record.ts'
import { type LedgerEntry, ledgerRecord } from '../datastore/records/ledger.ts'
import type { SlotRecord } from '../datastore/records/slot.ts'
import type { Store } from '../datastore/store.ts'
import { type Family, parseIp } from '../lib/address.ts'
import type { Clock, Timer } from '../lib/clock.ts'
import { messageOf } from '../lib/errors.ts'
import type { Log } from '../lib/log.ts'
import { type Allocator, heldAddress } from './allocator.ts'
import { Claims } from './claims.ts'
import type { Gifts } from './gifts.ts'
import type { Instant, IpamJournal } from './journal-records.ts'
import type { Ledgers } from './ledger.ts'
import { mayAdd, type NodeLimit, ownedOf } from './node-limit.ts'
import { mustSettle, type OwnedPart, type OwnSlot, slotFromKey } from './own-slots.ts'
import type { Ownership } from './ownership.ts'
import { isOnDemand, type KnownPool, type PoolView } from './pool-view.ts'
import type { Requests } from './requests.ts'
import type { Restoration } from './restoration.ts'
import type { Serving } from './serving.ts'
import { isOwnedBy } from './slot.ts'
import type { SlotIndex } from './slot-index.ts'
import { excess, SpareParts } from './spare-parts.ts'
import { elapsedMs, instantNow } from './term.ts'
import { UnreadableRecords } from './unreadable.ts'

export interface UpkeepOptions {
  readonly nodeUid: string
  readonly boot: string
  readonly offlineAllowanceMs: number
  readonly marginMs: number
  readonly confirmEveryMs: number
  /** After a step that failed. */
  readonly retryMs: number
  readonly lowWater: number
  /** How long an empty part rests before it is given back. */
  readonly spareRestMs: number
  readonly nodeLimit: NodeLimit
  readonly journalIntact: boolean
}

export interface UpkeepModules {
  readonly store: Store
  readonly clock: Clock
  readonly log: Log
  readonly journal: IpamJournal
  readonly allocator: Allocator
  readonly pools: PoolView
  readonly slots: SlotIndex
  readonly ownership: Ownership
  readonly gifts: Gifts
  readonly requests: Requests
  readonly serving: Serving
  readonly ledgers: Ledgers
  readonly restoration: Restoration
}

/** How often it is asked whether what must not be confirmed now may be. */
const STANDING_MS = 5000
const parseLedger = recordParser(ledgerRecord)

export class Upkeep {
  readonly #options: UpkeepOptions
  readonly #modules: UpkeepModules
  readonly claims: Claims
  /** When the confirmation that the journal knows of was sent, by slot id. */
  readonly #journaled = new Map<string, Instant>()
  #timer: Timer | null = null
  /** BOOTTIME at which the timer fires. */
  #dueMs = 0
  #pass: Promise<void> | null = null
  #again = false
  /** A pass is due soon, whatever else. */
  #soon = false
  #surplusDueMs = Number.POSITIVE_INFINITY
  readonly #spares: SpareParts
  #stopped = false
  #slotsSynced = false
  #recheck = false
  /** Own slots whose record the watch shows gone. */
  readonly #gone = new Set<OwnSlot>()
  readonly unreadable: UnreadableRecords
  #resolveReady = () => {}
  #isReady = false
  readonly #ready = new Promise<void>(resolve => {
    this.#resolveReady = resolve
  })

  constructor(options: UpkeepOptions, modules: UpkeepModules) {
    this.#options = options
    this.#modules = modules
    this.unreadable = new UnreadableRecords(modules)
    this.claims = new Claims(
      {
        nodeLimit: options.nodeLimit,
        mayAdd: family => this.mayAdd(family),
        onClaimed: () => this.wake(),
        onHurry: () => this.wake(),
        onFailure: () => this.soon(),
      },
      modules,
    )
    this.#spares = new SpareParts({ lowWater: options.lowWater, restMs: options.spareRestMs })
    void this.#whenSynced()
  }

  /** Resolves after pools, slots and own parts were read once. */
  ready(): Promise<void> {
    return this.#ready
  }

  async #whenSynced(): Promise<void> {
    const { pools, slots } = this.#modules
    await Promise.all([pools.synced(), slots.synced()])
    this.#slotsSynced = true
    // Of what was gone before the watch began it tells nothing.
    for (const slot of this.#owned()) if (!slots.exists(slot.key)) this.#gone.add(slot)
    this.wake()
  }

  wake(): void {
    if (this.#stopped) return
    if (this.#pass !== null) {
      this.#again = true
      return
    }
    this.#timer?.cancel()
    this.#pass = this.#run().finally(() => {
      this.#pass = null
      if (this.#again) this.wake()
    })
  }

  /** An address was taken: that alone may ask for a part more. */
  wakeIfLow(): void {
    if (this.#prefetched().some(group => this.#missing(group) > 0)) this.wake()
  }

  /** Something failed that the next pass will see to. One that is due earlier stays: ADDs may fail without end. */
  soon(): void {
    this.#soon = true
    const { retryMs } = this.#options
    const isDue = this.#timer !== null && this.#dueMs <= this.#modules.clock.boottimeMs() + retryMs
    if (this.#pass === null && !this.#stopped && !isDue) this.#schedule(retryMs)
  }

  async stop(): Promise<void> {
    this.#stopped = true
    this.#again = false
    this.#timer?.cancel()
    await this.#pass
    await this.claims.settled()
  }

  /** The store is not what it was (rule 16): what was seen of it counts for nothing, and all of it is asked anew. */
  recheck(): void {
    this.#recheck = true
    for (const slot of this.#owned()) {
      slot.seen = null
      this.#modules.ledgers.rewrite(slot)
    }
    this.wake()
  }

  /** Slots changed in the store. */
  observe(changes: readonly MirrorChange<SlotRecord>[]): void {
    for (const { key, after } of changes) {
      const known = this.#modules.allocator.slotOf(key)
      if (after === null) {
        this.#missed(known)
        continue
      }
      // Nearly all of them: what other nodes do among themselves must cost this one next to nothing.
      if (known === undefined && !after.value.parts.some(part => part.owner === this.#options.nodeUid))
        continue
      const slot = known ?? slotFromKey(key)
      if (slot !== null) this.#follow(slot, after.value, after.modRevision)
    }
  }

  /** Others may take what is ours, or have got it: to be confirmed at once. */
  #missed(slot: OwnSlot | undefined): void {
    if (slot === undefined || slot.parts.length === 0) return
    this.#gone.add(slot)
    this.wake()
  }

  #follow(slot: OwnSlot, record: SlotRecord, modRevision: number): void {
    const { ownership, requests, serving, log } = this.#modules
    requests.observe(slot.id, record, modRevision)
    const taken = ownership.observe(slot, record, modRevision)
    serving.observe(slot, record, modRevision)
    taken
      .then(() => this.wake())
      .catch(error => log.warn({ slot: slot.text, err: messageOf(error) }, 'change of a slot not taken in'))
  }

  /** How many addresses one part more may have; 0: none. */
  mayAdd(family: Family): number {
    return mayAdd(this.#options.nodeLimit, ownedOf(this.#parts(), family))
  }

  #parts(): OwnedPart[] {
    return this.#owned().flatMap(slot => slot.parts)
  }

  /** @throws store.*, journal.write-failed: of the first slot that failed */
  async confirm(slots: readonly OwnSlot[]): Promise<void> {
    const confirmed = [...new Set(slots)].map(slot =>
      this.unreadable.spare(slot.text, () => this.#confirmOne(slot)),
    )
    await Promise.all(confirmed)
  }

  async #confirmOne(slot: OwnSlot): Promise<void> {
    const { ownership, restoration } = this.#modules
    const settled = mustSettle(slot)
    if (settled) await ownership.settle(slot)
    if (!settled || restoration.stands) await ownership.confirm(slot)
    if (slot.ledgerUnread) await this.#readLedger(slot)
  }

  async #run(): Promise<void> {
    this.#again = false
    const steps = [
      () => this.#modules.pools.record(),
      () => this.#modules.pools.admit(),
      () => this.#modules.restoration.tend(),
      () => this.#settleDoubts(),
      () => this.#modules.serving.pass(),
      () => this.#confirmDue(),
      () => this.#journalTerms(),
      () => this.#acceptUnknown(),
      () => this.#returnClosed(),
      () => this.#returnSurplus(),
      () => this.#prefetch(),
    ]
    let failed = false
    this.#soon = false
    for (const step of steps)
      if (!this.#stopped)
        await step().catch(error => {
          failed = true
          this.#modules.log.debug({ err: messageOf(error) }, 'upkeep step failed')
        })
    if (!this.#isReady && !failed && this.#modules.pools.isSynced && this.#knowsItsParts()) {
      this.#isReady = true
      this.#resolveReady()
    }
    if (!this.#stopped) this.#schedule(failed || this.#soon ? this.#options.retryMs : this.#nextDueMs())
  }

  /** What the store shows as ours has been taken in, with who holds what. */
  #knowsItsParts(): boolean {
    const { slots, allocator } = this.#modules
    if (!this.#slotsSynced || this.#owned().some(slot => slot.ledgerUnread)) return false
    for (const [key, { value }] of slots.entries)
      if (allocator.slotOf(key) === undefined && isOwnedBy(value, this.#options.nodeUid)) return false
    return true
  }

  #schedule(delayMs: number): void {
    this.#timer?.cancel()
    this.#dueMs = this.#modules.clock.boottimeMs() + delayMs
    this.#timer = this.#modules.clock.setTimer(delayMs, () => this.wake())
  }

  #nextDueMs(): number {
    const readable = this.#owned().filter(({ text }) => !this.unreadable.has(text))
    const dues = readable.map(slot => this.#options.confirmEveryMs - this.#sinceConfirmedMs(slot))
    const { restoration, serving } = this.#modules
    // Whose return ends the removal is told to the liveness record, which nobody watches.
    const isFenced = readable.some(slot => slot.parts.some(part => part.fenced))
    const soonestMs = Math.min(...dues, isFenced ? STANDING_MS : Number.POSITIVE_INFINITY)
    const confirmMs = Math.max(restoration.stands ? STANDING_MS : 10, soonestMs)
    const othersMs = Math.min(serving.nextDueMs(), restoration.nextDueMs(), this.#surplusDueMs)
    return Math.max(10, Math.min(this.#options.confirmEveryMs, othersMs, confirmMs))
  }

  #owned(): OwnSlot[] {
    return [...this.#modules.allocator.slots.values()].filter(slot => slot.parts.length > 0)
  }

  #now(): Instant {
    return instantNow(this.#modules.clock, this.#options.boot)
  }

  #sinceConfirmedMs(slot: OwnSlot): number {
    return slot.confirmed === null ? Number.POSITIVE_INFINITY : elapsedMs(slot.confirmed, this.#now())
  }

  async #settleDoubts(): Promise<void> {
    const open = [...this.#modules.allocator.slots.values()].filter(mustSettle)
    const { ownership } = this.#modules
    await Promise.all(open.map(slot => this.unreadable.spare(slot.text, () => ownership.settle(slot))))
  }

  async #confirmDue(): Promise<void> {
    const recheck = this.#recheck
    const gone = [...this.#gone]
    const due = this.#owned().filter(
      slot =>
        recheck ||
        gone.includes(slot) ||
        slot.ledgerUnread ||
        slot.parts.some(part => part.fenced) ||
        this.#sinceConfirmedMs(slot) >= this.#options.confirmEveryMs,
    )
    this.#recheck = false
    try {
      this.#gone.clear()
      await this.confirm(due)
      if (recheck) this.#modules.restoration.rechecked()
    } catch (error) {
      this.#recheck ||= recheck
      for (const slot of gone) this.#gone.add(slot)
      throw error
    }
  }

  /** One record for all slots confirmed since the last: a restart without the store goes on from there. */
  async #journalTerms(): Promise<void> {
    const stale = this.#owned().filter(slot => {
      const known = this.#journaled.get(slot.id)
      const { confirmed } = slot
      if (confirmed === null || confirmed.boot !== this.#options.boot) return false
      return known === undefined || elapsedMs(known, confirmed) >= this.#options.confirmEveryMs / 2
    })
    if (stale.length === 0) return
    const sent = stale.map(slot => slot.confirmed as Instant)
    const earliest = sent.reduce((a, b) => (a.boottimeMs <= b.boottimeMs ? a : b))
    await this.#modules.journal.append({
      t: 'confirmed',
      ...earliest,
      revision: this.#modules.store.status().lastRevision,
      slots: stale.map(({ poolUid, text }) => ({ poolUid, slot: text })),
    })
    for (const slot of stale) this.#journaled.set(slot.id, earliest)
  }

  /** Rule 16: a part that is ours by the store alone is used after everybody else's term in it must be over. */
  async #acceptUnknown(): Promise<void> {
    const waitMs = this.#options.offlineAllowanceMs + this.#options.marginMs
    const nowMs = this.#modules.clock.boottimeMs()
    for (const part of this.#parts())
      if (part.unknownSinceMs !== null && nowMs - part.unknownSinceMs >= waitMs)
        await this.#modules.ownership.accept(part)
  }

  async #returnClosed(): Promise<void> {
    if (!this.#modules.pools.isSynced) return
    const { pools, gifts } = this.#modules
    for (const part of this.#parts())
      if (part.addresses.held === 0 && !pools.isKept(part.slot.poolUid)) await gifts.giveBack(part)
  }

  /** What is empty and not needed, and at once what is empty and more than this node may own. */
  async #returnSurplus(): Promise<void> {
    const { gifts, clock } = this.#modules
    this.#surplusDueMs = Number.POSITIVE_INFINITY
    if (!this.#modules.pools.isSynced) return
    for (const { part, cidr } of excess(this.#parts(), this.#options.nodeLimit))
      await gifts.giveBack(part, cidr)
    for (const group of this.#groups()) {
      const parts = group.flatMap(pool => [...this.#modules.allocator.partsOf(pool.uid)])
      const surplus = this.#spares.surplus(parts, clock.boottimeMs())
      this.#surplusDueMs = Math.min(this.#surplusDueMs, surplus.dueMs)
      for (const part of surplus.parts) await gifts.giveBack(part)
    }
  }

  /** Enough free addresses in each group of pools together. */
  async #prefetch(): Promise<void> {
    // Before the slots were seen, what looks free may be our own.
    const { pools, restoration } = this.#modules
    if (!pools.isSynced || !this.#slotsSynced || restoration.stands) return
    for (const group of this.#prefetched()) await this.#claimMissing(group)
  }

  /** How many addresses short the pools are together of what they are to have free. */
  #missing(group: readonly KnownPool[]): number {
    const hurried = group.reduce((sum, pool) => sum + this.claims.wanted(pool), 0)
    const wanted = group.length === 0 ? 0 : Math.max(this.#options.lowWater, hurried)
    const uids = group.map(pool => pool.uid)
    return wanted - this.#modules.allocator.free(uids, wanted)
  }

  /** Pools that stand in for each other: of each family those for all pods; and each that is for some alone. */
  #groups(): KnownPool[][] {
    const enabled = this.#modules.pools.pools.filter(
      pool => pool.open && !pool.disabled && pool.here && pool.covers === null,
    )
    const common = enabled.filter(pool => !isOnDemand(pool))
    const families = ([4, 6] as const).map(family => common.filter(pool => pool.cidr.family === family))
    return [...families, ...enabled.filter(isOnDemand).map(pool => [pool])]
  }

  /** Those of which there is to be enough: of a pool for some alone only where this node has made use of it. */
  #prefetched(): KnownPool[][] {
    const { allocator } = this.#modules
    return this.#groups().filter(
      ([pool]) => pool !== undefined && (!isOnDemand(pool) || allocator.isUsed(pool.uid)),
    )
  }

  async #claimMissing(group: readonly KnownPool[]): Promise<void> {
    const missing = this.#missing(group)
    if (missing > 0) for (const pool of group) if (await this.claims.ahead(pool, missing)) return
  }

  /**
   * After a reboot or a damaged journal. An entry of an earlier boot is a dead pod: its address cools anew. One
   * of this boot that the journal lost may live: it stays held until the audit or a DEL frees it (rule 17).
   */
  async #readLedger(slot: OwnSlot): Promise<void> {
    const { store, clock, log } = this.#modules
    const { entry } = await store.get(ledgerKey(slot.poolUid, slot.slot, this.#options.nodeUid))
    const ledger = entry === null ? null : parseLedger(entry.value, entry.key)
    const nowMs = clock.boottimeMs()
    for (const part of slot.parts)
      for (const [address, held] of Object.entries(ledger?.generations[part.generation] ?? {})) {
        const offset = offsetIn(part, address)
        // Of a piece that was given away, or nonsense: in no case an address of this part.
        if (offset === null) continue
        if (held.boot !== this.#options.boot) part.addresses.setFreed(offset, nowMs)
        else if (part.addresses.holderOf(offset) === null && this.#mayLive(part)) {
          log.warn({ address, holder: held.holder }, 'only the ledger knows this holder: kept')
          this.#modules.allocator.hold(holderOf(held), heldAddress(part, offset), true)
        }
      }
    slot.ledgerUnread = false
    this.#modules.ledgers.reopen(slot)
  }

  /** With the journal whole, who is not in it has gone. */
  #mayLive(part: OwnedPart): boolean {
    return !this.#options.journalIntact || part.unknownSinceMs !== null
  }
}

function offsetIn({ cidr, addresses }: OwnedPart, address: string): number | null {
  if (isIP(address) !== cidr.family) return null
  const offset = Number(parseIp(address).value - cidr.base)
  return offset < 0 || offset >= addresses.size ? null : offset
}

function holderOf({ holder, kind, network, containerId, ifName, pod, since }: LedgerEntry) {
  return { id: holder, kind, network, containerId, ifName, pod, since }
}
