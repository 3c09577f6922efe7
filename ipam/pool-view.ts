/**
 * The pools as this node sees them: resources and address space by watch, or, until the store was reached, as
 * the journal remembers them. Also enters resources that somebody wrote around `createPool`, and says which
 * pools cannot be used and why.
 */
import { ADDRESS_SPACE_KEY, PREFIX, resourceKey } from '../datastore/keys.ts'
import { Mirror } from '../datastore/mirror.ts'
import { recordParser } from '../datastore/record.ts'
import { type AddressSpaceRecord, addressSpaceRecord } from '../datastore/records/address-space.ts'
import type { NodeRecord } from '../datastore/records/node.ts'
import {
  gatewayOf,
  type IPPool,
  isForIpam,
  isNoHost,
  slotPrefixOf,
  type Use,
} from '../datastore/resources/ippool.ts'
import { type Node, node, nodeLabels } from '../datastore/resources/node.ts'
import { type LabelSelector, type Labels, selects } from '../datastore/resources/selector.ts'
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
import { asEntered, isEntryOf, isNamesakeOf } from './address-space.ts'
import { coveredBy, coversText, underlaysOf, type Vital } from './covered.ts'
import type { Standing } from './ipam.ts'
import type { IpamJournal, IpamJournalState, JournaledPool, JournaledReservation } from './journal-records.ts'
import { Namespaces } from './namespaces.ts'
import { type NodeRanges, nodeRangesOf, type PodCidrs, rangesOutside } from './pod-cidrs.ts'
import { admitPool, isBeingDeleted, parsePool } from './pools.ts'
import { PREFIX_RESERVATIONS, parseReservation, type Reservation, reservationOf } from './reservations.ts'

export interface KnownPool {
  readonly uid: string
  readonly name: string
  readonly cidr: Cidr
  readonly slotPrefix: number
  readonly disabled: boolean
  /** Its nodeSelector means this node. */
  readonly here: boolean
  /** For pods of the namespaces that it means; null: for all pods. */
  readonly namespaceSelector: LabelSelector | null
  readonly uses: readonly Use[]
  /** Of a pool for ipam: what its attachments are told. */
  readonly gateway: Ip | null
  /** Of a pool of which each node takes only its podCIDRs; null: of any slot. */
  readonly nodeRanges: NodeRanges | null
  /** Never handed out. */
  readonly withheld: AddressRanges
  /** In the address space and not closed. */
  readonly open: boolean
  /** What of this node is in it, so that it is not used here: "covers 192.0.2.1, the address of this node"; null: nothing. */
  readonly covers: string | null
  /** asked: its document is to go; closed: it is being removed; emptied: and only nodes themselves hold addresses of it. */
  readonly ending: 'asked' | 'closed' | 'emptied' | null
}

/** Nothing is claimed of it ahead of a node's first need: not every node has pods or networks that use it. */
export const isOnDemand = ({ uses, namespaceSelector }: KnownPool): boolean =>
  uses.includes('ipam') || namespaceSelector !== null

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
/** Of `admitPool`: what is wrong with the pool, not with the store. */
const REFUSALS = ['ipam.pool-overlap', 'ipam.pool-changed', 'ipam.pool-covers'] as const

export class PoolView {
  readonly namespaces: Namespaces
  /** What `podCidrs` or `vitals` says may be another. */
  readonly recheck: () => void
  readonly #modules: PoolViewModules
  readonly #resources: Mirror<IPPool>
  readonly #space: Mirror<AddressSpaceRecord>
  readonly #reserving: Mirror<JournaledReservation>
  readonly #node: Mirror<Node>
  readonly #nodeName: string
  readonly #nodeLabels: Labels
  readonly #podCidrs: () => PodCidrs
  readonly #vitals: () => readonly Vital[]
  readonly #nodes: () => readonly Pick<NodeRecord, 'name' | 'underlay'>[]
  readonly #refused = new Map<string, string>()
  #journaled: string
  /** What journaled pools ask of namespaces. */
  #journaledSelectors: readonly LabelSelector[]
  #pools: readonly KnownPool[]
  #reservations: readonly Reservation[]
  #isSynced = false

