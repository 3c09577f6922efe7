/**
 * The claims of this node that are under way. Whoever needs a part waits for those that are, and begins one only where
 * there is none. A claim takes two round trips and a sync of the store's disk, which is nothing beside a pod's start, and
 * much where thousands of addresses go out in a second: a node that is kept waiting again and again claims several parts
 * at once, ahead of need, for as long as it needs more each second.
 */
import { bitsOf, type Family, type Ip } from '../lib/address.ts'
import type { Clock } from '../lib/clock.ts'
import { KeyedQueue } from '../lib/queue.ts'
import type { ClaimWanted } from './choose-slot.ts'
import type { NodeLimit } from './node-limit.ts'
import type { OwnedPart } from './own-slots.ts'
import type { Ownership } from './ownership.ts'
import type { KnownPool } from './pool-view.ts'

export interface ClaimsOptions {
  readonly nodeLimit: NodeLimit
  /** How many addresses one part more may have; 0: none. */
  readonly mayAdd: (family: Family) => number
  readonly onClaimed: () => void
  /** More than the usual is wanted ahead from now on. */
  readonly onHurry: () => void
  readonly onFailure: () => void
}

export interface ClaimsModules {
  readonly clock: Clock
  readonly ownership: Pick<Ownership, 'claim' | 'claimAddress'>
}

type Claim = Promise<OwnedPart | null>

interface Hurry {
  /** How often somebody had to wait for a part, with less than HURRY_MS between. */
  readonly waits: number
  /** BOOTTIME of the last wait or, in a hurry, of the last claim. */
  readonly atMs: number
}

const CALM: Hurry = { waits: 0, atMs: Number.NEGATIVE_INFINITY }
const HURRY_MS = 1_000
/** Fewer are nothing out of the ordinary. */
const WAITS = 3
const MOST_AHEAD = 4

export class Claims {
  readonly #options: ClaimsOptions
  readonly #modules: ClaimsModules
  /** In need, by what is claimed. */
  readonly #needed = new Map<string, Claim>()
  /** Ahead of need, by pool. */
  readonly #ahead = new Map<string, Set<Claim>>()
  readonly #limited = new KeyedQueue()
  readonly #waitedFor = new WeakSet<Claim>()
  readonly #hurry = new Map<string, Hurry>()

  constructor(options: ClaimsOptions, modules: ClaimsModules) {
    this.#options = options
    this.#modules = modules
  }

  /**
   * A part for somebody who waits for it; `cooling`: also one in which every address cools. null: nothing is free, or this node owns as much as it may.
   * @throws store.*, journal.write-failed
   */
  async need(pool: KnownPool, wanted: { readonly cooling: boolean }): Claim {
    const ahead = this.#ahead.get(pool.uid)
    if (ahead === undefined) return this.#need(pool, wanted)
    this.#waitFor(ahead, pool)
    return (await firstOf(ahead)) ?? this.#need(pool, wanted)
  }

