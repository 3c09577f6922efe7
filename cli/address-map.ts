/**
 * What `ipam show` shows, from slots, ledgers and nodes: which part is whose and how full, who holds an address and who
 * held it before. Pure but for the reading; numbers of addresses that may be beyond a JSON number are decimal text.
 */
import { PREFIX, slotKey } from '../datastore/keys.ts'
import { recordParser } from '../datastore/record.ts'
import { type LedgerRecord, ledgerRecord, type PastHolder } from '../datastore/records/ledger.ts'
import { type Part, type SlotRecord, slotRecord } from '../datastore/records/slot.ts'
import { gatewayOf, isForIpam, isNoHost, slotPrefixOf } from '../datastore/resources/ippool.ts'
import type { Store } from '../datastore/store.ts'
import { countedEntries } from '../ipam/audit/cluster.ts'
import {
  PREFIX_RESERVATIONS,
  parseReservation,
  type Reservation,
  reservationOf,
  reservedBy,
} from '../ipam/reservations.ts'
import { parseSlotKey } from '../ipam/slot.ts'
import {
  cidrOf,
  contains,
  formatCidr,
  formatIp,
  type Ip,
  parseCidr,
  parseIp,
  sizeOf,
} from '../lib/address.ts'
import { parseLiveness, parseNode } from './nodes.ts'
import { type KnownPool, readPools } from './pools.ts'
import { type Occupancy, readAll, readOccupancy } from './usage.ts'

export interface AddressMap {
  readonly pools: readonly KnownPool[]
  readonly occupancy: Occupancy
  /** UID → name. */
  readonly names: ReadonlyMap<string, string>
  readonly reservations: readonly Reservation[]
}

export interface ShownPool {
  readonly pool: string
  readonly cidr: string
  readonly state: string
  /** "touched/all": slots that somebody has claimed of, and all there are. */
  readonly slots: string
  readonly parts: number
  readonly nodes: number
  readonly addresses: string
  /** In parts of nodes. */
  readonly owned: string
  readonly held: number
}

export interface ShownPart {
  readonly pool: string
  readonly slot: string
  readonly part: string
  /** Name, else UID; null: free. */
  readonly node: string | null
  readonly generation: number
  readonly addresses: number
  readonly held: number
  readonly state: 'Free' | 'Owned' | 'Fenced'
}

export interface ShownHolder {
  readonly address: string
  readonly pool: string
  readonly node: string
  readonly kind: 'pod' | 'tunnel' | 'ipam'
  /** namespace/name; null: not a Kubernetes pod. */
  readonly pod: string | null
  readonly container: string
  readonly interface: string
  readonly network: string
  readonly since: string
}

export interface ShownPast {
  readonly address: string
  readonly pool: string
  readonly node: string
  readonly pod: string | null
  readonly since: string
  readonly until: string
}

export interface Holders {
  readonly holders: readonly ShownHolder[]
  /** Newest first; how many are kept is up to each node. */
  readonly before: readonly ShownPast[]
}

export interface ShownAddress extends Holders {
  readonly address: string
  readonly pool: string
  readonly slot: string
  readonly part: ShownPart
  /** Why it is never handed out; null: it is. */
  readonly withheld: string | null
}

type Warn = (line: string) => void
const parseSlot = recordParser(slotRecord)
const parseLedger = recordParser(ledgerRecord)

export async function readMap(store: Store, warn: Warn): Promise<AddressMap> {
  const pools = await readPools(store, warn)
  return {
    pools,
    names: await readNames(store, warn),
    occupancy: await readOccupancy(store, warn),
    reservations: await readReservations(store, warn),
  }
}

