/**
 * Whom a node asks when every slot is taken and it needs an address. Ledgers, which nobody watches, are read then:
 * they show where there is room at the price of one read for each slot, while every question is a change of a slot
 * that all nodes see. Owners with most room come first, those that did not answer lately last, a few at once.
 *
 * Ledgers follow their owners by up to two seconds. So before anything is refused some owners are asked whose
 * ledger shows no room, unless they have just refused and their ledger has not changed since.
 */
import { ledgerKey, slotKey } from '../datastore/keys.ts'
import { recordParser } from '../datastore/record.ts'
import { type LedgerRecord, ledgerRecord } from '../datastore/records/ledger.ts'
import type { Part } from '../datastore/records/slot.ts'
import type { KeyValue, Store } from '../datastore/store.ts'
import { type Cidr, contains, parseCidr, parseIp, sizeOf } from '../lib/address.ts'
import type { Clock, Random } from '../lib/clock.ts'
import { TwillError } from '../lib/errors.ts'
import type { ClaimablePool } from './choose-slot.ts'
import type { GivenCooling } from './given-cooling.ts'
import type { OwnedPart } from './own-slots.ts'
import type { Answer, Requests } from './requests.ts'
import { parseSlotKey } from './slot.ts'
import type { SlotIndex } from './slot-index.ts'

export interface AskingOptions {
  readonly nodeUid: string
  readonly coolDownMs: number
}

export interface AskingModules {
  readonly store: Store
  readonly clock: Clock
  readonly random: Random
  readonly slots: SlotIndex
  readonly requests: Requests
  readonly givenCooling: GivenCooling
}

export interface Wanted {
  /** Also addresses that still cool there, owners whose ledger shows no room, and those who were silent lately. */
  readonly cooling: boolean
  readonly patienceMs: number
}

interface Candidate {
  readonly slot: Cidr
  readonly parts: readonly Part[]
  /** Of its ledgers: the same, and nothing has been freed. */
  readonly ledgers: string
  readonly room: number
}

type Unread = Omit<Candidate, 'room' | 'ledgers'>

/** What one node owns of the slot of this key. */
interface OwnersParts {
  readonly key: string
  readonly parts: readonly Part[]
}

interface Search {
  readonly cooling: boolean
  readonly endMs: number
  readonly silent: Set<string>
  readonly running: Set<Promise<void>>
  /** A slot could not be asked for the moment. */
  isBusy: boolean
  found: OwnedPart | null
  failure: { readonly error: unknown } | null
}

const parseLedger = recordParser(ledgerRecord)
/** Ledgers read at once. */
const READS = 16
/** Questions that wait for their answers at once. */
const QUESTIONS = 8
/** An owner that lives answers sooner; after that the next is asked as well. */
const HEDGE_MS = 200
/** Owners asked although their ledger shows no room. */
const BLIND_QUESTIONS = 16
const REFUSAL_COUNTS_MS = 2_000
const SILENCE_COUNTS_MS = 30_000
const HOPELESS_MS = 10_000
const FRESH_HOPELESS_MS = 1_000

export class Asking {
  readonly #options: AskingOptions
  readonly #modules: AskingModules
  readonly #searches = new Map<string, Promise<OwnedPart | null>>()
  /** Owner → BOOTTIME of a question that he did not answer. */
  readonly #silentMs = new Map<string, number>()
  /** Slot, and whether cooling addresses would do → when, and over which ledgers, all its owners refused. */
  readonly #refused = new Map<string, { readonly atMs: number; readonly ledgers: string }>()
  /** Pool UID → BOOTTIME at which nobody had anything. */
  readonly #hopelessMs = new Map<string, number>()
  /** Pool UID → BOOTTIME at which nobody had anything that has cooled. */
  readonly #nothingFreshMs = new Map<string, number>()

  constructor(options: AskingOptions, modules: AskingModules) {
    this.#options = options
    this.#modules = modules
  }

