/**
 * Slots, ledgers, pools and nodes against each other: what the datastore alone can tell. Pure: facts in, findings out,
 * one slot at a time, so that nobody needs all ledgers in memory at once.
 *
 * Trap: the records are read one after the other while the cluster goes on. What is found must be looked at again by
 * itself before anybody is told (`read.ts`).
 */
import { livenessKey, nodeKey, slotKey } from '../../datastore/keys.ts'
import type { AddressSpaceRecord } from '../../datastore/records/address-space.ts'
import type { LedgerRecord } from '../../datastore/records/ledger.ts'
import type { LivenessRecord } from '../../datastore/records/liveness.ts'
import type { NodeRecord } from '../../datastore/records/node.ts'
import type { Part, SlotRecord } from '../../datastore/records/slot.ts'
import type { IPPool } from '../../datastore/resources/ippool.ts'
import { type Cidr, contains, covers, formatCidr, parseCidr, parseIp } from '../../lib/address.ts'
import { messageOf } from '../../lib/errors.ts'
import { changedError, isEntryOf, isNamesakeOf, rivalOf } from '../address-space.ts'
import { coveredBy, coversText, underlaysOf } from '../covered.ts'
import { poolKey } from '../pools.ts'
import { checkSlot } from '../slot.ts'
import type { Finding } from './finding.ts'

/** A record that may go as long as it is at this revision. */
export interface Removable {
  readonly key: string
  readonly modRevision: number
}

export interface ClusterFinding extends Finding {
  /** Of whom, for people: the node's name, else its UID; null: of no node. */
  readonly node: string | null
  /** What `repair` deletes once it has stood for the grace period; null: nothing that a record proves. */
  readonly removable: Removable | null
}

export interface Located<T> {
  readonly key: string
  readonly modRevision: number
  readonly value: T
}

/** Small, and needed to judge any slot. */
export interface ClusterFacts {
  readonly pools: readonly IPPool[]
  /** null: it cannot be read; then nothing is said of pools. */
  readonly space: AddressSpaceRecord | null
  /** By UID. */
  readonly liveness: ReadonlyMap<string, Located<LivenessRecord>>
  readonly nodes: readonly NodeRecord[]
  /** Keys of records that cannot be read. Whom they may speak of is not judged. */
  readonly unreadable: ReadonlySet<string>
}

export interface SlotFacts {
  readonly poolUid: string
  readonly slot: Cidr
  /** null: nobody has claimed anything of it yet. */
  readonly record: SlotRecord | null
  /** Of the record. */
  readonly modRevision: number
  /** By the owner that the key names. */
  readonly ledgers: ReadonlyMap<string, Located<LedgerRecord>>
}

const plain = { since: null, node: null, removable: null }

// ---------------------------------------------------------------- pools and nodes

/** @param owners UIDs that own parts anywhere; null: a slot cannot be read, so that nobody knows */
export function auditCluster(facts: ClusterFacts, owners: ReadonlySet<string> | null): ClusterFinding[] {
  return [...auditPools(facts), ...(owners === null ? [] : auditNodes(facts, owners))]
}

function mendOf(collides: boolean, covers: boolean): string {
  if (covers) return 'delete the pool'
  return collides
    ? 'delete the pool, or the one that it collides with'
    : 'a daemon enters it when it sees it: is one running?'
}

