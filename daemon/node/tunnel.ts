/**
 * This node's addresses on the overlay: one of each family that has an overlay pool, from its own parts, journaled
 * like a pod's. Asked for again and again until every family has one.
 *
 * One whose pool is to be left is replaced, make before break: the new one is on the device first, then it is told to
 * the peers, and the old one goes when nobody can still count on it. Where nothing is left but the nodes' own addresses
 * (the last pool of a family is being deleted), it goes without another.
 *
 * Trap: a peer believes an address only in a part that it knows to be ours, and slots and node records reach it by two
 * watches: hence the waiting, of which nothing but a route for a moment depends.
 */
import type { HeldAddress, Holder, Ipam } from '../../ipam/ipam.ts'
import { isLost, type LostPart } from '../../ipam/lost-part.ts'
import type { Family } from '../../lib/address.ts'
import type { Clock, Timer } from '../../lib/clock.ts'
import { messageOf } from '../../lib/errors.ts'
import type { Log } from '../../lib/log.ts'
import { isOverlay } from '../../routing/parts.ts'
import type { JournalRecord, JournalState } from '../journal/records.ts'
import type { Cluster } from './cluster.ts'

export interface TunnelModules {
  readonly ipam: Pick<Ipam, 'allocate' | 'recorded' | 'release' | 'standing'>
  readonly cluster: Pick<Cluster, 'complete' | 'pools'>
  readonly journal: { append(record: JournalRecord): Promise<void> }
  readonly clock: Clock
  readonly log: Log
  readonly changed: () => void
  /** A pod lives here that has an address of this family. */
  readonly holdsPods: (family: Family) => boolean
}

const RETRY_MS = 500
/** So long after it was taken peers know the part that an address is from. */
export const LEARN_MS = 5_000
/** So long an address that was replaced is still ours: for peers that hear late, and for connections of the node itself. */
export const GRACE_MS = 30_000

interface Own {
  readonly held: HeldAddress
  /** Of the holder. */
  readonly id: string
  /** taken: on its way into the journal; coming: on the device, not told; current: told; going: still on the device. */
  phase: 'taken' | 'coming' | 'current' | 'going'
  timer: Timer | null
}

export class TunnelAddresses {
  readonly #modules: TunnelModules
  #own: readonly Own[]
  /** Taken for these holders, and in no journal yet: for the next attempt, unless its pool is to be left. */
  readonly #unwritten = new Map<string, HeldAddress>()
  #asking = false
  /** Why there is none yet. */
  #told = ''
  #timer: Timer | null = null
  #stopped = false

