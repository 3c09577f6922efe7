/**
 * Parts of nodes that were removed (ADDRESSES.md rules 9, 10 and 14): fences what a removed or unknown owner
 * left, and frees what has stood under one fence for the owner's allowance plus margin, as this daemon has
 * itself seen on its own BOOTTIME. A restart begins to count again; no stamp of anybody's wall clock is used.
 */
import { ledgerKey, livenessKey, PREFIX } from '../datastore/keys.ts'
import type { Mirror, MirrorChange, MirrorEntry } from '../datastore/mirror.ts'
import { recordParser } from '../datastore/record.ts'
import { ledgerRecord } from '../datastore/records/ledger.ts'
import { livenessRecord } from '../datastore/records/liveness.ts'
import type { NodeRecord } from '../datastore/records/node.ts'
import type { Fence, SlotRecord } from '../datastore/records/slot.ts'
import type { Store } from '../datastore/store.ts'
import type { Clock, Random } from '../lib/clock.ts'
import { messageOf } from '../lib/errors.ts'
import type { Log } from '../lib/log.ts'
import { Periodic } from '../lib/periodic.ts'
import { changeRecord, KEEP } from './change-record.ts'
import { forgetNode } from './removal.ts'
import type { Restoration } from './restoration.ts'
import { fenceParts, freeFenced, isOwnedBy, parseSlotKey, partsOf } from './slot.ts'
import { parseSlot, type SlotIndex } from './slot-index.ts'
import { UnreadableRecords } from './unreadable.ts'

export interface FencesOptions {
  readonly nodeUid: string
  /** Assumed of owners whose liveness record is gone. */
  readonly offlineAllowanceMs: number
  readonly marginMs: number
  /** How often to look. Each look comes up to half of this later, so that not every daemon writes at once. */
  readonly sweepEveryMs: number
}

export interface FencesModules {
  readonly store: Store
  readonly clock: Clock
  readonly random: Random
  readonly log: Log
  readonly nodes: Mirror<NodeRecord>
  readonly slots: SlotIndex
  readonly restoration: Pick<Restoration, 'stands'>
}

const parseLiveness = recordParser(livenessRecord)
const parseLedger = recordParser(ledgerRecord)

/** How many daemons look after what a removed node left, of all that see it, in the time of one sweep. */
export const ACTORS = 4
/** After so many sweeps in which nobody did it, no more are added. */
const SWEEPS_MAX = 64
/** Changed slots that are remembered one by one. */
const UNJUDGED_MAX = 1024

export class Fences {
  readonly #options: FencesOptions
  readonly #modules: FencesModules
  readonly #nodes: Mirror<NodeRecord>
  readonly #unsubscribe: () => void
  /** BOOTTIME at which a part was first seen under its fence. */
  readonly #firstSeenMs = new Map<string, number>()
  /** Keys of slots whose owners are to be looked up; null: all. */
  #unjudged: Set<string> | null = null
  /** Keys of slots with parts of owners that no node record named. */
  #orphaned: ReadonlySet<string> = new Set()
  /** Owner → BOOTTIME at which it was first seen that no node record names him. */
  readonly #orphanedSinceMs = new Map<string, number>()
  /** Owner → keys of the slots of which this daemon has freed parts, until what he wrote beside them is gone. */
  readonly #freed = new Map<string, Set<string>>()
  /** BOOTTIME before which no fence that is known now is due. */
  #noneDueBeforeMs = Number.NEGATIVE_INFINITY
  readonly #unreadable: UnreadableRecords
  /** By owner. */
  readonly #unjudgeable: UnreadableRecords
  #tidied = false
  readonly #sweeping: Periodic