/** Of one slot only: whose `ip` is costs the same however many pods there are. null: in no pool. */
export async function readMapOf(ip: Ip, store: Store, warn: Warn): Promise<AddressMap | null> {
  const pools = (await readPools(store, warn)).filter(({ entered }) =>
    contains(parseCidr(entered.spec.cidr), ip),
  )
  const found = pools.find(({ state }) => state !== 'Conflict' && state !== 'Pending') ?? pools[0]
  if (found === undefined) return null
  const poolUid = found.resource.metadata.uid ?? ''
  const key = slotKey(poolUid, cidrOf(ip, slotPrefixOf(found.entered)))
  const name = key.slice(PREFIX.slots.length)
  const ledgers = await readAll(store, `${PREFIX.ledgers}${name}/`, parseLedger, warn)
  const { entry } = await store.get(key)
  const slots = new Map(entry === null ? [] : [[name, parseSlot(entry.value, key)] as const])
  return {
    pools: [found],
    names: await readNames(store, warn),
    occupancy: { slots, ledgers: new Map([[name, [...ledgers.values()]]]) },
    reservations: await readReservations(store, warn),
  }
}

async function readReservations(store: Store, warn: Warn): Promise<Reservation[]> {
  const stored = await readAll(store, PREFIX_RESERVATIONS, parseReservation, warn)
  return [...stored.values()].map(reservationOf)
}

/** UID → name. */
export async function readNames(store: Store, warn: Warn): Promise<ReadonlyMap<string, string>> {
  const alive = await readAll(store, PREFIX.liveness, parseLiveness, warn)
  const registered = await readAll(store, PREFIX.nodes, parseNode, warn)
  return new Map([...alive.values(), ...registered.values()].map(({ uid, name }) => [uid, name]))
}

// ---------------------------------------------------------------- what is shown

export function shownPools({ pools, occupancy }: AddressMap): ShownPool[] {
  return pools.map(({ resource, entered, state }) => {
    const cidr = parseCidr(entered.spec.cidr)
    const slots = [...occupancy.slots].filter(([name]) => name.startsWith(`${resource.metadata.uid}/`))
    const owned = slots.flatMap(([, { parts }]) => parts.filter(({ owner }) => owner !== null))
    const touched = slots.filter(([, { parts }]) => parts.some(({ owner }) => owner !== null)).length
    const held = slots.reduce((sum, [name, slot]) => sum + countHeld(occupancy, name, slot), 0)
    return {
      pool: resource.metadata.name,
      cidr: entered.spec.cidr,
      state,
      slots: `${touched}/${1n << BigInt(slotPrefixOf(entered) - cidr.prefix)}`,
      parts: owned.length,
      nodes: new Set(owned.map(({ owner }) => owner)).size,
      addresses: String(sizeOf(cidr)),
      owned: String(owned.reduce((sum, part) => sum + sizeOf(parseCidr(part.cidr)), 0n)),
      held,
    }
  })
}

function countHeld({ ledgers }: Occupancy, name: string, slot: SlotRecord): number {
  let count = 0
  for (const ledger of ledgers.get(name) ?? []) for (const _ of countedEntries(ledger, slot)) count++
  return count
}

/** @param nodes UIDs; null: of all, with the free parts */
export function shownParts(map: AddressMap, nodes: ReadonlySet<string> | null): ShownPart[] {
  return [...map.occupancy.slots].flatMap(([name, slot]) =>
    slot.parts
      .filter(({ owner }) => nodes === null || (owner !== null && nodes.has(owner)))
      .map(part => shownPart(map, name, slot, part)),
  )
}

function shownPart(map: AddressMap, name: string, slot: SlotRecord, part: Part): ShownPart {
  const cidr = parseCidr(part.cidr)
  let held = 0
  for (const ledger of map.occupancy.ledgers.get(name) ?? [])
    if (ledger.owner === part.owner)
      for (const { address } of countedEntries(ledger, slot)) if (contains(cidr, parseIp(address))) held++
  return {
    pool: poolOf(map, name),
    slot: slotOf(name),
    part: part.cidr,
    node: part.owner === null ? null : nameOf(map, part.owner),
    generation: part.generation,
    addresses: Number(sizeOf(cidr)),
    held,
    state: part.owner === null ? 'Free' : part.fence === null ? 'Owned' : 'Fenced',
  }
}

