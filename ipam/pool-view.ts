/**
 * The pools as this node sees them: resources and address space by watch, or, until the store was reached, as
 * the journal remembers them. Also enters resources that somebody wrote around `createPool`, and says which
 * pools cannot be used and why.
 */
import { ADDRESS_SPACE_KEY, PREFIX } from '../datastore/keys.ts'
import { Mirror } from '../datastore/mirror.ts'
import { recordParser } from '../datastore/record.ts'
import { type AddressSpaceRecord, addressSpaceRecord } from '../datastore/records/address-space.ts'
import {
  gatewayOf,
  type IPPool,
  isForIpam,
  isNoHost,
  slotPrefixOf,
  type Use,
} from '../datastore/resources/ippool.ts'
import type { Store } from '../datastore/store.ts'
import {
  type Cidr,
  formatCidr,
  formatIp,
  type Ip,
  type IpRange,
  lastOf,
  parseCidr,
  parseIp,
} from '../lib/address.ts'
import type { Random } from '../lib/clock.ts'
import { isTwillError, messageOf } from '../lib/errors.ts'
import type { Log } from '../lib/log.ts'
import { AddressRanges } from './address-ranges.ts'
import { isEntryOf } from './address-space.ts'
import type { IpamJournal, JournaledPool } from './journal-records.ts'
import { admitPool, parsePool } from './pools.ts'

export interface KnownPool {
  readonly uid: string
  readonly name: string
  readonly cidr: Cidr
  readonly slotPrefix: number
  readonly disabled: boolean
  readonly uses: readonly Use[]
  /** Of a pool for ipam: what its attachments are told. */
  readonly gateway: Ip | null
  /** Never handed out. */
  readonly withheld: AddressRanges
  /** In the address space and not closed. */
  readonly open: boolean
}

export interface PoolCondition {
  readonly pool: string
  readonly reason: string
}

export interface PoolViewModules {
  readonly store: Store
  readonly random: Random
  readonly log: Log
  readonly journal: IpamJournal
}

const PREFIX_POOLS = `${PREFIX.resources}ippools/`

export class PoolView {
  readonly #modules: PoolViewModules
  readonly #resources: Mirror<IPPool>
  readonly #space: Mirror<AddressSpaceRecord>
  readonly #refused = new Map<string, string>()
  #journaled: string
  #pools: readonly KnownPool[]
  #isSynced = false

  constructor(
    options: {
      readonly journaled: readonly JournaledPool[]
      readonly onChange: () => void
      /** `address-space` is this now; null: there is none. */
      readonly onSpace: (space: AddressSpaceRecord | null) => void
    },
    modules: PoolViewModules,
  ) {
    this.#modules = modules
    this.#journaled = JSON.stringify(options.journaled)
    this.#pools = options.journaled.map(known)
    const changed = () => {
      this.#rebuild()
      options.onChange()
    }
    this.#resources = new Mirror({ prefix: PREFIX_POOLS, parse: parsePool, onChange: changed }, modules)
    this.#space = new Mirror(
      {
        prefix: ADDRESS_SPACE_KEY,
        parse: recordParser(addressSpaceRecord),
        onChange: () => {
          options.onSpace(this.#space.entries.get(ADDRESS_SPACE_KEY)?.value ?? null)
          changed()
        },
      },
      modules,
    )
    void this.synced().then(() => {
      this.#isSynced = true
      changed()
    })
  }

  /** By name. */
  get pools(): readonly KnownPool[] {
    return this.#pools
  }

  /** False: what `pools` says is from the journal. */
  get isSynced(): boolean {
    return this.#isSynced
  }

  /** The same object while the pool has not changed. */
  withheld(uid: string): AddressRanges {
    return this.#pools.find(pool => pool.uid === uid)?.withheld ?? NOTHING_WITHHELD
  }

  isOpen(uid: string): boolean {
    return this.#pools.some(pool => pool.uid === uid && pool.open)
  }