  constructor(options: FencesOptions, modules: FencesModules) {
    this.#options = options
    this.#modules = modules
    this.#nodes = modules.nodes
    this.#unreadable = new UnreadableRecords(modules)
    this.#unjudgeable = new UnreadableRecords(modules)
    this.#unsubscribe = this.#nodes.subscribe(changes => this.#observeNodes(changes))
    const { clock, random, log } = modules
    this.#sweeping = new Periodic(
      { everyMs: options.sweepEveryMs },
      {
        ...{ clock, random },
        work: () => this.#sweep(),
        failed: error => log.debug({ err: messageOf(error) }, 'removed nodes not dealt with'),
      },
    )
  }

  async start(): Promise<void> {
    await Promise.all([this.#nodes.synced(), this.#modules.slots.synced()])
    this.#sweeping.start()
  }

  stop(): Promise<void> {
    this.#unsubscribe()
    return this.#sweeping.stop()
  }

  /** Liveness records of removed nodes whose parts stay as they are, because nobody knows what was agreed on. */
  get unreadable(): readonly string[] {
    return this.#unjudgeable.reasons
  }

  /** The watch shows these slots changed. */
  observe(changes: readonly MirrorChange<SlotRecord>[]): void {
    for (const { key, before, after } of changes) {
      this.#unjudged?.add(key)
      if (hasFences(before) || hasFences(after)) this.#noneDueBeforeMs = Number.NEGATIVE_INFINITY
    }
    if ((this.#unjudged?.size ?? 0) > UNJUDGED_MAX) this.#unjudged = null
  }

  #observeNodes(changes: readonly MirrorChange<NodeRecord>[]): void {
    // Whose parts these are is to be found: any slot may have some.
    if (changes.some(({ before, after }) => before !== null && before.value.uid !== after?.value.uid))
      this.#unjudged = null
  }

  async #sweep(): Promise<void> {
    // Fences that were lifted may stand again, and nodes that came may be missing: all are given the time to come back.
    if (this.#modules.restoration.stands) {
      this.#firstSeenMs.clear()
      this.#noneDueBeforeMs = Number.NEGATIVE_INFINITY
      return
    }
    await this.#fenceOrphans()
    for (const [key, ids] of this.#due()) await this.#unreadable.spare(key, () => this.#free(key, ids))
    await this.#clearFreed()
    await this.#tidyOnce()
  }

  /**
   * Every daemon sees the same: a few of them act at a time, chosen by chance, and more of them the longer nobody has.
   * @param sinceMs BOOTTIME since which it could have been done
   */
  #takesPart(sinceMs: number): boolean {
    const { clock, random } = this.#modules
    const sweeps = (clock.boottimeMs() - sinceMs) / this.#options.sweepEveryMs
    const chance = (ACTORS * (1 + Math.min(sweeps, SWEEPS_MAX))) / this.#nodes.entries.size
    return chance >= 1 || random.fraction() < chance
  }

  /** Owners that no node record names: their liveness record, if any, says whether they are removed. */
  async #fenceOrphans(): Promise<void> {
    const nowMs = this.#modules.clock.boottimeMs()
    const orphans = this.#judge()
    for (const owner of this.#orphanedSinceMs.keys())
      if (!orphans.has(owner)) this.#orphanedSinceMs.delete(owner)
    this.#unjudgeable.keepOnly(owner => orphans.has(owner))
    for (const [owner, keys] of orphans) {
      const sinceMs = this.#orphanedSinceMs.get(owner) ?? nowMs
      this.#orphanedSinceMs.set(owner, sinceMs)
      if (this.#takesPart(sinceMs)) await this.#unjudgeable.spare(owner, () => this.#fenceOwner(owner, keys))
    }
  }

  async #fenceOwner(owner: string, keys: readonly string[]): Promise<void> {
    const unfenced = () => keys.filter(key => this.#isUnfenced(key, owner))
    const fence = unfenced().length === 0 ? null : await this.#fenceFor(owner)
    for (const key of fence === null ? [] : unfenced())
      await this.#unreadable.spare(key, () => this.#fence(key, owner, fence as Fence))
  }

  /** By the watch, which others may have moved on meanwhile. */
  #isUnfenced(key: string, owner: string): boolean {
    const parts = this.#modules.slots.get(key)?.value.parts ?? []
    return parts.some(part => part.owner === owner && part.fence === null)
  }

  /** Owners without a node record and the keys of their slots; looks only at what may have become another since the last. */
  #judge(): Map<string, string[]> {
    const { slots } = this.#modules
    const orphans = new Map<string, string[]>()
    if (this.#unjudged?.size === 0 && this.#orphaned.size === 0) return orphans
    const keys =
      this.#unjudged === null ? slots.entries.keys() : new Set([...this.#unjudged, ...this.#orphaned])
    for (const key of keys)
      for (const { owner, fence } of slots.get(key)?.value.parts ?? [])
        if (owner !== null && fence === null) enter(orphans, owner, key)
    orphans.delete(this.#options.nodeUid)
    for (const { value } of this.#nodes.entries.values()) orphans.delete(value.uid)
    this.#unjudged = new Set()
    this.#orphaned = new Set([...orphans.values()].flat())
    return orphans
  }

  /** null: registered under some name, or just about to be. */
  async #fenceFor(owner: string): Promise<Fence | null> {
    const { store, random } = this.#modules
    const { entry } = await store.get(livenessKey(owner))
    if (entry === null) return { id: random.hex(16), allowanceMs: this.#options.offlineAllowanceMs }
    const { removed, allowanceMs } = parseLiveness(entry.value, entry.key)
    return removed === null ? null : { id: removed.fence, allowanceMs }
  }

  async #fence(key: string, owner: string, fence: Fence): Promise<void> {
    await changeRecord<SlotRecord>(this.#modules.store, {
      key,
      parse: parseSlot,
      step: current => {
        // Two daemons that fence one owner without a record: the first id stands, or neither would last.
        const fenced = current === null || partsOf(current, owner).every(part => part.fence !== null)
        return fenced ? KEEP : (fenceParts(current as SlotRecord, owner, fence) ?? KEEP)
      },
    })
    this.#modules.log.warn({ slot: key, owner, fence: fence.id }, 'parts of a removed node fenced')
  }

  /** Slot key → fence ids under which every part of it has stood long enough. */
  #due(): Map<string, Set<string>> {
    const nowMs = this.#modules.clock.boottimeMs()
    const due = new Map<string, Set<string>>()
    if (nowMs < this.#noneDueBeforeMs) return due
    this.#noneDueBeforeMs = Number.POSITIVE_INFINITY
    const seen = new Set<string>()
    for (const key of this.#modules.slots.withFences()) {
      const waiting = new Set<string>()
      for (const { fence, owner, cidr, generation } of this.#modules.slots.get(key)?.value.parts ?? []) {
        if (fence === null || owner === this.#options.nodeUid) continue
        const id = `${key} ${cidr} ${generation} ${fence.id}`
        seen.add(id)
        const sinceMs = this.#firstSeenMs.get(id) ?? nowMs
        this.#firstSeenMs.set(id, sinceMs)
        const dueMs = sinceMs + fence.allowanceMs + this.#options.marginMs
        this.#noneDueBeforeMs = Math.min(this.#noneDueBeforeMs, dueMs)
        if (nowMs < dueMs) waiting.add(fence.id)
        else if (this.#takesPart(dueMs)) due.set(key, (due.get(key) ?? new Set()).add(fence.id))
      }
      for (const id of waiting) due.get(key)?.delete(id)
    }
    for (const id of this.#firstSeenMs.keys()) if (!seen.has(id)) this.#firstSeenMs.delete(id)
    return due
  }

  async #free(key: string, ids: ReadonlySet<string>): Promise<void> {
    const parts = this.#modules.slots.get(key)?.value.parts ?? []
    // Others may have freed them since this sweep began.
    if (!parts.some(({ fence }) => fence !== null && ids.has(fence.id))) return
    await changeRecord<SlotRecord>(this.#modules.store, {
      key,
      parse: parseSlot,
      step: current => {
        // Noted before it is sent: a commit in doubt may have freed them all the same.
        for (const { owner, fence } of current?.parts ?? [])
          if (owner !== null && fence !== null && ids.has(fence.id))
            this.#freed.set(owner, (this.#freed.get(owner) ?? new Set()).add(key))
        return current === null ? KEEP : (freeFenced(current, ids) ?? KEEP)
      },
    })
    this.#modules.log.warn({ slot: key, fences: [...ids] }, 'parts of a removed node freed')
  }

  /**
   * What owners wrote beside the parts that were freed; the liveness record goes with the last of them (rule 11). Looked at
   * in each sweep, since the watch may not show yet what was freed, by this daemon or another.
   */
  async #clearFreed(): Promise<void> {
    const { store, slots } = this.#modules
    for (const [owner, keys] of this.#freed) {
      const left = new Set<string>()
      for (const [key, { value }] of slots.entries) if (isOwnedBy(value, owner)) left.add(key)
      for (const key of keys) {
        if (left.has(key)) continue
        await this.#clearLedger(key, owner)
        keys.delete(key)
      }
      if (left.size > 0 || keys.size > 0) continue
      await this.#unreadable.spare(livenessKey(owner), () => forgetNode(owner, store))
      this.#freed.delete(owner)
    }
  }

  /** Once in a daemon's life: whoever freed a node's last part may have died before its liveness record went. */
  async #tidyOnce(): Promise<void> {
    if (this.#tidied) return
    this.#tidied = true
    const { store, slots, random } = this.#modules
    if (random.fraction() >= ACTORS / this.#nodes.entries.size) return
    const owners = new Set<string | null>()
    for (const { value } of slots.entries.values()) for (const { owner } of value.parts) owners.add(owner)
    for (const { key, value } of (await store.list(PREFIX.liveness)).entries)
      await this.#unreadable.spare(key, async () => {
        const { uid, removed } = parseLiveness(value, key)
        if (removed !== null && !owners.has(uid)) await forgetNode(uid, store)
      })
  }

  async #clearLedger(slot: string, owner: string): Promise<void> {
    const place = parseSlotKey(slot)
    if (place === null) return
    const key = ledgerKey(place.poolUid, place.slot, owner)
    await this.#unreadable.spare(key, () =>
      changeRecord(this.#modules.store, {
        key,
        parse: parseLedger,
        step: current => (current === null ? KEEP : null),
      }),
    )
  }
}

const hasFences = (entry: MirrorEntry<SlotRecord> | null): boolean =>
  entry?.value.parts.some(part => part.fence !== null) ?? false

function enter(orphans: Map<string, string[]>, owner: string, key: string): void {
  const known = orphans.get(owner)
  if (known === undefined) orphans.set(owner, [key])
  else known.push(key)
}