  constructor(
    options: {
      readonly nodeName: string
      readonly nodeLabels: Labels
      /** Of its Node object. */
      readonly podCidrs: () => PodCidrs
      /** What this node lives by. */
      readonly vitals: () => readonly Vital[]
      readonly nodes: () => readonly Pick<NodeRecord, 'name' | 'underlay'>[]
      readonly journaled: Pick<IpamJournalState, 'pools' | 'reservations' | 'namespaces'>
      readonly onChange: () => void
      /** `address-space` is this now; null: there is none. */
      readonly onSpace: (space: AddressSpaceRecord | null) => void
    },
    modules: PoolViewModules,
  ) {
    this.#modules = modules
    this.#nodeName = options.nodeName
    this.#nodeLabels = options.nodeLabels
    this.#podCidrs = options.podCidrs
    this.#vitals = options.vitals
    this.#nodes = options.nodes
    const { pools, reservations } = options.journaled
    this.#journaled = JSON.stringify({ pools, reservations })
    this.#journaledSelectors = selectorsOf(pools)
    this.#reservations = reservations.map(reservationOf)
    this.#pools = pools.map(pool => known(pool, this.#reservations, this.#covers(pool)))
    const changed = () => {
      this.#rebuild()
      options.onChange()
    }
    this.recheck = changed
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
    this.#reserving = new Mirror(
      { prefix: PREFIX_RESERVATIONS, parse: parseReservation, onChange: changed },
      modules,
    )
    // Others whose names begin with ours come along.
    this.#node = new Mirror(
      { prefix: resourceKey('nodes', this.#nodeName), parse: recordParser(node), onChange: changed },
      modules,
    )
    const { namespaces } = options.journaled
    this.namespaces = new Namespaces({ journaled: namespaces, onChange: options.onChange }, modules)
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

  get reservations(): readonly Reservation[] {
    return this.#reservations
  }

  /** This node's Node, IPReservations and Namespaces that cannot be read: what they said before, if they were readable then, still counts. */
  unreadable(): string[] {
    const reservations = [...this.#reserving.aside.values()].map(({ reason }) => reason)
    const node = this.#node.aside.get(resourceKey('nodes', this.#nodeName))
    return [...(node === undefined ? [] : [node.reason]), ...reservations, ...this.namespaces.allUnreadable()]
  }

  /** There is an entry or a document of it. */
  knows(uid: string): boolean {
    const space = this.#space.entries.get(ADDRESS_SPACE_KEY)?.value
    const documents = [...this.#resources.entries.values()]
    return (
      space?.pools.some(pool => pool.uid === uid) === true ||
      documents.some(({ value }) => value.metadata.uid === uid)
    )
  }

  isOpen(uid: string): boolean {
    return this.#pools.some(pool => pool.uid === uid && pool.open)
  }

  /** Does this node keep parts of it that nobody uses? */
  isKept(uid: string): boolean {
    return this.#pools.some(pool => pool.uid === uid && pool.open && pool.here && pool.covers === null)
  }

  /** See Ipam. */
  standing(uid: string, use: Use): Standing {
    const pool = this.#isSynced ? this.#pools.find(each => each.uid === uid) : undefined
    if (pool === undefined) return 'stays'
    if (pool.ending === 'emptied') return 'given-up'
    const isOurs = pool.here && pool.covers === null && pool.uses.includes(use)
    return pool.ending !== 'closed' && isOurs ? 'stays' : 'replaced'
  }

  async synced(): Promise<void> {
    await Promise.all([
      this.#resources.synced(),
      this.#space.synced(),
      this.#reserving.synced(),
      this.#node.synced(),
      this.namespaces.synced(),
    ])
  }

  async close(): Promise<void> {
    await Promise.all([
      this.#resources.close(),
      this.#space.close(),
      this.#reserving.close(),
      this.#node.close(),
      this.namespaces.close(),
    ])
  }

  /** Pools that are written down and cannot be used. */
  conditions(): PoolCondition[] {
    const aside = [...this.#resources.aside.values(), ...this.#space.aside.values()]
    const unreadable = aside.map(({ key, reason }) => ({
      pool: key === ADDRESS_SPACE_KEY ? 'all' : key.slice(PREFIX_POOLS.length),
      reason,
    }))
    const ranges = this.#pools.flatMap(({ name, here, nodeRanges }) =>
      here && nodeRanges?.problem ? [{ pool: name, reason: `IPPool ${name} ${nodeRanges.problem}` }] : [],
    )
    const covering = this.#pools.flatMap(({ name, cidr, covers }) => {
      const reason = `IPPool ${name} (${formatCidr(cidr)}) ${covers}: it is not used here, and its pods are cut off`
      return covers === null || this.#refused.has(name) ? [] : [{ pool: name, reason }]
    })
    const refused = [...this.#refused].map(([pool, reason]) => ({ pool, reason }))
    return [...unreadable, ...refused, ...ranges, ...covering]
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
    return entries.some(entry => entry.blockSize !== undefined && isEntryOf(entry, pool))
  }

  async #admitOne(pool: IPPool): Promise<void> {
    try {
      await admitPool(pool, [...underlaysOf(this.#nodes()), ...this.#vitals()], this.#modules)
      this.#refused.delete(pool.metadata.name)
    } catch (error) {
      if (!REFUSALS.some(code => isTwillError(error, code))) throw error
      if (!this.#refused.has(pool.metadata.name))
        this.#modules.log.error({ pool: pool.metadata.name, err: messageOf(error) }, 'pool is not used')
      this.#refused.set(pool.metadata.name, messageOf(error))
    }
  }

  /** Journals what changed. @throws journal.write-failed */
  async record(): Promise<void> {
    if (!this.#isSynced) return
    const pools = this.#pools.map(journaledPool)
    const reservations = this.#readReservations()
    const selectors = selectorsOf(pools)
    // Killed before the pools are in the journal, those of before stand beside these namespaces.
    await this.namespaces.record([...this.#journaledSelectors, ...selectors])
    const text = JSON.stringify({ pools, reservations })
    if (text === this.#journaled) return
    await this.#modules.journal.append({ t: 'pools', pools, reservations })
    this.#journaled = text
    this.#journaledSelectors = selectors
  }

  #covers(pool: Pick<IPPool['spec'], 'cidr'> & { readonly uses: readonly Use[] }): string | null {
    const vital = coveredBy({ spec: { ...pool, allowedUses: pool.uses } }, this.#vitals())
    return vital === null ? null : coversText(vital)
  }

  #rebuild(): void {
    if (!this.#isSynced) {
      this.#pools = this.#pools.map(pool => ({
        ...pool,
        covers: this.#covers({ ...pool, cidr: formatCidr(pool.cidr) }),
      }))
      return
    }
    const space = this.#space.entries.get(ADDRESS_SPACE_KEY)?.value ?? null
    this.#reservations = this.#readReservations().map(reservationOf)
    this.#pools = [...this.#resources.entries.values()]
      .flatMap(({ value }) => this.#knownOf(value, space))
      .sort((a, b) => (a.name < b.name ? -1 : 1))
  }

  #nodeRanges({ spec }: IPPool, pool: Pick<KnownPool, 'uid' | 'cidr' | 'slotPrefix'>): NodeRanges | null {
    if (spec.nodeSlots !== 'PodCIDRs') return null
    const before = this.#pools.find(({ uid }) => uid === pool.uid)?.nodeRanges ?? null
    return nodeRangesOf(pool, this.#podCidrs(), this.#nodeName, before)
  }

  #labels(): Labels {
    const resource = this.#node.entries.get(resourceKey('nodes', this.#nodeName))?.value ?? null
    return nodeLabels(this.#nodeName, this.#nodeLabels, resource)
  }

  #readReservations(): JournaledReservation[] {
    return [...this.#reserving.entries.values()].map(({ value }) => value)
  }

  #knownOf(document: IPPool, space: AddressSpaceRecord | null): KnownPool[] {
    // What was handed out lies in the range that was entered, whatever the document was changed to.
    const pool = asEntered(document, space)
    const { uid, name } = pool.metadata
    if (uid === undefined) return []
    try {
      const cidr = parseCidr(pool.spec.cidr)
      const { disabled, allowedUses: uses, nodeSelector, namespaceSelector = null } = pool.spec
      const here = selects(nodeSelector, this.#labels())
      const gateway = isForIpam(pool) ? parseIp(gatewayOf(pool)) : null
      const entry = space?.pools.find(each => isNamesakeOf(each, pool))
      const isOwn = entry !== undefined && isEntryOf(entry, { ...document, metadata: pool.metadata })
      const open = entry?.state === 'open' && isOwn && !isBeingDeleted(document)
      const asked = isBeingDeleted(document) ? 'asked' : null
      const ending = entry?.state !== 'closed' ? asked : entry.emptied ? 'emptied' : 'closed'
      const slotPrefix = slotPrefixOf(pool)
      const nodeRanges = this.#nodeRanges(pool, { uid, cidr, slotPrefix })
      const withheld = withheldOf(cidr, gateway, nodeRanges, this.#reservations)
      const where = { uid, name, cidr, slotPrefix, gateway, nodeRanges, withheld }
      const covers = this.#covers({ cidr: pool.spec.cidr, uses })
      return [{ ...where, disabled, here, namespaceSelector, uses, open, covers, ending }]
    } catch (error) {
      this.#modules.log.error({ pool: name, err: messageOf(error) }, 'pool is not used')
      return []
    }
  }
}

const selectorsOf = (pools: readonly Pick<JournaledPool, 'namespaceSelector'>[]): LabelSelector[] =>
  pools.flatMap(({ namespaceSelector }) => namespaceSelector ?? [])

function withheldOf(
  cidr: Cidr,
  gateway: Ip | null,
  nodeRanges: NodeRanges | null,
  reservations: readonly Reservation[],
): AddressRanges {
  const inPool = ({ family, first, last }: IpRange) =>
    family === cidr.family && first <= lastOf(cidr).value && last >= cidr.base
  const reserved = reservations.flatMap(({ ranges }) => ranges.filter(inPool))
  const others = nodeRanges === null ? [] : rangesOutside(cidr, nodeRanges.cidrs)
  const all = [...reserved, ...subnetRanges(cidr, gateway), ...others]
  return all.length === 0 ? NOTHING_WITHHELD : new AddressRanges(all)
}

/** Attachments of a pool for ipam are hosts of one subnet, with a router (rule 18). */
function subnetRanges(cidr: Cidr, gateway: Ip | null): IpRange[] {
  if (gateway === null) return []
  const ends = [{ family: cidr.family, value: cidr.base }, lastOf(cidr)].filter(ip => isNoHost(cidr, ip))
  return [...ends, gateway].map(rangeOf)
}

const rangeOf = ({ family, value }: Ip): IpRange => ({ family, first: value, last: value })

/** One object for all: a part looks no further while it is given the same. */
export const NOTHING_WITHHELD = new AddressRanges([])

function journaledPool(pool: KnownPool): JournaledPool {
  const { withheld: _, covers: __, ...kept } = pool
  const gateway = pool.gateway === null ? null : formatIp(pool.gateway)
  const nodeRanges =
    pool.nodeRanges === null ? null : { ...pool.nodeRanges, cidrs: pool.nodeRanges.cidrs.map(formatCidr) }
  const ending = pool.ending === 'asked' ? null : pool.ending
  return { ...kept, ending, cidr: formatCidr(pool.cidr), uses: [...pool.uses], gateway, nodeRanges }
}

function known(pool: JournaledPool, reservations: readonly Reservation[], covers: string | null): KnownPool {
  const cidr = parseCidr(pool.cidr)
  const gateway = pool.gateway === null ? null : parseIp(pool.gateway)
  const nodeRanges =
    pool.nodeRanges === null ? null : { ...pool.nodeRanges, cidrs: pool.nodeRanges.cidrs.map(parseCidr) }
  const withheld = withheldOf(cidr, gateway, nodeRanges, reservations)
  return { ...pool, cidr, gateway, nodeRanges, covers, withheld }
}
