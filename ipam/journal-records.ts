/**
 * What the address management keeps in the node's journal, and the state that a replay of it yields. Nothing is
 * written per allocation: the attachment's own record carries its addresses.
 *
 * A `slot` record replaces everything known of its slot, so that one append is one atomic step: what is given
 * away is gone from `parts` and stands in `giving` before the request is sent, and a claim's id stands in
 * `claiming` before the claim is sent (ADDRESSES.md rule 3). While either is set the slot is in doubt (rule 4).
 */
import { z } from 'zod'
import { USES } from '../datastore/resources/ippool.ts'
import { labelSelector } from '../datastore/resources/selector.ts'

const journaledPart = z.object({ cidr: z.string(), generation: z.number().int().positive() })

/** What an IPReservation keeps back, as text. */
const journaledReservation = z.object({ name: z.string(), addresses: z.array(z.string()) })

/** What the choice of pools needs of a Namespace. */
const journaledNamespace = z.object({
  name: z.string().min(1),
  labels: z.record(z.string(), z.string()),
  /** Names of pools. */
  ipv4: z.array(z.string()),
  ipv6: z.array(z.string()),
})

const slotEntry = z.object({
  t: z.literal('slot'),
  poolUid: z.string().min(1),
  slot: z.string(),
  parts: z.array(journaledPart),
  /** Id of a claim that was, or is about to be, sent. */
  claiming: z.string().nullable(),
  giving: z.array(journaledPart),
})

const instant = { boot: z.string(), boottimeMs: z.number(), realtimeMs: z.number() }

export const ipamJournalRecord = z.discriminatedUnion('t', [
  slotEntry,
  /** Slots whose ownership was confirmed by requests sent at this instant or later (rule 7). */
  z.object({
    t: z.literal('confirmed'),
    ...instant,
    /** Highest revision of the store seen by then (rule 16). */
    revision: z.number().int(),
    slots: z.array(z.object({ poolUid: z.string(), slot: z.string() })),
  }),
  z.object({
    t: z.literal('released'),
    ...instant,
    addresses: z.array(z.object({ poolUid: z.string(), address: z.string() })),
  }),
  /** Every pool, as last seen: a restart without the store knows which to take from. */
  z.object({
    t: z.literal('pools'),
    pools: z.array(
      z.object({
        uid: z.string().min(1),
        name: z.string().min(1),
        cidr: z.string(),
        slotPrefix: z.number().int(),
        disabled: z.boolean(),
        open: z.boolean(),
        ending: z.enum(['closed', 'emptied']).nullable().default(null),
        /** Its nodeSelector means this node. */
        here: z.boolean().default(true),
        namespaceSelector: labelSelector.nullable().default(null),
        uses: z.array(z.enum(USES)).default(['pod', 'tunnel']),
        /** Of a pool of which each node takes only its podCIDRs. */
        nodeRanges: z
          .object({ cidrs: z.array(z.string()), problem: z.string().nullable(), waits: z.boolean() })
          .nullable()
          .default(null),
        /** Of a pool for ipam. */
        gateway: z.string().nullable().default(null),
      }),
    ),
    reservations: z.array(journaledReservation).default([]),
  }),
  /** Namespaces since the last such record. */
  z.object({
    t: z.literal('namespaces'),
    changed: z.array(journaledNamespace),
    gone: z.array(z.string()),
  }),
])

export type IpamJournalRecord = z.infer<typeof ipamJournalRecord>
export type JournaledSlot = z.infer<typeof slotEntry>
export type JournaledReservation = z.infer<typeof journaledReservation>
export type JournaledNamespace = z.infer<typeof journaledNamespace>
export type JournaledPool = Extract<IpamJournalRecord, { t: 'pools' }>['pools'][number]

export interface Instant {
  /** boot_id and namespace cookie: BOOTTIMEs of different boots do not compare. */
  readonly boot: string
  readonly boottimeMs: number
  readonly realtimeMs: number
}

