/**
 * A cluster in memory with nodes that can be killed, restarted and rebooted: what the daemon is to the address
 * management, and nothing else. Used by the unit tests and by the model.
 */

import { livenessKey, nodeKey } from '../../../datastore/keys.ts'
import { MemoryCluster } from '../../../datastore/memory/cluster.ts'
import { MemoryStore } from '../../../datastore/memory/store.ts'
import type { IPPool } from '../../../datastore/resources/ippool.ts'
import type { HeldAddress, Holder } from '../../../ipam/ipam.ts'
import { type IpamJournalRecord, replay } from '../../../ipam/journal-records.ts'
import type { LostPart } from '../../../ipam/lost-part.ts'
import { createIpam, type IpamOptions, type NodeIpam } from '../../../ipam/node-ipam.ts'
import { createPool } from '../../../ipam/pools.ts'
import { type Family, parseIp } from '../../../lib/address.ts'
import { isTwillError } from '../../../lib/errors.ts'
import { type Log, silentLog } from '../../../lib/log.ts'
import { MachineClock, type ProcessClock } from '../../fixtures/machine-clock.ts'
import { ManualClock, SeededRandom, settle } from '../../fixtures/manual-clock.ts'
import { WatchLag } from '../../fixtures/watch-lag.ts'

/** Code of the error with which it was refused, or 'granted'. */
export async function refused(promise: Promise<unknown>): Promise<string> {
  try {
    await promise
  } catch (error) {
    if (isTwillError(error)) return error.code
    throw error
  }
  return 'granted'
}

export function holder(id: string): Holder {
  return { id, kind: 'pod', network: 'n', containerId: `c-${id}`, ifName: 'eth0', pod: null, since: 1 }
}

export function pool(name: string, cidr: string, blockSize?: number): IPPool {
  return {
    apiVersion: 'twill.network/v1alpha1',
    kind: 'IPPool',
    metadata: { name },
    spec: {
      cidr,
      ...(blockSize === undefined ? {} : { blockSize }),
      encapsulation: 'Always',
      routes: 'Datastore',
      natOutgoing: true,
      disabled: false,
      allowedUses: ['pod', 'tunnel'],
    },
  }
}

/** What a node keeps over a restart: the journal, and the attachments that its daemon journals itself. */
export class RigNode {
  readonly name: string
  /** Another one, once this machine had to take its name anew. */
  uid: string
  readonly clock: MachineClock
  /** Of this life; a dead one's reaches nothing any more. */
  store: MemoryStore
  readonly records: IpamJournalRecord[] = []
  readonly attachments = new Map<string, { holder: Holder; addresses: HeldAddress[] }>()
  /** Allocations that are not answered yet. */
  readonly adding = new Set<string>()
  readonly lost: LostPart[] = []
  boot = 'boot-1'
  journalFails = false
  journalIntact = true
  wasPaused = false
  wasSetBack = false
  /** Null while the daemon is down. */
  ipam: NodeIpam | null = null
  log: Log = silentLog
  /** What the daemon's watches lag behind. */
  readonly watches = new WatchLag()
  readonly #cluster: MemoryCluster
  readonly #dead: MemoryStore[] = []
  #process: ProcessClock
  #unavailable = false
  #delayMs = 0
  readonly #random: SeededRandom
  readonly #options: Partial<IpamOptions>
  #lives = 0