  #need(pool: KnownPool, { cooling }: { readonly cooling: boolean }): Claim {
    return this.#once(`${pool.uid} ${cooling ? 'cooling' : 'fresh'}`, () => {
      this.#hurryUp(pool)
      return this.#claim(pool, { wholeOnly: false, cooling })
    })
  }

  /** However many wait for the same claims, it is one wait. */
  #waitFor(claims: ReadonlySet<Claim>, pool: KnownPool): void {
    if ([...claims].some(claim => this.#waitedFor.has(claim))) return
    for (const claim of claims) this.#waitedFor.add(claim)
    this.#hurryUp(pool)
  }

  /** The part of ours that has this address, claimed if need be; null: another's. @throws as Ownership.claimAddress */
  address(pool: KnownPool, ip: Ip): Claim {
    return this.#once(`${pool.uid} ${ip.value}`, () => this.#modules.ownership.claimAddress(pool, ip))
  }

  /** How many addresses are to be free in the pool for the pace at which they go out; 0: there is no hurry. */
  wanted(pool: KnownPool): number {
    return this.#partsAhead(pool) * sizeOf(pool)
  }

  /**
   * Whole slots for so many addresses more: one, or several at once in a hurry.
   * @returns whether there is one now. @throws as `need`
   */
  async ahead(pool: KnownPool, addresses: number): Promise<boolean> {
    const most = Math.max(1, this.#partsAhead(pool))
    const count = Math.min(most, Math.ceil(addresses / sizeOf(pool)))
    const claims = Array.from({ length: count }, () => this.#claimAhead(pool))
    return (await Promise.all(claims)).some(part => part !== null)
  }

  async settled(): Promise<void> {
    await Promise.allSettled([
      ...this.#needed.values(),
      ...[...this.#ahead.values()].flatMap(each => [...each]),
    ])
  }

  #claimAhead(pool: KnownPool): Claim {
    const hurry = this.#hurry.get(pool.uid) ?? CALM
    if (this.#partsAhead(pool) > 0) this.#hurry.set(pool.uid, { ...hurry, atMs: this.#nowMs() })
    const running = this.#ahead.get(pool.uid) ?? new Set<Claim>()
    this.#ahead.set(pool.uid, running)
    const claim = this.#told(this.#claim(pool, { wholeOnly: true, cooling: true })).finally(() => {
      running.delete(claim)
      if (running.size === 0) this.#ahead.delete(pool.uid)
    })
    running.add(claim)
    return claim
  }

  #once(what: string, begin: () => Claim): Claim {
    const running = this.#needed.get(what)
    if (running !== undefined) return running
    const claim = this.#told(begin()).finally(() => this.#needed.delete(what))
    this.#needed.set(what, claim)
    return claim
  }

  /** Where this node may own only so much, the next begins when it is known what the last one has added. */
  #claim(pool: KnownPool, wanted: Omit<ClaimWanted, 'atMost'>): Claim {
    const { mayAdd, nodeLimit } = this.#options
    const { family } = pool.cidr
    const begin = async () => {
      const atMost = mayAdd(family)
      return atMost === 0 ? null : this.#modules.ownership.claim(pool, { ...wanted, atMost })
    }
    const limited = nodeLimit.parts !== null || nodeLimit.addresses !== null
    return limited ? this.#limited.run(String(family), begin) : begin()
  }

  #told(claim: Claim): Claim {
    void claim.then(
      // With nothing to claim there is nothing new to see to: a pass for that would never end.
      part => part !== null && this.#options.onClaimed(),
      () => this.#options.onFailure(),
    )
    return claim
  }

  #partsAhead({ uid }: KnownPool): number {
    const { waits, atMs } = this.#hurry.get(uid) ?? CALM
    return waits < WAITS || this.#nowMs() - atMs >= HURRY_MS ? 0 : Math.min(MOST_AHEAD, 2 ** (waits - WAITS))
  }

  #hurryUp(pool: KnownPool): void {
    const { waits, atMs } = this.#hurry.get(pool.uid) ?? CALM
    const nowMs = this.#nowMs()
    this.#hurry.set(pool.uid, { waits: nowMs - atMs < HURRY_MS ? waits + 1 : 1, atMs: nowMs })
    if (this.#partsAhead(pool) > 0) this.#options.onHurry()
  }

  #nowMs(): number {
    return this.#modules.clock.boottimeMs()
  }
}

const sizeOf = ({ cidr, slotPrefix }: KnownPool): number => 2 ** (bitsOf(cidr.family) - slotPrefix)

/** The first part; null when none of them yields one. @throws what one of them did, when none yields a part */
async function firstOf(claims: ReadonlySet<Claim>): Claim {
  const failures: unknown[] = []
  const running = new Map([...claims].map(claim => [claim, ended(claim, failures)]))
  while (running.size > 0) {
    const { claim, part } = await Promise.race(running.values())
    if (part !== null) return part
    running.delete(claim)
  }
  if (failures.length > 0) throw failures[0]
  return null
}

async function ended(claim: Claim, failures: unknown[]): Promise<{ claim: Claim; part: OwnedPart | null }> {
  try {
    return { claim, part: await claim }
  } catch (error) {
    failures.push(error)
    return { claim, part: null }
  }
}
