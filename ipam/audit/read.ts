/**
 * The cluster's records, read for an audit: slots all at once, since they are small, ledgers one pool at a time and let
 * go one by one, since they grow with the pods. What disagrees is read once more by itself before it is told: between
 * the first reads parts may have changed hands.
 */
import { ADDRESS_SPACE_KEY, PREFIX, slotKey } from '../../datastore/keys.ts'
import { recordParser } from '../../datastore/record.ts'
import { type LedgerRecord, ledgerRecord } from '../../datastore/records/ledger.ts'
import { livenessRecord } from '../../datastore/records/liveness.ts'
import { nodeRecord } from '../../datastore/records/node.ts'
import { slotRecord } from '../../datastore/records/slot.ts'
import type { KeyValue, Store } from '../../datastore/store.ts'
import type { Cidr } from '../../lib/address.ts'
import { messageOf } from '../../lib/errors.ts'
import { emptySpace, parseSpace } from '../address-space.ts'
import { parsePool } from '../pools.ts'
import { parseSlotKey } from '../slot.ts'
import {
  auditCluster,
  auditSlot,
  type ClusterFacts,
  type ClusterFinding,
  countedEntries,
  type Located,
  type SlotFacts,
} from './cluster.ts'

export interface ClusterAudit {
  readonly findings: readonly ClusterFinding[]
  /** What was compared, so that "nothing found" says how much was looked at. */
  readonly slots: number
  readonly ledgers: number
  readonly addresses: number
}

type Place = Omit<SlotFacts, 'ledgers'>
type Parse<T> = (text: string, key: string) => T
const parseLedger = recordParser(ledgerRecord)
const parseLiveness = recordParser(livenessRecord)
const parseNode = recordParser(nodeRecord)
const parseSlot = recordParser(slotRecord)

/** @throws store.* */
export async function auditDatastore(store: Store): Promise<ClusterAudit> {
  return new Audit(store).run()
}

class Audit {
  readonly #store: Store
  readonly #unreadable = new Map<string, ClusterFinding>()
  #ledgers = 0
  #addresses = 0

  constructor(store: Store) {
    this.#store = store
  }

