/**
 * This node's addresses on the overlay: one of each family that has an overlay pool, from its own parts, journaled
 * like a pod's. Asked for again and again until every family has one.
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
  readonly ipam: Pick<Ipam, 'allocate' | 'recorded' | 'release'>
  readonly cluster: Pick<Cluster, 'complete' | 'pools'>
  readonly journal: { append(record: JournalRecord): Promise<void> }
  readonly clock: Clock
  readonly log: Log
  readonly changed: () => void
}

const RETRY_MS = 500

export class TunnelAddresses {
  readonly #modules: TunnelModules
  #addresses: readonly HeldAddress[]
  /** On their way into the journal. */
  #taken: readonly HeldAddress[] = []
  #asking = false
  /** Why there is none yet. */
  #told = ''
  #timer: Timer | null = null
  #stopped = false

  constructor(options: { journaled: JournalState['tunnel'] }, modules: TunnelModules) {
    this.#modules = modules
    this.#addresses = options.journaled?.addresses ?? []
  }

  byFamily(): Partial<Record<Family, string>> {
    return Object.fromEntries(this.#addresses.map(({ family, address }) => [family, address]))
  }

  /**
   * What the ledgers say this node holds, when the journal has forgotten it: peers notice nothing.
   * @throws journal.write-failed
   */
  async adopt(addresses: readonly HeldAddress[]): Promise<void> {
    const forgotten = addresses.filter(
      ({ family }) => !this.#addresses.some(known => known.family === family),
    )
    if (forgotten.length === 0) return
    const { journal, clock } = this.#modules
    const all = [...this.#addresses, ...forgotten]
    await journal.append({ t: 'tunnel', addresses: all, since: clock.realtimeMs() })
    this.#addresses = all
  }

  /** Call when pools may have changed. */
  check(): void {
    if (this.#asking || this.#stopped || this.#missing().length === 0) return
    this.#asking = true
    this.#allocate().then(
      () => {
        this.#asking = false
        this.#told = ''
        // One may have been lost meanwhile.
        this.check()
      },
      error => {
        this.#asking = false
        this.#tellFailure(messageOf(error))
        this.#timer = this.#modules.clock.setTimer(RETRY_MS, () => this.check())
      },
    )
  }

  /**
   * The part that this holder's address is from belongs to somebody else now: another node may already send from it.
   * @returns false if the holder is none of ours
   */
  lose(holderId: string, part: LostPart): boolean {
    const isOfIt = (address: HeldAddress) => tunnelId(address.family) === holderId && isLost(address, part)
    const lost = [...this.#addresses, ...this.#taken].filter(isOfIt)
    if (lost.length === 0) return false
    const { ipam, journal, clock, log, changed } = this.#modules
    log.error(
      { lost: lost.map(({ address }) => address) },
      'a tunnel address is no longer of this node: replacing it',
    )
    this.#addresses = this.#addresses.filter(address => !isOfIt(address))
    this.#taken = this.#taken.filter(address => !isOfIt(address))
    ipam.release(holderId)
    // Unwritten, the journal names an address that is not ours, which the next start finds out again.
    journal
      .append({ t: 'tunnel', addresses: [...this.#addresses, ...this.#taken], since: clock.realtimeMs() })
      .catch(error =>
        log.warn({ error: messageOf(error) }, 'the loss of a tunnel address could not be journaled'),
      )
      .finally(() => {
        changed()
        this.check()
      })
    return true
  }

  stop(): void {
    this.#stopped = true
    this.#timer?.cancel()
  }

  #overlays(family: Family) {
    const pools = this.#modules.cluster.pools().filter(isOverlay)
    const forTunnels = pools.filter(pool => pool.spec.allowedUses.includes('tunnel'))
    return forTunnels.filter(pool => pool.spec.cidr.includes(':') === (family === 6) && !pool.spec.disabled)
  }

  #missing(): Family[] {
    if (!this.#modules.cluster.complete) return []
    return ([4, 6] as const).filter(
      family =>
        !this.#addresses.some(address => address.family === family) && this.#overlays(family).length > 0,
    )
  }

  /** One family's want keeps no other from its address. @throws what the first that failed did */
  async #allocate(): Promise<void> {
    let failure: { readonly error: unknown } | null = null
    for (const family of this.#missing())
      try {
        await this.#allocateOne(family)
      } catch (error) {
        failure ??= { error }
      }
    if (failure !== null) throw failure.error
  }

  async #allocateOne(family: Family): Promise<void> {
    const { ipam, journal, clock, changed } = this.#modules
    const since = clock.realtimeMs()
    const holder = tunnelHolder(family, since)
    const pools = this.#overlays(family).map(pool => pool.metadata.name)
    const taken = await ipam.allocate({ holder, families: [family], pools })
    this.#taken = taken
    try {
      await journal.append({ t: 'tunnel', addresses: [...this.#addresses, ...taken], since })
      this.#addresses = [...this.#addresses, ...this.#taken]
    } finally {
      this.#taken = []
    }
    ipam.recorded(holder.id)
    changed()
  }

  /** Once: a node that no pool is for asks for ever. */
  #tellFailure(reason: string): void {
    if (reason !== this.#told)
      this.#modules.log.info({ error: reason }, 'no tunnel address yet; trying again')
    this.#told = reason
  }
}

const tunnelId = (family: Family): string => `tunnel-${family}`

export function tunnelHolder(family: Family, since: number): Holder {
  return {
    id: tunnelId(family),
    kind: 'tunnel',
    network: '',
    containerId: '',
    ifName: '',
    pod: null,
    since,
  }
}