  constructor(options: { journaled: JournalState['tunnel'] }, modules: TunnelModules) {
    this.#modules = modules
    const journaled = options.journaled?.addresses ?? []
    this.#own = journaled.map((address, index) => {
      const { holder, ...held } = address
      const isReplaced = journaled.slice(index + 1).some(({ family }) => family === held.family)
      return {
        held,
        id: holder ?? tunnelId(held.family),
        phase: isReplaced ? 'going' : 'current',
        timer: null,
      }
    })
    for (const own of this.#in('going')) this.#goLater(own)
  }

  /** What peers are told. */
  byFamily(): Partial<Record<Family, string>> {
    return Object.fromEntries(this.#in('current').map(({ held }) => [held.family, held.address]))
  }

  /** Also ours, and on the device: not told yet, or no more. */
  beside(): { readonly family: Family; readonly address: string }[] {
    return this.#in('coming', 'going').map(({ held: { family, address } }) => ({ family, address }))
  }

  /**
   * What the ledgers say this node holds, when the journal has forgotten it: peers notice nothing.
   * @throws journal.write-failed
   */
  async adopt(holders: readonly { readonly id: string; readonly held: HeldAddress }[]): Promise<void> {
    const known = new Set(this.#own.map(({ held }) => held.family))
    const forgotten = holders.filter(({ held }) => !known.has(held.family))
    if (forgotten.length === 0) return
    const all = [
      ...this.#own,
      ...forgotten.map(({ id, held }): Own => ({ id, held, phase: 'current', timer: null })),
    ]
    await this.#write(all)
    this.#own = all
    // Of two of one family one was to replace the other.
    for (const own of this.#in('current').filter(each => each !== this.#current(each.held.family)))
      this.#retire(own)
  }

  /** Call when pools may have changed. */
  check(): void {
    if (this.#asking || this.#stopped || !this.#modules.cluster.complete) return
    this.#timer?.cancel()
    for (const family of FAMILIES) this.#giveUp(family)
    this.#releaseUnwritten(({ poolUid }) => this.#modules.ipam.standing(poolUid, 'tunnel') !== 'stays')
    const [missing, leaving] = [this.#missing(), this.#leaving()]
    if (missing.length + leaving.length === 0) return
    this.#asking = true
    this.#allocate([...missing, ...leaving]).then(
      () => {
        this.#asking = false
        this.#told = ''
        // One may have been lost meanwhile.
        this.check()
      },
      error => {
        this.#asking = false
        this.#tellFailure(messageOf(error))
        const delayMs = missing.length > 0 ? RETRY_MS : LEARN_MS
        this.#timer = this.#modules.clock.setTimer(delayMs, () => this.check())
      },
    )
  }

  /**
   * The part that this holder's address is from belongs to somebody else now: another node may already send from it.
   * @returns false if the holder is none of ours
   */
  lose(holderId: string, part: LostPart): boolean {
    if (this.#releaseUnwritten((held, id) => id === holderId && isLost(held, part))) return true
    const lost = this.#own.filter(({ id, held }) => id === holderId && isLost(held, part))
    if (lost.length === 0) return false
    const { ipam, log, changed } = this.#modules
    log.error(
      { lost: lost.map(({ held }) => held.address) },
      'a tunnel address is no longer of this node: replacing it',
    )
    this.#forget(lost)
    ipam.release(holderId)
    for (const own of this.#in('coming'))
      if (this.#current(own.held.family) === undefined) this.#announce(own)
    // Unwritten, the journal names an address that is not ours, which the next start finds out again.
    this.#write(this.#own)
      .catch(error =>
        log.warn({ error: messageOf(error) }, 'the loss of a tunnel address could not be journaled'),
      )
      .finally(() => {
        changed()
        this.check()
      })
    return true
  }

  /** Was there one? */
  #releaseUnwritten(isMeant: (held: HeldAddress, id: string) => boolean): boolean {
    const meant = [...this.#unwritten].filter(([id, held]) => isMeant(held, id))
    for (const [id] of meant) {
      this.#unwritten.delete(id)
      this.#modules.ipam.release(id)
    }
    return meant.length > 0
  }

  stop(): void {
    this.#stopped = true
    this.#timer?.cancel()
    for (const { timer } of this.#own) timer?.cancel()
  }

  #in(...phases: readonly Own['phase'][]): Own[] {
    return this.#own.filter(({ phase }) => phases.includes(phase))
  }

  /** The youngest, should there be two. */
  #current(family: Family): Own | undefined {
    return this.#in('current').findLast(({ held }) => held.family === family)
  }

  #overlays(family: Family) {
    const pools = this.#modules.cluster.pools().filter(isOverlay)
    return pools.filter(
      ({ metadata, spec }) =>
        spec.cidr.includes(':') === (family === 6) &&
        spec.allowedUses.includes('tunnel') &&
        !spec.disabled &&
        this.#modules.ipam.standing(metadata.uid ?? '', 'tunnel') === 'stays',
    )
  }

  #missing(): Family[] {
    return FAMILIES.filter(family => this.#current(family) === undefined && this.#overlays(family).length > 0)
  }

  /** Families whose address is of a pool that is to be left, while another pool has one to give. */
  #leaving(): Family[] {
    return FAMILIES.filter(family => {
      const current = this.#current(family)
      if (current === undefined || this.#freeId(family) === undefined) return false
      const isComing = this.#in('taken', 'coming').some(({ held }) => held.family === family)
      return !isComing && this.#standingOf(current) !== 'stays' && this.#overlays(family).length > 0
    })
  }

  #standingOf({ held }: Own) {
    return this.#modules.ipam.standing(held.poolUid, 'tunnel')
  }

  /** No pod is left that an address on the overlay could be for, and there is no other pool. */
  #giveUp(family: Family): void {
    const current = this.#current(family)
    if (current === undefined || this.#standingOf(current) !== 'given-up') return
    if (this.#overlays(family).length > 0 || this.#modules.holdsPods(family)) return
    current.phase = 'going'
    this.#modules.changed()
    this.#go(current)
  }

  /** One family's want keeps no other from its address. @throws what the first that failed did */
  async #allocate(families: readonly Family[]): Promise<void> {
    let failure: { readonly error: unknown } | null = null
    for (const family of families)
      try {
        await this.#allocateOne(family)
      } catch (error) {
        failure ??= { error }
      }
    if (failure !== null) throw failure.error
  }

  async #allocateOne(family: Family): Promise<void> {
    const { ipam, clock, changed } = this.#modules
    const id = this.#freeId(family) ?? tunnelId(family)
    const holder = tunnelHolder(family, clock.realtimeMs(), id)
    const pools = this.#overlays(family).map(pool => pool.metadata.name)
    const taken = await ipam.allocate({ holder, families: [family], pools })
    const fresh = taken.map((held): Own => ({ held, id, phase: 'taken', timer: null }))
    this.#own = [...this.#own, ...fresh]
    try {
      await this.#write(this.#own)
      this.#unwritten.delete(id)
    } catch (error) {
      for (const { held } of fresh.filter(each => this.#own.includes(each))) this.#unwritten.set(id, held)
      this.#forget(fresh)
      throw error
    }
    const [own] = fresh.filter(each => this.#own.includes(each))
    if (own === undefined) return
    ipam.recorded(id)
    if (this.#current(family) === undefined) own.phase = 'current'
    else {
      own.phase = 'coming'
      own.timer = clock.setTimer(LEARN_MS, () => this.#announce(own))
    }
    changed()
  }

  #announce(own: Own): void {
    const { log, changed } = this.#modules
    const before = this.#in('current').filter(({ held }) => held.family === own.held.family)
    own.timer?.cancel()
    own.phase = 'current'
    log.info(
      { address: own.held.address, before: before.map(({ held }) => held.address) },
      'the address on the overlay is another from now on',
    )
    for (const each of before) this.#retire(each)
    changed()
  }

  #retire(own: Own): void {
    own.phase = 'going'
    this.#goLater(own)
  }

  #goLater(own: Own): void {
    own.timer = this.#modules.clock.setTimer(GRACE_MS, () => this.#go(own))
  }

  /** Out of the journal first, then free for others. */
  #go(own: Own): void {
    const { ipam, log, changed } = this.#modules
    this.#write(this.#own.filter(each => each !== own)).then(
      () => {
        this.#forget([own])
        ipam.release(own.id)
        changed()
      },
      error => {
        log.warn(
          { error: messageOf(error) },
          'an address on the overlay is kept until the journal can be written',
        )
        if (!this.#stopped) this.#goLater(own)
      },
    )
  }

  #forget(gone: readonly Own[]): void {
    for (const { timer } of gone) timer?.cancel()
    this.#own = this.#own.filter(own => !gone.includes(own))
  }

  /** Two of a family are ours at most. */
  #freeId(family: Family): string | undefined {
    const ids = [tunnelId(family), `${tunnelId(family)}b`]
    return ids.find(id => !this.#own.some(own => own.id === id))
  }

  #write(own: readonly Own[]): Promise<void> {
    const { journal, clock } = this.#modules
    const addresses = own.map(({ held, id }) =>
      id === tunnelId(held.family) ? held : { ...held, holder: id },
    )
    return journal.append({ t: 'tunnel', addresses, since: clock.realtimeMs() })
  }

  /** Once: a node that no pool is for asks for ever. */
  #tellFailure(reason: string): void {
    if (reason !== this.#told)
      this.#modules.log.info({ error: reason }, 'no tunnel address yet; trying again')
    this.#told = reason
  }
}

const FAMILIES = [4, 6] as const

const tunnelId = (family: Family): string => `tunnel-${family}`

export function tunnelHolder(family: Family, since: number, id = tunnelId(family)): Holder {
  return {
    id,
    kind: 'tunnel',
    network: '',
    containerId: '',
    ifName: '',
    pod: null,
    since,
  }
}
