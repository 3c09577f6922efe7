/**
 * The address management of one node, as the daemon sees it: takes addresses from memory, asks for more when
 * there are none, and tells journal and ledgers what has happened. `upkeep.ts` does the rest in the background.
 *
 * Trap: `restore` must have been called with what the journal says before `start`, or addresses of living pods
 * go out twice.
 */

import type { NodeRecord } from '../datastore/records/node.ts'
import type { Use } from '../datastore/resources/ippool.ts'
import type { Labels } from '../datastore/resources/selector.ts'
import { RevisionedStore } from '../datastore/revisions.ts'
import type { Store } from '../datastore/store.ts'
import { contains, type Family, formatCidr, formatIp, hostCidr, parseIp } from '../lib/address.ts'
import type { Clock, Random } from '../lib/clock.ts'
import { messageOf, TwillError } from '../lib/errors.ts'
import type { Log } from '../lib/log.ts'
import { KeyedQueue } from '../lib/queue.ts'
import { Allocator } from './allocator.ts'
import { Asking } from './asking.ts'
import {
  chosen,
  familiesFound,
  familiesOf,
  noPool,
  type PoolQuery,
  type PoolsInView,
  poolOfAddress,
  poolsOf,
  poolsToJudge,
} from './choose-pools.ts'
import { chooseSlots } from './choose-slot.ts'
import type { Vital } from './covered.ts'
import { DeletedSlots } from './deleted-slots.ts'
import { Fences } from './fences.ts'
import { Gifts } from './gifts.ts'
import { GivenCooling } from './given-cooling.ts'
import type {
  AllocationRequest,
  HeldAddress,
  Holder,
  Ipam,
  OwnPart,
  Room,
  RoomRequest,
  Standing,
  Subnet,
} from './ipam.ts'
import { type IpamJournal, type IpamJournalState, slotId } from './journal-records.ts'
import { Ledgers } from './ledger.ts'
import type { LostPart } from './lost-part.ts'
import { refused, takeNamed } from './named.ts'
import { noRoom } from './no-room.ts'
import { NO_LIMIT, type NodeLimit } from './node-limit.ts'
import { type OwnedPart, type OwnSlot, partOf, slotFromJournal } from './own-slots.ts'
import { Ownership } from './ownership.ts'
import { type PodCidrs, sharedPodCidrs } from './pod-cidrs.ts'
import { PoolLeftovers } from './pool-leftovers.ts'
import { isOnDemand, type KnownPool, NOTHING_WITHHELD, type PoolCondition, PoolView } from './pool-view.ts'
import { Requests } from './requests.ts'
import { reservedAndHeld } from './reservations.ts'
import { Restoration } from './restoration.ts'
import { Serving } from './serving.ts'
import { SlotIndex } from './slot-index.ts'
import { SlotWork } from './slot-work.ts'
import { REQUEST_PATIENCE_MS, Taking } from './taking.ts'
import { instantNow, inTerm } from './term.ts'
import { Upkeep } from './upkeep.ts'
import { WaitingPods } from './waiting-pods.ts'
import { Watched, type WatchedModules } from './watched.ts'