  async run(): Promise<ClusterAudit> {
    const slots = await this.#slots()
    const cluster = await this.#facts()
    const findings: ClusterFinding[] = []
    for (const { poolUid, slot } of await this.#suspects(slots, cluster)) {
      const again = await this.#readSlot(poolUid, slot)
      if (again !== null) findings.push(...auditSlot(again, cluster))
    }
    return {
      findings: [...auditCluster(cluster, this.#owners(slots)), ...findings, ...this.#unreadable.values()],
      slots: slots.size,
      ledgers: this.#ledgers,
      addresses: this.#addresses,
    }
  }

  #owners(slots: ReadonlyMap<string, Place>): ReadonlySet<string> | null {
    if ([...this.#unreadable.keys()].some(key => key.startsWith(PREFIX.slots))) return null
    const parts = [...slots.values()].flatMap(({ record }) => record?.parts ?? [])
    return new Set(parts.flatMap(({ owner }) => owner ?? []))
  }

  async #facts(): Promise<ClusterFacts> {
    const pools = await this.#list(`${PREFIX.resources}ippools/`, parsePool)
    const nodes = await this.#list(PREFIX.nodes, parseNode)
    const liveness = await this.#list(PREFIX.liveness, parseLiveness)
    const { entry } = await this.#store.get(ADDRESS_SPACE_KEY)
    return {
      pools: pools.map(({ value }) => value),
      nodes: nodes.map(({ value }) => value),
      liveness: new Map(liveness.map(each => [each.value.uid, each])),
      space: entry === null ? emptySpace : (this.#parsed(entry, parseSpace)?.value ?? null),
      unreadable: new Set(this.#unreadable.keys()),
    }
  }

  /** By "<pool uid>/<slot>". */
  async #slots(): Promise<Map<string, Place>> {
    const slots = new Map<string, Place>()
    for (const { key, value, modRevision } of await this.#list(PREFIX.slots, parseSlot)) {
      const place = parseSlotKey(key)
      if (place !== null) slots.set(key.slice(PREFIX.slots.length), { ...place, record: value, modRevision })
    }
    return slots
  }

  /** Slots in which something disagrees at first sight. A pool that has ledgers has slots: these go last. */
  async #suspects(slots: ReadonlyMap<string, Place>, cluster: ClusterFacts): Promise<Place[]> {
    const suspects: Place[] = []
    const withoutLedger = new Map(slots)
    const judge = (place: Place, ledgers: SlotFacts['ledgers']) => {
      if (auditSlot({ ...place, ledgers }, cluster).length > 0) suspects.push(place)
    }
    for (const poolUid of new Set([...slots.values()].map(place => place.poolUid)))
      for await (const [name, ledgers] of this.#ledgersOf(poolUid)) {
        withoutLedger.delete(name)
        const place = slots.get(name) ?? placeOf(name)
        if (place === null) continue
        for (const { value } of ledgers.values())
          for (const _ of countedEntries(value, place.record)) this.#addresses++
        judge(place, ledgers)
      }
    for (const place of withoutLedger.values()) judge(place, new Map())
    return suspects
  }

  /** Of one pool, slot by slot: keys are sorted, so that the ledgers of a slot follow each other. */
  async *#ledgersOf(poolUid: string): AsyncGenerator<[string, Map<string, Located<LedgerRecord>>]> {
    const { entries } = await this.#store.list(`${PREFIX.ledgers}${poolUid}/`)
    let place = ''
    let ledgers = new Map<string, Located<LedgerRecord>>()
    for (const entry of entries) {
      const [pool, slot, owner] = entry.key.slice(PREFIX.ledgers.length).split('/')
      const next = `${pool}/${slot}`
      if (next !== place && ledgers.size > 0) yield [place, ledgers]
      if (next !== place) ledgers = new Map()
      place = next
      const ledger = this.#parsed(entry, parseLedger)
      if (ledger !== null && owner !== undefined) ledgers.set(owner, ledger)
      this.#ledgers++
    }
    if (ledgers.size > 0) yield [place, ledgers]
  }

  /** null: the slot cannot be read. */
  async #readSlot(poolUid: string, slot: Cidr): Promise<SlotFacts | null> {
    const key = slotKey(poolUid, slot)
    const { entry } = await this.#store.get(key)
    const record = entry === null ? null : this.#parsed(entry, parseSlot)
    if (entry !== null && record === null) return null
    const prefix = `${PREFIX.ledgers}${key.slice(PREFIX.slots.length)}/`
    const ledgers = await this.#list(prefix, parseLedger)
    const ownerOf = (each: { key: string }) => each.key.slice(prefix.length)
    return {
      poolUid,
      slot,
      record: record?.value ?? null,
      modRevision: record?.modRevision ?? 0,
      ledgers: new Map(ledgers.map(each => [ownerOf(each), each])),
    }
  }

  async #list<T>(prefix: string, parse: Parse<T>): Promise<Located<T>[]> {
    const { entries } = await this.#store.list(prefix)
    return entries.flatMap(entry => this.#parsed(entry, parse) ?? [])
  }

  /** null: told as unreadable. Kept as it is: it may be a newer version's. */
  #parsed<T>({ key, value, modRevision }: KeyValue, parse: Parse<T>): Located<T> | null {
    try {
      return { key, modRevision, value: parse(value, key) }
    } catch (error) {
      this.#unreadable.set(key, {
        kind: 'record.unreadable',
        object: key,
        message: messageOf(error),
        since: null,
        mend: 'it is never overwritten: restore it from a backup, or upgrade what cannot read it',
        node: null,
        removable: null,
      })
      return null
    }
  }
}

const placeOf = (name: string): Place | null => {
  const parsed = parseSlotKey(`${PREFIX.slots}${name}`)
  return parsed === null ? null : { ...parsed, record: null, modRevision: 0 }
}
