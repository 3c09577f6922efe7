/**
 * One node of thousands: its address management as the daemon runs it, with watches, timers and a journal of its own, over
 * a connection of its own to the store in memory.
 *
 * What the nodes share: a record that all of them watch is parsed once, and all mirrors hold the same object (records are
 * never changed in place). Where they are too many for this process, they subscribe to one mirror of slots and one of
 * nodes, so that each hears of everything, and keeps its own index, but no copy of its own.
 */
import { livenessKey, nodeKey } from '../datastore/keys.ts'
import { MemoryStore } from '../datastore/memory/store.ts'
import { recordParser } from '../datastore/record.ts'
import { nodeRecord } from '../datastore/records/node.ts'
import type { Store } from '../datastore/store.ts'
import type { HeldAddress, Holder } from '../ipam/ipam.ts'
import { type IpamJournalRecord, replay } from '../ipam/journal-records.ts'
import { createIpam, type NodeIpam } from '../ipam/node-ipam.ts'
import { parseSlot } from '../ipam/slot-index.ts'
import { Watched, type WatchedModules } from '../ipam/watched.ts'
import type { Random } from '../lib/clock.ts'
import { silentLog } from '../lib/log.ts'
import { MachineClock, type ProcessClock } from '../test/fixtures/machine-clock.ts'
import type { ManualClock } from '../test/fixtures/manual-clock.ts'
import type { CountedCluster } from './counted-cluster.ts'

export interface World {
  readonly cluster: CountedCluster
  readonly clock: ManualClock
  readonly random: Random
  readonly watch: (modules: WatchedModules) => Watched
}

type Parser<T> = (text: string, key: string) => T

/** The last value of each key stays: who lags behind parses for himself. */
function parsedOnce<T>(parse: Parser<T>): Parser<T> {
  const last = new Map<string, { readonly text: string; readonly value: T }>()
  return (text, key) => {
    const known = last.get(key)
    if (known?.text === text) return known.value
    const value = parse(text, key)
    last.set(key, { text, value })
    return value
  }
}

const parsing = () => ({ parseNode: parsedOnce(recordParser(nodeRecord)), parseSlot: parsedOnce(parseSlot) })

/** Mirrors of its own for each node. */
export function watchEach(): World['watch'] {
  const options = parsing()
  return modules => new Watched(options, modules)
}

/** The same mirrors for all, which no node closes. */
export function watchTogether(store: Store): World['watch'] {
  const { nodes, slots } = new Watched({}, { store, log: silentLog })
  return () => ({
    nodes,
    slots,
    synced: async () => {
      await Promise.all([nodes.synced(), slots.synced()])
    },
    close: async () => undefined,
  })
}

interface Running {
  readonly ipam: NodeIpam
  readonly process: ProcessClock
  readonly store: MemoryStore
}

export class ScaleNode {
  readonly name: string
  readonly uid: string
  readonly #world: World
  readonly #machine: MachineClock
  readonly #journal: string[] = []
  readonly #attachments = new Map<string, { holder: Holder; addresses: HeldAddress[] }>()
  #running: Running | null = null

  constructor(name: string, world: World) {
    this.name = name
    this.uid = `uid-${name}`
    this.#world = world
    this.#machine = new MachineClock(world.clock)
  }

  get pods(): ReadonlyMap<string, unknown> {
    return this.#attachments
  }

  /** The records that say it is a member. */
  register(allowanceMs: number): void {
    const { name, uid } = this
    const host = this.#world.random.hex(4)
    const mac = `02:${host.slice(0, 2)}:${host.slice(2, 4)}:${host.slice(4, 6)}:${host.slice(6, 8)}:01`
    this.#world.cluster.put(nodeKey(name), {
      v: 1,
      name,
      uid,
      incarnation: this.#world.random.uuid(),
      underlay: { '4': '192.168.1.1' },
      hostAddresses: [],
      vteps: [{ family: 4, mac, vni: 4096, port: 4789 }],
      tunnel: {},
    })
    this.#world.cluster.put(livenessKey(uid), {
      v: 1,
      uid,
      name,
      hardware: host,
      heartbeat: 1,
      heartbeatMs: 10_000,
      allowanceMs,
      removed: null,
    })
  }

  /** All options but who it is are the daemon's defaults. */
  start(): void {
    const { cluster, random, watch } = this.#world
    const process = this.#machine.begin()
    const store = new MemoryStore({}, { cluster, clock: process })
    const journal = {
      append: async (record: IpamJournalRecord) => {
        this.#journal.push(JSON.stringify(record))
      },
    }
    const ipam = createIpam(
      {
        nodeUid: this.uid,
        nodeName: this.name,
        boot: 'boot',
        journaled: replay(this.#journal.map(text => JSON.parse(text))),
        journalIntact: true,
        onLost: ({ cidr }) => {
          throw new Error(`${this.name} has lost ${cidr}`)
        },
      },
      { store, clock: process, random, log: silentLog, journal, watch },
    )
    this.#running = { ipam, process, store }
    ipam.restore([...this.#attachments.values()])
    ipam.start()
  }

  /** As SIGKILL does: without its store it writes nothing any more. It only lets go of what it shares with others. */
  async kill(): Promise<void> {
    const { ipam, process, store } = this.#alive()
    this.#running = null
    process.end()
    await store.close()
    await ipam.stop()
  }

  /** As ADD does it. */
  async add(id: string): Promise<void> {
    const { ipam } = this.#alive()
    const pod = { namespace: 'default', name: id, uid: id }
    const holder = {
      id,
      kind: 'pod' as const,
      network: 'twill',
      containerId: id,
      ifName: 'eth0',
      pod,
      since: 1,
    }
    const addresses = await ipam.allocate({ holder, families: [4], pools: [], addresses: [] })
    this.#attachments.set(id, { holder, addresses })
    ipam.recorded(id)
  }

  /** As DEL does it, when the link has gone. */
  del(id: string): void {
    this.#attachments.delete(id)
    this.#alive().ipam.release(id)
  }

  #alive(): Running {
    if (this.#running === null) throw new Error(`${this.name} is not running`)
    return this.#running
  }
}