function auditPools({ pools, nodes, space, unreadable }: ClusterFacts): ClusterFinding[] {
  if (space === null) return []
  const changed = pools.flatMap((pool): ClusterFinding[] => {
    const entry = space.pools.find(each => isNamesakeOf(each, pool))
    if (entry === undefined || isEntryOf(entry, pool)) return []
    return [
      {
        ...plain,
        kind: 'pool.changed',
        object: `IPPool ${entry.name}`,
        message: changedError(pool, entry).message,
        mend: 'twillctl apply it as it was; for another range: make another pool, and drain this one',
      },
    ]
  })
  const notEntered = pools
    .filter(pool => !space.pools.some(entry => isNamesakeOf(entry, pool)))
    .map((pool): ClusterFinding => {
      const { metadata, spec } = pool
      const rival = rivalOf(space, { name: metadata.name, cidr: spec.cidr })
      const vital = coveredBy(pool, underlaysOf(nodes))
      const taken = rival === undefined ? '' : `: ${rival.name} (${rival.cidr}) is in it`
      const why = vital === null ? taken : `: it ${coversText(vital)}`
      return {
        ...plain,
        kind: 'pool.not-entered',
        object: `IPPool ${metadata.name}`,
        message: `its ${spec.cidr} does not stand in the address space${why}; nothing is handed out from it`,
        mend: mendOf(rival !== undefined, vital !== null),
      }
    })
  const withoutDocument = space.pools
    .filter(entry => !pools.some(pool => pool.metadata.uid === entry.uid))
    .filter(entry => !unreadable.has(poolKey(entry.name)))
    .map(
      ({ name, cidr }): ClusterFinding => ({
        ...plain,
        kind: 'pool.without-document',
        object: `IPPool ${name}`,
        message: `${cidr} stands in the address space, but there is no such pool`,
        mend: `twillctl delete ippool ${name} takes it out`,
      }),
    )
  return [...changed, ...notEntered, ...withoutDocument]
}

function auditNodes(
  { liveness, nodes, unreadable }: ClusterFacts,
  owners: ReadonlySet<string>,
): ClusterFinding[] {
  const registered = new Set(nodes.map(({ uid }) => uid))
  return [...liveness.values()].flatMap(({ key, modRevision, value }): ClusterFinding[] => {
    const { uid, name, removed } = value
    if (removed !== null && !owners.has(uid))
      return [
        {
          kind: 'node.removed-without-parts',
          object: `node ${name} (${uid})`,
          message: `it was removed by ${removed.by}, and owns nothing any more`,
          since: null,
          mend: 'delete its liveness record',
          node: name,
          removable: { key, modRevision },
        },
      ]
    if (removed !== null || registered.has(uid) || !owners.has(uid) || unreadable.has(nodeKey(name)))
      return []
    return [
      {
        ...plain,
        kind: 'node.not-routed',
        object: `node ${name} (${uid})`,
        message: 'it owns addresses, but no node record bears its UID: nobody routes to them',
        mend: `start twilld there; if the machine is gone for good: twillctl delete node ${name}`,
        node: name,
      },
    ]
  })
}

// ---------------------------------------------------------------- one slot

/** Of one slot everything: two ledgers can collide in it only, since slots of entered pools never overlap. */
export function auditSlot(facts: SlotFacts, cluster: ClusterFacts): ClusterFinding[] {
  const damage = damageOf(facts)
  if (damage !== null) return [damage]
  return [
    ...auditPlace(facts, cluster),
    ...ownerless(facts, cluster),
    ...[...facts.ledgers].flatMap(([owner, ledger]) => auditLedger(owner, ledger, facts, cluster)),
    ...heldTwice(facts, cluster),
  ]
}

const nameOf = (uid: string, { liveness }: ClusterFacts): string => liveness.get(uid)?.value.name ?? uid
const titleOf = ({ slot }: SlotFacts): string => `slot ${formatCidr(slot)}`

function damageOf(facts: SlotFacts): ClusterFinding | null {
  if (facts.record === null) return null
  try {
    checkSlot(facts.record, facts.slot)
    return null
  } catch (error) {
    return {
      ...plain,
      kind: 'slot.damaged',
      object: titleOf(facts),
      message: messageOf(error),
      mend: 'no daemon touches it; restore the record from a backup',
    }
  }
}

/** For ever: nobody is about to enter parts of it again (rule 16). */
const isPoolGone = (poolUid: string, { space, pools }: ClusterFacts): boolean =>
  space !== null &&
  space.restored === null &&
  !space.pools.some(({ uid }) => uid === poolUid) &&
  !pools.some(({ metadata }) => metadata.uid === poolUid)