export interface IpamOptions {
  /** Of `establishIdentity`: the owner in slots. */
  readonly nodeUid: string
  readonly nodeName: string
  /** Of its configuration, for nodeSelectors. Default none. */
  readonly nodeLabels?: Labels
  /** Of its Node object, for pools of podCIDRs. Default: it has none. After a change `recheckPools` is called. */
  readonly podCidrs?: () => PodCidrs
  /** What this node lives by (covered.ts). Default nothing. After a change `recheckPools` is called. */
  readonly vitals?: () => readonly Vital[]
  /** boot_id and cookie of the daemon's network namespace. */
  readonly boot: string
  /** How long addresses go out without the store having confirmed that the parts are ours. Default 1 h. */
  readonly offlineAllowanceMs?: number
  /** What is added to an allowance before anything of a node is taken. Default 1 min. */
  readonly marginMs?: number
  /** Default 1 min. */
  readonly coolDownMs?: number
  /** Default 200 ms; see LedgerOptions. */
  readonly lingerMs?: number
  /** Fewer free addresses than this in a family: the next part is claimed. Default 16. */
  readonly lowWater?: number
  /** How long an empty part that is not needed rests before it is given back. Default as long as addresses cool. */
  readonly spareRestMs?: number
  /** Default none. */
  readonly nodeLimit?: NodeLimit
  /** How often ownership is confirmed. Default a tenth of the allowance. */
  readonly confirmEveryMs?: number
  /** How soon what failed is tried again. Default 1 s. */
  readonly retryMs?: number
  /** How often parts of removed nodes are looked for. Default 10 s. */
  readonly sweepEveryMs?: number
  readonly journaled: IpamJournalState
  /** False: lines of the journal were damaged; the ledgers are asked who holds what. */
  readonly journalIntact: boolean
  /** Parts that are no longer ours: the pods in them must be cut off (rule 15). */
  readonly onLost?: (lost: LostPart) => void
  /** `standing` may be another. */
  readonly onPools?: () => void
}

export interface IpamModules {
  readonly store: Store
  readonly clock: Clock
  readonly random: Random
  readonly log: Log
  readonly journal: IpamJournal
  /** Default: mirrors that parse for themselves. */
  readonly watch?: (modules: WatchedModules) => Watched
}

const HOUR_MS = 3_600_000
const REQUEST_STALE_MS = 60_000

export function createIpam(options: IpamOptions, modules: IpamModules): NodeIpam {
  return new NodeIpam(options, modules)
}

type Settings = Required<IpamOptions>