  /**
   * A part from another node, adopted; null when no owner has an address to give. Whoever comes while one search of
   * the pool runs shares it, and is answered "none" only by a search that began after he came; where only fresh ones
   * would do, by one that ended a moment ago, too: in a pool in which everything cools each pod would search all of it.
   * @throws ipam.owner-silent (retryable) {owners, names}: some did not answer; store.*; journal.write-failed
   */
  async find(pool: ClaimablePool, wanted: Wanted): Promise<OwnedPart | null> {
    const key = `${pool.uid} ${wanted.cooling}`
    const endMs = this.#nowMs() + wanted.patienceMs
    if (!wanted.cooling && isWithin(FRESH_HOPELESS_MS, this.#nothingFreshMs.get(pool.uid), this.#nowMs()))
      return null
    const joined = this.#searches.get(key)
    if (joined !== undefined) {
      const part = await joined.catch(() => null)
      if (part !== null) return part
    }
    const running = this.#searches.get(key)
    if (running !== undefined) return running
    const patienceMs = endMs - this.#nowMs()
    const search = this.#search(pool, { ...wanted, patienceMs }).finally(() => this.#searches.delete(key))
    this.#searches.set(key, search)
    return search
  }

  /** The last search found nothing, and not long ago. */
  isHopeless(poolUid: string): boolean {
    return isWithin(HOPELESS_MS, this.#hopelessMs.get(poolUid), this.#nowMs())
  }

  async #search(pool: ClaimablePool, wanted: Wanted): Promise<OwnedPart | null> {
    const search: Search = {
      cooling: wanted.cooling,
      endMs: this.#nowMs() + wanted.patienceMs,
      silent: new Set(),
      running: new Set(),
      isBusy: false,
      found: null,
      failure: null,
    }
    const full: Candidate[] = []
    for (const batch of this.#batches(pool, wanted.cooling)) {
      if (this.#isOver(search)) break
      const candidates = await this.#withRoom(pool, batch, wanted.cooling)
      const some = candidates.filter(({ room }) => room > 0)
      full.push(...candidates.filter(({ room }) => room <= 0))
      await this.#askAll(
        pool,
        some
          .filter(each => wanted.cooling || !this.#hasJustRefused(pool, each, search))
          .sort((a, b) => b.room - a.room),
        search,
      )
    }
    const blind = wanted.cooling ? full.filter(each => !this.#hasJustRefused(pool, each, search)) : []
    await this.#askAll(pool, blind.slice(0, BLIND_QUESTIONS), search)
    // They end by themselves when their patience does.
    while (search.found === null && search.running.size > 0) await Promise.race(search.running)
    return this.#outcome(pool, search, wanted)
  }

  async #outcome(pool: ClaimablePool, search: Search, wanted: Wanted): Promise<OwnedPart | null> {
    if (search.found !== null) {
      this.#hopelessMs.delete(pool.uid)
      return search.found
    }
    if (search.failure !== null) throw search.failure.error
    const fenced = this.#fencedOwners(pool)
    if (search.silent.size > 0)
      throw await this.#modules.requests.silence([...search.silent], 'what is left of the pool')
    if (search.isBusy || this.#nowMs() >= search.endMs)
      throw new TwillError(
        'ipam.owner-silent',
        'not every node that has addresses could be asked in time',
        { owners: [], names: [] },
        { retryable: true },
      )
    if (wanted.cooling && fenced.length > 0)
      throw await this.#modules.requests.silence(fenced, 'what is left of the pool')
    const { cooling } = wanted
    if (cooling) this.#hopelessMs.set(pool.uid, this.#nowMs())
    else this.#nothingFreshMs.set(pool.uid, this.#nowMs())
    return null
  }

  /** Slots in which others own something, in an order of chance; those of silent owners come last. Looks no further than asked. */
  *#batches(pool: ClaimablePool, silentToo: boolean): Generator<Unread[]> {
    const silent: Unread[] = []
    let batch: Unread[] = []
    for (const key of shuffled([...this.#modules.slots.keysOf(pool.uid)], this.#modules.random)) {
      const parts = this.#othersParts(key)
      const slot = parts.length === 0 ? undefined : parseSlotKey(key)?.slot
      if (slot === undefined) continue
      if (parts.every(part => this.#isSilent(part))) silent.push({ slot, parts })
      else batch.push({ slot, parts })
      if (batch.length < READS) continue
      yield batch
      batch = []
    }
    const rest = silentToo ? [...batch, ...silent] : batch
    for (let i = 0; i < rest.length; i += READS) yield rest.slice(i, i + READS)
  }

  /** Fenced ones are not theirs to give. */
  #othersParts(key: string): Part[] {
    const parts = this.#modules.slots.get(key)?.value.parts ?? []
    return parts.filter(
      part => part.owner !== null && part.owner !== this.#options.nodeUid && part.fence === null,
    )
  }

  #fencedOwners(pool: ClaimablePool): string[] {
    const { slots } = this.#modules
    const keys = [...slots.withFences()].filter(key => slots.keysOf(pool.uid).has(key))
    const parts = keys.flatMap(key => slots.get(key)?.value.parts ?? [])
    return [
      ...new Set(parts.flatMap(part => (part.owner !== null && part.fence !== null ? [part.owner] : []))),
    ]
  }

  #isSilent({ owner }: Part): boolean {
    const atMs = this.#silentMs.get(owner ?? '')
    return atMs !== undefined && this.#nowMs() - atMs < SILENCE_COUNTS_MS
  }

  #withRoom(pool: ClaimablePool, batch: readonly Unread[], cooling: boolean): Promise<Candidate[]> {
    return Promise.all(
      batch.map(async ({ slot, parts }) => {
        const owners = [...new Set(parts.map(part => part.owner as string))]
        const entries = await Promise.all(
          owners.map(owner => this.#modules.store.get(ledgerKey(pool.uid, slot, owner))),
        )
        const ledgers = entries.map(({ entry }) => entry?.modRevision ?? 0).join(' ')
        const rooms = owners.map((owner, i) => {
          const own = { key: slotKey(pool.uid, slot), parts: parts.filter(part => part.owner === owner) }
          const entry = entries[i]?.entry ?? null
          return entry === null ? this.#roomOf(own, null, cooling) : this.#roomBy(own, entry, cooling)
        })
        return { slot, parts, ledgers, room: rooms.reduce((sum, room) => sum + room, 0) }
      }),
    )
  }

  /** One that cannot be read shows none. */
  #roomBy(own: OwnersParts, { value, key }: KeyValue, cooling: boolean): number {
    try {
      return this.#roomOf(own, parseLedger(value, key), cooling)
    } catch {
      return 0
    }
  }

  /** A guess, for choosing only: it uses the wall clock of another node. */
  #roomOf({ key, parts }: OwnersParts, ledger: LedgerRecord | null, cooling: boolean): number {
    const cidrs = parts.map(({ cidr }) => parseCidr(cidr))
    const size = cidrs.reduce((sum, cidr) => sum + Number(sizeOf(cidr)), 0)
    const generations = [...new Set(parts.map(part => String(part.generation)))]
    const held = generations.flatMap(generation => Object.keys(ledger?.generations[generation] ?? {}))
    if (cooling) return size - held.length
    const sinceMs = this.#modules.clock.realtimeMs() - this.#options.coolDownMs
    const released = (ledger?.recent ?? [])
      .filter(({ address, until }) => until > sinceMs && cidrs.some(cidr => contains(cidr, parseIp(address))))
      .map(({ address }) => address)
    const given = parts.flatMap(part => this.#modules.givenCooling.of(key, part))
    return size - new Set([...held, ...released, ...given]).size
  }

  #hasJustRefused(pool: ClaimablePool, { slot, ledgers }: Candidate, { cooling }: Search): boolean {
    const refusal = this.#refused.get(`${slotKey(pool.uid, slot)} ${cooling}`)
    if (refusal === undefined || refusal.ledgers !== ledgers) return false
    return this.#nowMs() - refusal.atMs < REFUSAL_COUNTS_MS
  }

  /** One after the other, the next also when an answer takes long. */
  async #askAll(pool: ClaimablePool, candidates: readonly Candidate[], search: Search): Promise<void> {
    for (const candidate of candidates) {
      if (this.#isOver(search)) return
      const question = this.#askOne(pool, candidate, search).finally(() => search.running.delete(question))
      search.running.add(question)
      await this.#orAfter(HEDGE_MS, question)
      while (search.running.size >= QUESTIONS && !this.#isOver(search)) await Promise.race(search.running)
    }
  }

  async #askOne(pool: ClaimablePool, candidate: Candidate, search: Search): Promise<void> {
    const { requests } = this.#modules
    try {
      const patienceMs = Math.max(0, search.endMs - this.#nowMs())
      const answer = await requests.ask(pool.uid, candidate.slot, null, {
        patienceMs,
        fresh: !search.cooling,
      })
      this.#learn(pool, candidate, answer, search)
    } catch (error) {
      search.failure ??= { error }
    }
  }

  #learn(pool: ClaimablePool, candidate: Candidate, answer: Answer, search: Search): void {
    const nowMs = this.#nowMs()
    if (answer.kind === 'given') search.found = answer.part
    if (answer.kind === 'busy') search.isBusy = true
    if (answer.kind === 'refused')
      this.#refused.set(`${slotKey(pool.uid, candidate.slot)} ${search.cooling}`, {
        atMs: nowMs,
        ledgers: candidate.ledgers,
      })
    const silent = answer.kind === 'silent' ? answer.owners : []
    for (const owner of silent) search.silent.add(owner)
    for (const { owner } of candidate.parts)
      if (silent.includes(owner as string)) this.#silentMs.set(owner as string, nowMs)
      else this.#silentMs.delete(owner as string)
  }

  #isOver(search: Search): boolean {
    return search.found !== null || search.failure !== null || this.#nowMs() >= search.endMs
  }

  async #orAfter(ms: number, question: Promise<void>): Promise<void> {
    let end = () => {}
    const passed = new Promise<void>(resolve => {
      end = resolve
    })
    const timer = this.#modules.clock.setTimer(ms, end)
    await Promise.race([question, passed])
    timer.cancel()
  }

  #nowMs(): number {
    return this.#modules.clock.boottimeMs()
  }
}

const isWithin = (ms: number, atMs: number | undefined, nowMs: number): boolean =>
  atMs !== undefined && nowMs - atMs < ms

/** Lazily, in place. */
function* shuffled<T>(items: T[], random: Random): Generator<T> {
  for (let left = items.length; left > 0; left--) {
    const i = Math.floor(random.fraction() * left)
    const item = items[i] as T
    items[i] = items[left - 1] as T
    yield item
  }
}