function auditPlace(facts: SlotFacts, cluster: ClusterFacts): ClusterFinding[] {
  const { space } = cluster
  const { poolUid, record, modRevision } = facts
  if (record === null || space === null) return []
  const entry = space.pools.find(({ uid }) => uid === poolUid)
  const isFree = record.parts.every(({ owner }) => owner === null)
  if (isFree && entry === undefined && isPoolGone(poolUid, cluster))
    return [
      {
        ...plain,
        kind: 'slot.of-no-pool',
        object: titleOf(facts),
        message: `it is left of a pool that is gone, with UID ${poolUid}`,
        mend: 'any daemon deletes it within minutes',
        removable: { key: slotKey(poolUid, facts.slot), modRevision },
      },
    ]
  if (isFree) return []
  if (entry === undefined)
    return [
      {
        ...plain,
        kind: 'slot.of-no-pool',
        object: titleOf(facts),
        message: `nodes own parts of it, but the address space has no pool with UID ${poolUid}`,
        mend: 'its nodes give back what is empty; delete the pods that hold the rest',
      },
    ]
  if (covers(parseCidr(entry.cidr), facts.slot)) return []
  return [
    {
      ...plain,
      kind: 'slot.outside-pool',
      object: titleOf(facts),
      message: `nodes own parts of it, but its pool ${entry.name} is ${entry.cidr}`,
      mend: "bring the pool's cidr back, or delete the pods that hold its addresses",
    },
  ]
}

/** Rule 14: fenced, and later freed, by the daemons; before that they must have seen it. */
function ownerless({ record }: SlotFacts, { liveness, nodes, unreadable }: ClusterFacts): ClusterFinding[] {
  return (record?.parts ?? [])
    .filter(({ owner, fence }) => owner !== null && fence === null && !liveness.has(owner))
    .filter(({ owner }) => !nodes.some(({ uid }) => uid === owner))
    .filter(({ owner }) => !unreadable.has(livenessKey(owner as string)))
    .map(({ cidr, owner }) => ({
      ...plain,
      kind: 'part.of-nobody' as const,
      object: `part ${cidr}`,
      message: `its owner ${owner} has no record`,
      mend: 'the daemons fence it and free it by themselves',
      node: owner,
    }))
}

function auditLedger(
  owner: string,
  { key, modRevision, value }: Located<LedgerRecord>,
  facts: SlotFacts,
  cluster: ClusterFacts,
): ClusterFinding[] {
  const object = `ledger ${formatCidr(facts.slot)} of ${nameOf(owner, cluster)}`
  const base = { ...plain, object, since: earliest(value), node: nameOf(owner, cluster) }
  if (value.owner !== owner)
    return [
      {
        ...base,
        kind: 'ledger.foreign-owner',
        message: `it lies under ${owner} and says that it is of ${value.owner}`,
        mend: `the daemon of ${nameOf(owner, cluster)} writes it anew with its next pod`,
      },
    ]
  const own = (facts.record?.parts ?? []).filter(part => part.owner === owner)
  if (own.length === 0)
    return ofNobody({ base, owner, ledger: value, record: { key, modRevision } }, facts, cluster)
  return [...oldGenerations(base, value, own), ...outsideParts(base, value, own)]
}

interface LedgerWithoutPart {
  readonly base: Base
  readonly owner: string
  readonly ledger: LedgerRecord
  readonly record: Removable
}

/**
 * Slot and liveness record must both say so, or the pool be gone: a node that lives may be about to enter its part again
 * (rule 16). What a living node remembers of addresses that it had, and nothing else, is no disagreement.
 */