export function shownHolders(
  map: AddressMap,
  chosen: (holder: ShownHolder | ShownPast, ownerUid: string) => boolean,
): Holders {
  const holders: ShownHolder[] = []
  const before: ShownPast[] = []
  for (const [name, ledgers] of map.occupancy.ledgers)
    for (const ledger of ledgers) {
      const place = { pool: poolOf(map, name), node: nameOf(map, ledger.owner) }
      for (const entry of countedEntries(ledger, map.occupancy.slots.get(name) ?? null))
        keep(holders, { ...place, ...holderOf(entry) }, ledger.owner, chosen)
      for (const past of ledger.recent) keep(before, { ...place, ...pastOf(past) }, ledger.owner, chosen)
    }
  return { holders, before: before.sort((a, b) => b.until.localeCompare(a.until)) }
}

function keep<T>(list: T[], item: T, owner: string, chosen: (item: T, owner: string) => boolean): void {
  if (chosen(item, owner)) list.push(item)
}

/** null: no slot of the pool has it as a part yet, because nobody has ever claimed of it. */
export function shownAddress(map: AddressMap, ip: Ip): ShownAddress {
  const address = formatIp(ip)
  const [pool] = map.pools as readonly [KnownPool]
  const slot = cidrOf(ip, slotPrefixOf(pool.entered))
  const parts = shownParts(map, null)
  const found = parts.find(each => contains(parseCidr(each.part), ip))
  return {
    address,
    pool: pool.resource.metadata.name,
    slot: formatCidr(slot),
    part: found ?? {
      pool: pool.resource.metadata.name,
      slot: formatCidr(slot),
      part: formatCidr(slot),
      node: null,
      generation: 0,
      addresses: Number(sizeOf(slot)),
      held: 0,
      state: 'Free',
    },
    withheld: whyWithheld(address, pool, map.reservations),
    ...shownHolders(map, each => each.address === address),
  }
}

function whyWithheld(
  address: string,
  { entered }: KnownPool,
  reservations: readonly Reservation[],
): string | null {
  const name = reservedBy(address, reservations)
  if (name !== null) return `reserved by IPReservation ${name}`
  if (!isForIpam(entered)) return null
  if (gatewayOf(entered) === address) return "the pool's gateway"
  const isHost = !isNoHost(parseCidr(entered.spec.cidr), parseIp(address))
  return isHost ? null : 'the network or broadcast address of the pool'
}

function holderOf(
  entry: ReturnType<typeof countedEntries> extends Generator<infer E> ? E : never,
): Omit<ShownHolder, 'pool' | 'node'> {
  return {
    address: entry.address,
    kind: entry.kind,
    pod: podName(entry.pod),
    container: entry.containerId,
    interface: entry.ifName,
    network: entry.network,
    since: isoOf(entry.since),
  }
}

const pastOf = ({ address, pod, since, until }: PastHolder): Omit<ShownPast, 'pool' | 'node'> => ({
  address,
  pod: podName(pod),
  since: isoOf(since),
  until: isoOf(until),
})

export const isoOf = (ms: number): string => new Date(ms).toISOString()
const podName = (pod: LedgerRecord['recent'][number]['pod']) =>
  pod === null ? null : `${pod.namespace}/${pod.name}`

const nameOf = ({ names }: AddressMap, uid: string): string => names.get(uid) ?? uid

const slotOf = (name: string): string => {
  const place = parseSlotKey(`${PREFIX.slots}${name}`)
  return place === null ? name : formatCidr(place.slot)
}

function poolOf({ pools }: AddressMap, name: string): string {
  const uid = name.split('/')[0]
  return (
    pools.find(({ resource }) => resource.metadata.uid === uid)?.resource.metadata.name ?? (uid as string)
  )
}