export class NodeIpam implements Ipam {
  readonly #options: Settings
  readonly #modules: IpamModules
  readonly #allocator: Allocator
  readonly #ledgers: Ledgers
  /** Restored, but in no part of ours: lost in an earlier life, and perhaps not cut off any more. */
  readonly #notOurs: { id: string; address: HeldAddress }[] = []
  readonly #naming = new KeyedQueue()
  /** Nodes and slots, for all in this process that need them. */
  readonly watched: Watched
  /** The store was seen to have gone back before `start`. */
  #suspicion: string | null = null
  #running: {
    pools: PoolView
    slots: SlotIndex
    gifts: Gifts
    requests: Requests
    taking: Taking
    upkeep: Upkeep
    fences: Fences
    sweepers: readonly (DeletedSlots | PoolLeftovers)[]
    restoration: Restoration
  } | null = null

  constructor(options: IpamOptions, modules: IpamModules) {
    const offlineAllowanceMs = options.offlineAllowanceMs ?? HOUR_MS
    this.#options = {
      nodeLabels: {},
      podCidrs: () => 'none',
      vitals: () => [],
      marginMs: 60_000,
      coolDownMs: 60_000,
      lingerMs: 200,
      lowWater: 16,
      spareRestMs: options.coolDownMs ?? 60_000,
      nodeLimit: NO_LIMIT,
      confirmEveryMs: offlineAllowanceMs / 10,
      retryMs: 1000,
      sweepEveryMs: 10_000,
      onLost: () => {},
      onPools: () => {},
      ...options,
      offlineAllowanceMs,
    }
    // Whoever asks hears nothing of a store that went back before this node has noticed.
    const store = new RevisionedStore(
      {
        seen: options.journaled.lastRevision,
        onWentBack: (from, to) => {
          this.#suspicion = `its revision was ${from} and is ${to}`
          this.#running?.restoration.suspect(this.#suspicion)
        },
      },
      modules,
    )
    this.#modules = { ...modules, store }
    this.watched = modules.watch?.(this.#modules) ?? new Watched({}, this.#modules)
    const { coolDownMs, nodeUid, boot, lingerMs } = this.#options
    const nowMs = () => modules.clock.boottimeMs()
    this.#allocator = new Allocator({
      coolDownMs,
      usable: part => this.#usable(part),
      withheld: poolUid => this.#running?.pools.withheld(poolUid) ?? NOTHING_WITHHELD,
      nowMs,
    })
    const { holdings } = this.#allocator
    this.#ledgers = new Ledgers({ nodeUid, boot, lingerMs, recentMax: 32 }, { ...modules, store, holdings })
    for (const slot of this.#slotsFromJournal()) this.#allocator.addSlot(slot)
  }

  #slotsFromJournal(): OwnSlot[] {
    const { journaled, journalIntact, boot } = this.#options
    return [...journaled.slots.values()].map(record => {
      const confirmed = journaled.confirmed.get(slotId(record.poolUid, record.slot)) ?? null
      const nowMs = this.#modules.clock.boottimeMs()
      const slot = slotFromJournal(record, confirmed, { freedMs: journalIntact ? undefined : nowMs, nowMs })
      // A claim under way when the daemon stopped cannot have holders yet.
      slot.ledgerUnread = record.parts.length > 0 && (!journalIntact || confirmed?.boot !== boot)
      return slot
    })
  }

  restore(holders: readonly { holder: Holder; addresses: readonly HeldAddress[] }[]): void {
    for (const { holder, addresses } of holders)
      for (const address of addresses)
        if (!this.#allocator.hold(holder, address, true)) this.#notOurs.push({ id: holder.id, address })
    this.#restoreCoolDowns()
    for (const slot of this.#allocator.slots.values()) if (slot.parts.length > 0) this.#ledgers.reopen(slot)
  }

  /** Of this boot: what is left of them. Of an earlier one: they start anew (rule 5). */
  #restoreCoolDowns(): void {
    const { boot, journaled } = this.#options
    const nowMs = this.#modules.clock.boottimeMs()
    const freedMs = (id: string) => {
      const at = journaled.released.get(id)
      return at?.boot === boot ? at.boottimeMs : nowMs
    }
    const released = [...journaled.released.keys()].sort((a, b) => freedMs(a) - freedMs(b))
    for (const id of released) this.#allocator.setFreed(id, freedMs(id))
  }

  start(): void {
    const { nodeUid, journaled, onLost } = this.#options
    const modules = this.#modules
    const restoration = new Restoration({ ...this.#options, onBegin: () => upkeep.recheck() }, modules)
    const pools = new PoolView(
      {
        nodeName: this.#options.nodeName,
        nodeLabels: this.#options.nodeLabels,
        podCidrs: this.#options.podCidrs,
        vitals: this.#options.vitals,
        nodes: () => this.#nodes(),
        journaled,
        onChange: () => {
          this.#running?.upkeep.wake()
          this.#options.onPools()
        },
        onSpace: space => restoration.see(space),
      },
      modules,
    )
    const givenCooling = new GivenCooling(modules)
    const slots = new SlotIndex(
      {
        onChange: changes => {
          givenCooling.observe(changes)
          upkeep.observe(changes)
          fences.observe(changes)
        },
      },
      this.watched,
    )
    const lost = (part: OwnedPart) => {
      this.#ledgers.mark(part.slot)
      const { slot, text, generation } = part
      const holders = this.#allocator.holdersIn(part)
      modules.log.error({ part: text, generation, holders }, 'part is no longer ours')
      onLost({ poolUid: slot.poolUid, slot: slot.text, cidr: text, generation, holders })
    }
    const allocator = this.#allocator
    const work = new SlotWork({ ...this.#options, onLost: lost }, { ...modules, allocator, restoration })
    const waiting = new WaitingPods({ onEnd: () => upkeep.wake() })
    const gifts = new Gifts(this.#options, { ...modules, work, allocator, restoration, waiting })
    const ownership = new Ownership(this.#options, {
      ...modules,
      work,
      gifts,
      allocator,
      slots,
      restoration,
    })
    const soon = () => this.#running?.upkeep.soon()
    const requests = new Requests(
      { patienceMs: REQUEST_PATIENCE_MS, onDoubt: soon },
      { ...modules, work, allocator, ownership, restoration },
    )
    const serving = new Serving(
      { nodeUid, staleAfterMs: REQUEST_STALE_MS, onFailure: soon },
      { ...modules, allocator, slots, gifts },
    )
    const asking = new Asking(this.#options, { ...modules, slots, requests, givenCooling })
    const upkeep = new Upkeep(this.#options, {
      ...modules,
      allocator,
      pools,
      slots,
      ownership,
      gifts,
      requests,
      serving,
      ledgers: this.#ledgers,
      restoration,
    })
    const fences = new Fences(this.#options, { ...modules, nodes: this.watched.nodes, slots, restoration })
    const { marginMs, sweepEveryMs } = this.#options
    const sweepers = [
      new DeletedSlots({ everyMs: sweepEveryMs }, { ...modules, nodes: this.watched.nodes, slots }),
      new PoolLeftovers({ restMs: marginMs, everyMs: sweepEveryMs }, { ...modules, slots, pools }),
    ]
    const taking = new Taking(
      { ...this.#options, usable: part => this.#usable(part) },
      { ...modules, allocator, slots, upkeep, asking, waiting },
    )
    this.#running = { pools, slots, gifts, requests, taking, upkeep, fences, sweepers, restoration }
    if (this.#suspicion !== null) restoration.suspect(this.#suspicion)
    upkeep.wake()
    void fences.start()
    for (const sweeper of sweepers) sweeper.start()
    void upkeep.ready().then(() => this.#reportNotOurs())
  }

  /** Only now: a part that the journal forgot may be ours all the same, and the store has said by now. */
  #reportNotOurs(): void {
    for (const { id, address } of this.#notOurs.splice(0)) {
      const { poolUid, slot, generation } = address
      if (
        partOf(this.#allocator.slots.get(slotId(poolUid, slot)), address, parseIp(address.address)) !== null
      )
        continue
      this.#modules.log.error({ holder: id, address: address.address }, 'held address is no longer ours')
      this.#options.onLost({
        poolUid,
        slot,
        cidr: formatCidr(hostCidr(parseIp(address.address))),
        generation,
        holders: [id],
      })
    }
  }

  async ready(): Promise<void> {
    await this.#started().upkeep.ready()
  }

  /** Ledgers are brought up to date once more, if the store is there. */
  async stop(): Promise<void> {
    const running = this.#running
    if (running === null) return this.watched.close()
    running.requests.stop()
    await Promise.all([running.upkeep, running.fences, ...running.sweepers].map(each => each.stop()))
    await this.#ledgers.stop()
    running.slots.close()
    await Promise.all([running.pools.close(), this.watched.close()])
    this.#running = null
  }

  async allocate(request: AllocationRequest): Promise<HeldAddress[]> {
    const { holder } = request
    const known = this.#allocator.holdings.get(holder.id)
    if (known !== undefined && known.addresses.length > 0) return [...known.addresses]
    try {
      const query = this.#queryOf(request)
      const families = familiesOf(query, this.#view())
      const named = await this.#takeNamed(request, query, families)
      const taken = [...named]
      for (const family of families)
        if (!named.some(held => held.family === family))
          taken.push(await this.#started().taking.takeFrom(holder, poolsOf(query, family, this.#view())))
      this.#started().upkeep.wakeIfLow()
      return taken.sort((a, b) => families.indexOf(a.family) - families.indexOf(b.family))
    } catch (error) {
      this.#allocator.putBack(holder.id)
      throw error
    }
  }

  #queryOf({ holder, ...asked }: AllocationRequest): PoolQuery {
    const { namespaces } = this.#started().pools
    const namespace = holder.pod === null ? null : namespaces.named(holder.pod.namespace)
    return { ...asked, use: holder.kind, namespace }
  }

  async #takeNamed(
    { holder, addresses = [] }: AllocationRequest,
    query: PoolQuery,
    families: readonly Family[],
  ): Promise<HeldAddress[]> {
    const { pools, upkeep, requests } = this.#started()
    const usable = (part: OwnedPart) => this.#usable(part)
    const modules = { allocator: this.#allocator, upkeep, requests, queue: this.#naming, usable }
    const taken: HeldAddress[] = []
    for (const ip of addresses) {
      if (!families.includes(ip.family))
        throw refused(ip, 'family', `this network gives no IPv${ip.family} addresses`)
      if (taken.some(({ family }) => family === ip.family))
        throw refused(ip, 'family', 'another address of its family was asked for')
      const pool = poolOfAddress(query, ip, this.#view())
      taken.push(await takeNamed(holder, ip, pool, { ...modules, reservations: pools.reservations }))
    }
    return taken
  }

  recorded(holderId: string): void {
    const holding = this.#allocator.record(holderId)
    for (const address of holding?.addresses ?? []) this.#markLedger(address)
  }

  release(holderId: string): void {
    const released = this.#allocator.release(holderId)
    if (released === null || released.freed.length === 0) return
    const { holder } = released.holding
    const until = this.#modules.clock.realtimeMs()
    for (const { part, address } of released.freed)
      this.#ledgers.mark(part.slot, [
        { address: address.address, holder: holder.id, pod: holder.pod, since: holder.since, until },
      ])
    // An empty part may be one to give back.
    if (released.freed.some(({ part }) => part.addresses.held === 0)) this.#running?.upkeep.wake()
    const addresses = released.freed.map(({ address: { poolUid, address } }) => ({ poolUid, address }))
    const now = instantNow(this.#modules.clock, this.#options.boot)
    void this.#modules.journal.append({ t: 'released', ...now, addresses }).catch(error => {
      // The cool-down is shorter after a restart; the attachment's own record says that it has gone.
      this.#modules.log.warn({ err: messageOf(error), addresses }, 'release not journaled')
    })
  }

  #markLedger(address: HeldAddress): void {
    const slot = this.#allocator.slots.get(slotId(address.poolUid, address.slot))
    if (slot !== undefined) this.#ledgers.mark(slot)
  }

  room(wanted: RoomRequest = { use: 'pod', families: [], pools: [] }): Room {
    const query: PoolQuery = { ...wanted, namespace: 'any' }
    const view = poolsToJudge(query, this.#view())
    const found = familiesFound(query, view)
    if (found.length === 0) return { ok: false, reason: noPool(query, view).message }
    for (const family of found) {
      const pools = chosen(query, family, view)
      const roomy = pools.flatMap(pool => [...this.#allocator.partsWithRoom(pool.uid)])
      if (roomy.some(part => this.#usable(part))) continue
      if (pools.some(pool => isOnDemand(pool) && this.#canClaim(pool))) continue
      const { taking } = this.#started()
      const unusable = taking.unusable(pools).length > 0
      if (!unusable && pools.some(pool => taking.mayBeGiven(pool))) continue
      const { offlineAllowanceMs, marginMs } = this.#options
      const nowMs = this.#modules.clock.boottimeMs()
      const claimsInMs = this.#started().restoration.endsInMs()
      const unknownMs = offlineAllowanceMs + marginMs
      return { ok: false, reason: noRoom({ family, unusable: roomy, claimsInMs, nowMs, unknownMs }) }
    }
    return { ok: true }
  }

  #canClaim(pool: KnownPool): boolean {
    const { slots } = this.#started()
    return (
      this.#modules.store.status().connected && !chooseSlots(pool, this.#options.nodeUid, slots).next().done
    )
  }

  standing(poolUid: string, use: Use): Standing {
    return this.#started().pools.standing(poolUid, use)
  }

  subnetOf(poolUid: string): Subnet | null {
    const pool = this.#started().pools.pools.find(({ uid }) => uid === poolUid)
    if (pool === undefined) return null
    return { prefix: pool.cidr.prefix, gateway: pool.gateway === null ? null : formatIp(pool.gateway) }
  }

  ownParts(): OwnPart[] {
    return [...this.#allocator.slots.values()].flatMap(slot =>
      slot.parts.map(part => ({
        poolUid: slot.poolUid,
        slot: slot.text,
        cidr: part.text,
        generation: part.generation,
        free: part.addresses.free,
        held: part.addresses.held,
        usable: this.#usable(part),
      })),
    )
  }

  heldBy(holderId: string): readonly HeldAddress[] {
    return [...(this.#allocator.holdings.get(holderId)?.addresses ?? [])]
  }

  /** Everybody who holds something, from journal and ledgers. */
  holders(): { holder: Holder; addresses: readonly HeldAddress[] }[] {
    return [...this.#allocator.holdings.values()].map(({ holder, addresses }) => ({
      holder,
      addresses: [...addresses],
    }))
  }

  settled(): Promise<void> {
    return this.#ledgers.settled()
  }

  /** Pools that are written down and cannot be used, with why. */
  conditions(): readonly PoolCondition[] {
    if (this.#running === null) return []
    const { pools, slots } = this.#running
    const nodes = this.#nodes()
    const own = this.#options.nodeUid
    return [
      ...pools.conditions(),
      ...pools.pools.flatMap(pool => sharedPodCidrs(pool, own, { slots, nodes })),
    ]
  }

  #nodes(): NodeRecord[] {
    return [...this.watched.nodes.entries.values()].map(({ value }) => value)
  }

  /** What `podCidrs` or `vitals` says is another. */
  recheckPools(): void {
    this.#running?.pools.recheck()
  }

  /** Records that cannot be read and that this node needs, for itself or for what removed nodes left, each a sentence. */
  unreadable(): readonly string[] {
    if (this.#running === null) return []
    const { upkeep, fences } = this.#running
    return [...new Set([...upkeep.unreadable.reasons, ...fences.unreadable])]
  }

  /** Something else than the slots shows that the store went back to an older state (rule 16). */
  suspectRestore(reason: string): void {
    this.#started().restoration.suspect(reason)
  }

  /** Why nothing is claimed for a while, or null. */
  restored(): string | null {
    return this.#running?.restoration.reason ?? null
  }

  /** Reservations over addresses that are held, and resources that cannot be read. */
  resourceProblems(): { type: string; message: string }[] {
    const { pools } = this.#started()
    const held = reservedAndHeld(this.#allocator.holdings.values(), pools.reservations)
    return [
      ...held.map(message => ({ type: 'ReservedAddressHeld', message })),
      ...pools.unreadable().map(message => ({ type: 'DamagedRecord', message })),
      ...pools.namespaces.ignoredAnnotations().map(message => ({ type: 'AnnotationsIgnored', message })),
    ]
  }

  /**
   * One free address, by name, from the node that owns its part: a part of ours that is this address alone, which
   * goes out like any other from the next turn on. @throws as Requests.requestAddress; ipam.no-pool: in no open pool
   */
  requestAddress(address: string): Promise<OwnedPart> {
    const { pools, requests } = this.#started()
    const ip = parseIp(address)
    const pool = pools.pools.find(({ open, cidr }) => open && contains(cidr, ip))
    if (pool === undefined)
      return Promise.reject(new TwillError('ipam.no-pool', `no open pool has ${address}`, { address }))
    return requests.requestAddress(pool, ip)
  }

  /**
   * A clean leave (rule 12): parts in which nobody lives are free at once; the others are left to be fenced.
   * Returns what is left. @throws store.*, journal.write-failed
   */
  async leave(): Promise<OwnPart[]> {
    const { upkeep, gifts } = this.#started()
    await upkeep.stop()
    for (const slot of [...this.#allocator.slots.values()])
      for (const part of [...slot.parts]) await gifts.giveBack(part)
    return this.ownParts()
  }

  #view(): PoolsInView {
    const { pools } = this.#started().pools
    return { pools, conditions: () => this.conditions() }
  }

  /** Rule 8, and the pool must be open. */
  #usable(part: OwnedPart): boolean {
    const { slot } = part
    const { boot, offlineAllowanceMs } = this.#options
    if (part.fenced || part.unknownSinceMs !== null || slot.ledgerUnread) return false
    if (!inTerm(slot.confirmed, instantNow(this.#modules.clock, boot), offlineAllowanceMs)) return false
    return this.#running?.pools.isOpen(slot.poolUid) ?? false
  }

  #started() {
    if (this.#running === null)
      throw new TwillError('internal', 'the address management has not been started')
    return this.#running
  }
}