function ofNobody(
  { base, owner, ledger, record }: LedgerWithoutPart,
  { poolUid }: SlotFacts,
  cluster: ClusterFacts,
): ClusterFinding[] {
  const { liveness, unreadable } = cluster
  const alive = liveness.get(owner)?.value.removed === null || unreadable.has(livenessKey(owner))
  const gone = isPoolGone(poolUid, cluster)
  if (alive && !gone && Object.keys(ledger.generations).length === 0) return []
  const mends = alive
    ? 'its daemon writes it anew when it has a part of this slot again'
    : 'delete the ledger'
  return [
    {
      ...base,
      kind: 'ledger.of-nobody',
      message: gone
        ? 'its pool is gone; its entries count for nothing'
        : 'the slot shows no part of its owner; its entries count for nothing',
      mend: gone ? 'any daemon deletes it within minutes' : mends,
      removable: alive && !gone ? null : record,
    },
  ]
}

type Base = Pick<ClusterFinding, 'object' | 'since' | 'node' | 'removable'>

function oldGenerations(base: Base, ledger: LedgerRecord, own: readonly Part[]): ClusterFinding[] {
  const current = new Set(own.map(({ generation }) => String(generation)))
  const old = Object.entries(ledger.generations).filter(([generation]) => !current.has(generation))
  if (old.length === 0) return []
  const addresses = old.flatMap(([, entries]) => Object.keys(entries))
  return [
    {
      ...base,
      kind: 'ledger.old-generation',
      message: `entries of generations that the slot no longer shows count for nothing: ${list(addresses)}`,
      mend: 'its daemon leaves them out when it writes the ledger next',
    },
  ]
}

function outsideParts(base: Base, ledger: LedgerRecord, own: readonly Part[]): ClusterFinding[] {
  const outside = Object.entries(ledger.generations).flatMap(([generation, entries]) => {
    const parts = own.filter(part => String(part.generation) === generation)
    if (parts.length === 0) return []
    return Object.keys(entries).filter(address => !parts.some(part => lies(address, part)))
  })
  if (outside.length === 0) return []
  return [
    {
      ...base,
      kind: 'ledger.outside-part',
      message: `it has addresses that are in no part of its owner: ${list(outside)}`,
      mend: 'find the pods that use them; their node takes what is not its own off the network',
    },
  ]
}

function lies(address: string, { cidr }: Part): boolean {
  try {
    return contains(parseCidr(cidr), parseIp(address))
  } catch {
    return false
  }
}

function heldTwice({ record, ledgers }: SlotFacts, cluster: ClusterFacts): ClusterFinding[] {
  const holders = new Map<string, string[]>()
  for (const [owner, { value }] of ledgers)
    for (const { address, holder } of countedEntries(value, record))
      holders.set(address, [...(holders.get(address) ?? []), `${holder} on ${nameOf(owner, cluster)}`])
  return [...holders]
    .filter(([, all]) => all.length > 1)
    .map(([address, all]) => ({
      ...plain,
      kind: 'address.held-twice' as const,
      object: `address ${address}`,
      message: `ledgers that count name more than one holder: ${all.join(', ')}`,
      mend: 'delete one of the two pods',
    }))
}

/** Entries under a generation that the slot shows as the writer's. */
export function* countedEntries(ledger: LedgerRecord, record: SlotRecord | null) {
  const current = new Set(
    (record?.parts ?? []).filter(({ owner }) => owner === ledger.owner).map(part => String(part.generation)),
  )
  for (const [generation, entries] of Object.entries(ledger.generations))
    if (current.has(generation))
      for (const [address, entry] of Object.entries(entries)) yield { address, generation, ...entry }
}

/** Since when the first of its entries is held; null: it has none. */
function earliest({ generations }: LedgerRecord): number | null {
  let first: number | null = null
  for (const entries of Object.values(generations))
    for (const { since } of Object.values(entries)) first = first === null ? since : Math.min(first, since)
  return first
}

const list = (addresses: readonly string[]): string =>
  addresses.length <= 3
    ? addresses.join(', ')
    : `${addresses.slice(0, 3).join(', ')} and ${addresses.length - 3} more`