  async synced(): Promise<void> {
    await Promise.all([this.#resources.synced(), this.#space.synced()])
  }

  async close(): Promise<void> {
    await Promise.all([this.#resources.close(), this.#space.close()])
  }

  /** Pools that are written down and cannot be used. */
  conditions(): PoolCondition[] {
    const unreadable = [...this.#resources.aside.values()].map(({ key, reason }) => ({
      pool: key.slice(PREFIX_POOLS.length),
      reason,
    }))
    return [...unreadable, ...[...this.#refused].map(([pool, reason]) => ({ pool, reason }))]
  }

  /** Enters what is not in the address space yet. @throws store.* */
  async admit(): Promise<void> {
    if (!this.#isSynced) return
    for (const { value: pool } of [...this.#resources.entries.values()]) {
      if (this.#isEntered(pool)) this.#refused.delete(pool.metadata.name)
      else await this.#admitOne(pool)
    }
    for (const name of this.#refused.keys())
      if (!this.#resources.entries.has(`${PREFIX_POOLS}${name}`)) this.#refused.delete(name)
  }

  #isEntered(pool: IPPool): boolean {
    const entries = this.#space.entries.get(ADDRESS_SPACE_KEY)?.value.pools ?? []
    return entries.some(entry => isEntryOf(entry, pool))
  }

  async #admitOne(pool: IPPool): Promise<void> {
    try {
      await admitPool(pool, this.#modules)
      this.#refused.delete(pool.metadata.name)
    } catch (error) {
      if (!isTwillError(error, 'ipam.pool-overlap')) throw error
      if (!this.#refused.has(pool.metadata.name))
        this.#modules.log.error({ pool: pool.metadata.name, err: error.message }, 'pool is not used')
      this.#refused.set(pool.metadata.name, error.message)
    }
  }

  /** Journals what changed. @throws journal.write-failed */
  async record(): Promise<void> {
    if (!this.#isSynced) return
    const pools = this.#pools.map(journaledPool)
    const text = JSON.stringify(pools)
    if (text === this.#journaled) return
    await this.#modules.journal.append({ t: 'pools', pools })
    this.#journaled = text
  }

  #rebuild(): void {
    if (!this.#isSynced) return
    const space = this.#space.entries.get(ADDRESS_SPACE_KEY)?.value ?? null
    this.#pools = [...this.#resources.entries.values()]
      .flatMap(({ value }) => this.#knownOf(value, space))
      .sort((a, b) => (a.name < b.name ? -1 : 1))
  }

  #knownOf(pool: IPPool, space: AddressSpaceRecord | null): KnownPool[] {
    const { uid, name } = pool.metadata
    if (uid === undefined) return []
    try {
      const cidr = parseCidr(pool.spec.cidr)
      const { disabled, allowedUses: uses } = pool.spec
      const gateway = isForIpam(pool) ? parseIp(gatewayOf(pool)) : null
      const open = space?.pools.some(entry => isEntryOf(entry, pool) && entry.state === 'open') ?? false
      const withheld = withheldOf(cidr, gateway)
      return [{ uid, name, cidr, slotPrefix: slotPrefixOf(pool), disabled, uses, gateway, withheld, open }]
    } catch (error) {
      this.#modules.log.error({ pool: name, err: messageOf(error) }, 'pool is not used')
      return []
    }
  }
}

/** Attachments of a pool for ipam are hosts of one subnet, with a router (rule 18). */
function withheldOf(cidr: Cidr, gateway: Ip | null): AddressRanges {
  if (gateway === null) return NOTHING_WITHHELD
  const ends = [{ family: cidr.family, value: cidr.base }, lastOf(cidr)].filter(ip => isNoHost(cidr, ip))
  return new AddressRanges([...ends, gateway].map(rangeOf))
}

const rangeOf = ({ family, value }: Ip): IpRange => ({ family, first: value, last: value })

/** One object for all: a part looks no further while it is given the same. */
export const NOTHING_WITHHELD = new AddressRanges([])

function journaledPool(pool: KnownPool): JournaledPool {
  const { withheld: _, ...kept } = pool
  const gateway = pool.gateway === null ? null : formatIp(pool.gateway)
  return { ...kept, cidr: formatCidr(pool.cidr), uses: [...pool.uses], gateway }
}

function known(pool: JournaledPool): KnownPool {
  const cidr = parseCidr(pool.cidr)
  const gateway = pool.gateway === null ? null : parseIp(pool.gateway)
  return { ...pool, cidr, gateway, withheld: withheldOf(cidr, gateway) }
}