export interface IpamJournalState {
  readonly slots: ReadonlyMap<string, JournaledSlot>
  /** By slotId: when the request that confirmed it was sent. */
  readonly confirmed: ReadonlyMap<string, Instant>
  /** By addressId: when it was last released. */
  readonly released: ReadonlyMap<string, Instant>
  readonly pools: readonly JournaledPool[]
  readonly reservations: readonly JournaledReservation[]
  /** By name. */
  readonly namespaces: ReadonlyMap<string, JournaledNamespace>
  readonly lastRevision: number
}

export interface IpamJournal {
  /** Resolves when the record survives the death of this process. @throws journal.write-failed (retryable) */
  append(record: IpamJournalRecord): Promise<void>
}

export const slotId = (poolUid: string, slot: string): string => `${poolUid} ${slot}`
export const addressId = (poolUid: string, address: string): string => `${poolUid} ${address}`

/** Pure. Records in the order they were appended; [] yields what a node knows that has never run. */
export function replay(records: readonly IpamJournalRecord[]): IpamJournalState {
  const slots = new Map<string, JournaledSlot>()
  const confirmed = new Map<string, Instant>()
  const released = new Map<string, Instant>()
  let pools: readonly JournaledPool[] = []
  let reservations: readonly JournaledReservation[] = []
  const namespaces = new Map<string, JournaledNamespace>()
  let lastRevision = 0
  for (const record of records) {
    if (record.t === 'slot') replaySlot(slots, record)
    else if (record.t === 'pools') {
      pools = record.pools
      reservations = record.reservations
    } else if (record.t === 'namespaces') {
      for (const each of record.changed) namespaces.set(each.name, each)
      for (const name of record.gone) namespaces.delete(name)
    } else if (record.t === 'confirmed') {
      for (const { poolUid, slot } of record.slots) confirmed.set(slotId(poolUid, slot), instantOf(record))
      lastRevision = record.revision
    } else
      for (const { poolUid, address } of record.addresses)
        released.set(addressId(poolUid, address), instantOf(record))
  }
  return { slots, confirmed, released, pools, reservations, namespaces, lastRevision }
}

function replaySlot(slots: Map<string, JournaledSlot>, record: JournaledSlot): void {
  const id = slotId(record.poolUid, record.slot)
  if (record.parts.length === 0 && record.claiming === null && record.giving.length === 0) slots.delete(id)
  else slots.set(id, record)
}

const instantOf = ({ boot, boottimeMs, realtimeMs }: Instant): Instant => ({ boot, boottimeMs, realtimeMs })

/**
 * The fewest records that replay to the same, for a journal that is written anew. Pure.
 * Releases older than `keepReleasedMs` on the running boot's BOOTTIME no longer matter and are left out.
 */
export function compact(
  state: IpamJournalState,
  now: { readonly boot: string; readonly boottimeMs: number },
  keepReleasedMs: number,
): IpamJournalRecord[] {
  const records: IpamJournalRecord[] = []
  if (state.pools.length > 0)
    records.push({ t: 'pools', pools: [...state.pools], reservations: [...state.reservations] })
  if (state.namespaces.size > 0)
    records.push({ t: 'namespaces', changed: [...state.namespaces.values()], gone: [] })
  records.push(...state.slots.values())
  for (const [id, at] of state.confirmed) {
    const [poolUid, slot] = split(id)
    if (state.slots.has(id))
      records.push({ t: 'confirmed', ...at, revision: state.lastRevision, slots: [{ poolUid, slot }] })
  }
  if (state.lastRevision > 0 && !records.some(({ t }) => t === 'confirmed'))
    records.push({ t: 'confirmed', ...now, realtimeMs: 0, revision: state.lastRevision, slots: [] })
  for (const [id, at] of state.released) {
    const [poolUid, address] = split(id)
    if (at.boot !== now.boot || now.boottimeMs - at.boottimeMs < keepReleasedMs)
      records.push({ t: 'released', ...at, addresses: [{ poolUid, address }] })
  }
  return records
}

function split(id: string): [string, string] {
  const space = id.indexOf(' ')
  return [id.slice(0, space), id.slice(space + 1)]
}