  constructor(
    name: string,
    cluster: MemoryCluster,
    random: SeededRandom,
    clock: ManualClock,
    options: Partial<IpamOptions>,
  ) {
    this.name = name
    this.uid = `uid-${name}`
    this.clock = new MachineClock(clock)
    this.#random = random
    this.#options = options
    this.#cluster = cluster
    this.#process = this.clock.begin()
    this.store = new MemoryStore({}, { cluster, clock: this.#process })
  }

  /** The clock of this life, whose timers end with it. */
  get process(): ProcessClock {
    return this.#process
  }

  start(options: Partial<IpamOptions> = {}): NodeIpam {
    const life = ++this.#lives
    const ipam = createIpam(
      {
        nodeUid: this.uid,
        nodeName: this.name,
        boot: this.boot,
        lowWater: 0,
        journaled: replay(this.records),
        journalIntact: this.journalIntact,
        onLost: lost => {
          if (life === this.#lives) this.#cutOff(lost)
        },
        ...this.#options,
        ...options,
      },
      {
        store: this.watches.around(this.store),
        clock: this.#process,
        random: this.#random,
        log: this.log,
        journal: { append: record => this.#append(life, record) },
      },
    )
    this.ipam = ipam
    ipam.restore([...this.attachments.values()])
    ipam.start()
    return ipam
  }

  /** As the daemon does with pods whose addresses are lost (rule 15). */
  #cutOff(lost: LostPart): void {
    this.lost.push(lost)
    const { ipam } = this
    for (const id of lost.holders) {
      this.attachments.delete(id)
      queueMicrotask(() => ipam?.release(id))
    }
  }

  /** On a slow node the answer comes late: a process that ends meanwhile does not know whether it is written. */
  async #append(life: number, record: IpamJournalRecord): Promise<void> {
    const process = this.#process
    const text = JSON.stringify(record)
    if (this.#delayMs > 0) await process.sleep(this.#delayMs)
    if (life !== this.#lives) throw new Error('the process is dead')
    if (this.journalFails) throw new Error('disk full')
    this.records.push(JSON.parse(text))
    if (this.#delayMs > 0) await process.sleep(this.#delayMs)
  }

  /** SIGKILL: whatever it had under way writes nothing any more. */
  kill(): void {
    this.#lives++
    this.adding.clear()
    this.ipam = null
    this.#process.end()
    void this.store.close()
    this.#dead.push(this.store)
    this.#process = this.clock.begin()
    const options = { delayMs: this.#delayMs }
    this.store = new MemoryStore(options, { cluster: this.#cluster, clock: this.#process })
    this.store.setUnavailable(this.#unavailable)
  }

  /** How long every call of the store takes, and half of what the journal does. */
  setDelay(ms: number): void {
    this.#delayMs = ms
    this.store.setDelay(ms)
  }

  /** Somebody sets the machine's clock. */
  jumpRealtime(ms: number): void {
    if (ms < 0) this.wasSetBack = true
    this.clock.jumpRealtime(ms)
  }

  /** The machine stands still, and everything on it. */
  pause(): void {
    this.wasPaused = true
    this.clock.pause()
    this.store.setDelay(Math.max(1, this.#delayMs))
  }

  resume(): void {
    this.clock.resume()
    this.store.setDelay(this.#delayMs)
  }

  get allowanceMs(): number {
    return this.#options.offlineAllowanceMs ?? 3_600_000
  }

  /** Cut off from the store, over restarts too. */
  setUnavailable(unavailable: boolean): void {
    this.#unavailable = unavailable
    this.store.setUnavailable(unavailable)
  }

  get isCutOff(): boolean {
    return this.#unavailable
  }

  /** What was sent in doubt as 'late', in this life or before, arrives now. */
  landLate(): void {
    for (const store of [...this.#dead, this.store]) store.landLate()
  }

  /** Kills every pod too. */
  reboot(): void {
    this.kill()
    this.clock.reboot()
    this.boot = `${this.boot}+`
    this.attachments.clear()
  }

  /** As ADD does it: allocate, journal, recorded. */
  async add(id: string, families: Family[] = [4], pools: string[] = [], named: string[] = []) {
    const ipam = this.ipam as NodeIpam
    this.adding.add(id)
    const addresses = await ipam
      .allocate({ holder: holder(id), families, pools, addresses: named.map(parseIp) })
      .finally(() => this.adding.delete(id))
    if (this.ipam !== ipam) throw new Error('the process is dead')
    this.attachments.set(id, { holder: holder(id), addresses })
    ipam.recorded(id)
    return addresses
  }

  /** As DEL does it, when the link has gone. */
  del(id: string): void {
    this.attachments.delete(id)
    this.ipam?.release(id)
  }
}

export class Rig {
  readonly cluster: MemoryCluster
  readonly clock = new ManualClock()
  readonly random: SeededRandom
  readonly operator: MemoryStore
  readonly nodes: RigNode[] = []

  constructor(seed = 1, cluster = new MemoryCluster()) {
    this.cluster = cluster
    this.random = new SeededRandom(seed)
    this.operator = new MemoryStore({}, { cluster: this.cluster, clock: this.clock })
  }

  get modules() {
    return { store: this.operator, random: this.random, clock: this.clock }
  }

  createPool(name: string, cidr: string, blockSize?: number) {
    return createPool(pool(name, cidr, blockSize), this.modules)
  }

  /** A registered node; its daemon is not running yet. */
  node(name: string, options: Partial<IpamOptions> = {}): RigNode {
    const node = new RigNode(name, this.cluster, this.random, this.clock, options)
    this.nodes.push(node)
    this.register(node)
    this.beat(node)
    return node
  }

  /** As the heart does: the record is there, and a removal that its return ends is over. */
  beat({ name, uid, allowanceMs }: RigNode): void {
    this.put(livenessKey(uid), {
      v: 1,
      uid,
      name,
      hardware: `hw-${name}`,
      heartbeat: 1,
      heartbeatMs: 10_000,
      allowanceMs,
      removed: null,
    })
  }

  /** The name's record, as the daemon writes it when it starts. */
  register({ name, uid }: RigNode): void {
    this.put(nodeKey(name), {
      v: 1,
      name,
      uid,
      incarnation: 'i',
      underlay: {},
      hostAddresses: [],
      vteps: [],
      tunnel: {},
    })
  }

  put(key: string, value: unknown): void {
    const expected = this.cluster.get(key)?.modRevision ?? 0
    this.cluster.commit({ key, expected, value: value === null ? null : JSON.stringify(value) })
  }

  read<T>(key: string): T | null {
    const entry = this.cluster.get(key)
    return entry === null ? null : (JSON.parse(entry.value) as T)
  }

  /** Keys and values under a prefix. */
  under<T>(prefix: string): [string, T][] {
    return this.cluster.list(prefix).map(entry => [entry.key, JSON.parse(entry.value) as T])
  }
}

/** A node on which p1 lives, in the pool 'one'. */
export async function withPod(rig: Rig) {
  await rig.createPool('one', '10.0.0.0/24')
  const node = rig.node('a')
  node.start()
  await settle()
  await node.add('p1')
  await rig.clock.advance(5000)
  return node
}
