/**
 * The address management of thousands of nodes over one store in memory: what a pod costs in writes and in what every
 * other node is told, in a cluster that starts, is restarted node by node, is redeployed, and loses nodes.
 *
 *   npm run bench ipam-scale -- [--nodes 5000] [--pods 30] [--lost 100] [--pool 10.0.0.0/12]     pods: on each node
 *
 * Time is the bench's own: it stands still while anything is under way. Seconds are the processor's, for all nodes
 * together, with slots, ledgers and all that the others are told: other work on the machine does not count.
 */
import { cpus } from 'node:os'
import { parseArgs } from 'node:util'
import { livenessKey, nodeKey, PREFIX } from '../datastore/keys.ts'
import { MemoryStore } from '../datastore/memory/store.ts'
import type { SlotRecord } from '../datastore/records/slot.ts'
import { createPool } from '../ipam/pools.ts'
import { parseCidr, sizeOf } from '../lib/address.ts'
import { ManualClock, SeededRandom, settle } from '../test/fixtures/manual-clock.ts'
import { pool } from '../test/unit/ipam/rig.ts'
import { CountedCluster } from './counted-cluster.ts'
import { say } from './report.ts'
import { ScaleNode, watchEach, watchTogether } from './scale-node.ts'

const HOUR_MS = 3_600_000
/** What happens node by node, or pod by pod, happens to so many shares of them, one after the other. */
const WAVES = 100
/** Of a first deployment, which nothing holds back. */
const DEPLOY_WAVES = 10
/** Of a redeployment: over before the first addresses that were given up have cooled. */
const REDEPLOY_WAVES = 20

/** More of them would not fit into this process with all slots and nodes each. */
const NODES_WITH_MIRRORS = 1_500
/** Changes that the store remembers. */
const HISTORY = 1_000

interface Extent {
  readonly nodes: number
  readonly pods: number
  readonly lost: number
  readonly pool: string
  /** All nodes share the mirrors of what they watch. */
  readonly together: boolean
}

interface Pod {
  readonly id: string
  readonly node: ScaleNode
}

interface Tally {
  readonly pods: number
  readonly writes: number
  readonly reads: number
  readonly watched: number
  readonly cpuSeconds: number
}

export class Scale {
  readonly #extent: Extent
  readonly #cluster = new CountedCluster()
  readonly #clock = new ManualClock()
  readonly #random = new SeededRandom(1)
  #nodes: ScaleNode[] = []
  #pods: Pod[] = []
  #started = 0

  constructor(extent: Extent) {
    this.#extent = extent
  }

  async run(): Promise<void> {
    const { nodes, pods, lost } = this.#extent
    await this.#register()
    const mirrors = this.#extent.together ? 'one mirror for all of them' : 'a mirror for each of them'
    say(`${nodes} nodes, ${mirrors}, ${pods} pods for each, pool ${this.#extent.pool}\n`)
    say(`| ${COLUMNS.join(' | ')} |\n|${'---|'.repeat(COLUMNS.length)}`)
    await this.#phase('all nodes start', () => this.#inWaves(this.#nodes, 1_000, node => node.start()))
    await this.#phase('first deployment', () => this.#deploy(nodes * pods, 'first'))
    await this.#phase('rolling restart of the daemons', () => this.#restart())
    await this.#phase('full redeployment', () => this.#redeploy())
    await this.#phase(`${lost} nodes lost at once`, () => this.#lose())
    await this.#phase('until their addresses are free', () => this.#reclaim())
    this.#sumUp()
    say(`a watch that begins lists ${kilo(this.#cluster.listedBytes())} kB; ${this.#ownership()}`)
  }

  // ---------------------------------------------------------------- scenarios

  async #register(): Promise<void> {
    const store = new MemoryStore({}, { cluster: this.#cluster, clock: this.#clock })
    const watch = this.#extent.together ? watchTogether(store) : watchEach()
    const world = { cluster: this.#cluster, clock: this.#clock, random: this.#random, watch }
    const modules = { store, random: this.#random, clock: this.#clock }
    await createPool(pool('default', this.#extent.pool), modules)
    this.#nodes = Array.from({ length: this.#extent.nodes }, (_, i) => new ScaleNode(`n${i}`, world))
    for (const node of this.#nodes) node.register(HOUR_MS)
  }

  /** Each pod where chance and the number of pods there put it. */
  async #deploy(count: number, name: string): Promise<void> {
    const ids = Array.from({ length: count }, (_, i) => `${name}-${i}`)
    await this.#inWaves(ids, 1_000, id => this.#begin(id), DEPLOY_WAVES)
  }

  async #restart(): Promise<void> {
    await this.#inWaves(this.#nodes, 1_000, async node => {
      await node.kill()
      node.start()
    })
  }

  /** The new pod runs before the old one ends, mostly on another node. */
  async #redeploy(): Promise<void> {
    const old = this.#shuffled(this.#pods)
    this.#pods = []
    const replace = async ({ id, node }: Pod, i: number) => {
      await this.#begin(`second-${i}`)
      node.del(id)
    }
    await this.#inWaves(old, 2_000, replace, REDEPLOY_WAVES)
  }

  /** Removed by name; the machines are gone. What they owned is left to the other daemons, their pods begin elsewhere. */
  async #lose(): Promise<void> {
    const lost = new Set(this.#shuffled(this.#nodes).slice(0, this.#extent.lost))
    for (const { name, uid } of lost) {
      const liveness = JSON.parse(this.#cluster.get(livenessKey(uid))?.value ?? '{}')
      const removed = { fence: this.#random.hex(16), by: 'bench', endsWith: 'return' }
      this.#cluster.put(livenessKey(uid), { ...liveness, removed })
      this.#cluster.put(nodeKey(name), null)
    }
    for (const node of lost) await node.kill()
    this.#nodes = this.#nodes.filter(node => !lost.has(node))
    const orphans = this.#pods.filter(({ node }) => lost.has(node))
    this.#pods = this.#pods.filter(({ node }) => !lost.has(node))
    await this.#deploy(orphans.length, 'moved')
  }

  async #reclaim(): Promise<void> {
    const uids = new Set(this.#nodes.map(({ uid }) => uid))
    const isLeft = () => this.#parts().some(({ owner }) => owner !== null && !uids.has(owner))
    for (let minutes = 0; isLeft(); minutes++) {
      if (minutes === 120) throw new Error('parts of lost nodes are still theirs after two hours')
      await this.#clock.advance(60_000)
    }
  }

  // ---------------------------------------------------------------- how

  async #inWaves<T>(
    items: readonly T[],
    everyMs: number,
    step: (item: T, index: number) => unknown,
    waves = WAVES,
  ): Promise<void> {
    const size = Math.ceil(items.length / waves)
    for (let from = 0; from < items.length; from += size) {
      await this.#over(Promise.all(items.slice(from, from + size).map((item, i) => step(item, from + i))))
      await this.#clock.advance(everyMs)
      // Everybody has been told by now.
      this.#cluster.compact(HISTORY)
    }
    await this.#clock.advance(5_000)
  }

  /** Time goes on only when all that is left waits for it: a pod for an address that another node is to give. */
  async #over(work: Promise<unknown>): Promise<void> {
    let isOver = false
    const end = work.finally(() => {
      isOver = true
    })
    for (await settle(); !isOver; await settle()) await this.#clock.advance(10)
    await end
  }

  async #begin(id: string): Promise<void> {
    const [a, b] = [this.#anyNode(), this.#anyNode()]
    const node = a.pods.size <= b.pods.size ? a : b
    await node.add(id)
    this.#pods.push({ id, node })
    this.#started++
  }

  #anyNode(): ScaleNode {
    return this.#nodes[Math.floor(this.#random.fraction() * this.#nodes.length)] as ScaleNode
  }

  #shuffled<T>(items: readonly T[]): T[] {
    const shuffled = [...items]
    for (let i = shuffled.length - 1; i > 0; i--) {
      const j = Math.floor(this.#random.fraction() * (i + 1))
      const [a, b] = [shuffled[i] as T, shuffled[j] as T]
      shuffled[i] = b
      shuffled[j] = a
    }
    return shuffled
  }

  // ---------------------------------------------------------------- figures

  async #phase(name: string, work: () => Promise<void>): Promise<void> {
    const before = this.#tally()
    await work()
    const after = this.#tally()
    const cost = (of: Exclude<keyof Tally, 'cpuSeconds'>) => after[of] - before[of]
    const seconds = after.cpuSeconds - before.cpuSeconds
    const each = (value: number, digits = 3) =>
      cost('pods') === 0 ? '-' : (value / cost('pods')).toFixed(digits)
    const cells = [
      name,
      cost('pods'),
      seconds.toFixed(1),
      cost('pods') === 0 ? '-' : (cost('pods') / seconds).toFixed(0),
      cost('writes'),
      each(cost('writes')),
      cost('reads'),
      cost('watched'),
      each(cost('watched') * 1000, 0),
      this.#partsPerSlot(),
      (process.resourceUsage().maxRSS / 1024).toFixed(0),
    ]
    say(`| ${cells.join(' | ')} |`)
  }

  #sumUp(): void {
    const { pods, writes, watched } = this.#tally()
    const perPod = (writes / pods).toFixed(3)
    const per1000 = ((watched / pods) * 1000).toFixed(0)
    say(`\nin all ${pods} pods started: ${perPod} writes each, ${per1000} bytes watched by a node per 1,000`)
  }

  #tally(): Tally {
    const { commits: writes, reads, watchedBytes: watched } = this.#cluster
    return { pods: this.#started, writes, reads, watched, cpuSeconds: cpuSeconds() }
  }

  #slots(): SlotRecord[] {
    return this.#cluster.list(PREFIX.slots).map(({ value }) => JSON.parse(value))
  }

  #parts() {
    return this.#slots().flatMap(({ parts }) => parts)
  }

  #partsPerSlot(): string {
    return (this.#parts().length / this.#slots().length).toFixed(2)
  }

  #ownership(): string {
    const owned = this.#parts().filter(({ owner }) => owner !== null)
    const addresses = owned.reduce((sum, { cidr }) => sum + Number(sizeOf(parseCidr(cidr))), 0)
    const share = ((100 * this.#pods.length) / addresses).toFixed(0)
    return `${this.#pods.length} pods hold ${share} % of the ${addresses} addresses in ${owned.length} parts that nodes own`
  }
}

function cpuSeconds(): number {
  const { user, system } = process.cpuUsage()
  return (user + system) / 1e6
}

const kilo = (bytes: number): string => (bytes / 1000).toFixed(0)

const COLUMNS = [
  '',
  'pods started',
  'processor seconds',
  'pods per processor second',
  'writes',
  'per pod',
  'reads',
  'bytes watched by a node',
  'per 1,000 pods',
  'parts per slot',
  'peak MiB',
]

async function main(): Promise<void> {
  const { values } = parseArgs({
    options: {
      nodes: { type: 'string', default: '500' },
      pods: { type: 'string', default: '30' },
      lost: { type: 'string' },
      pool: { type: 'string', default: '10.0.0.0/12' },
    },
  })
  const [nodes, pods] = [Number(values.nodes), Number(values.pods)]
  const lost = values.lost === undefined ? Math.ceil(nodes / 50) : Number(values.lost)
  const together = nodes > NODES_WITH_MIRRORS
  await new Scale({ nodes, pods, lost, pool: values.pool, together }).run()
  say(`\n${cpus()[0]?.model ?? 'processor'}, one of ${cpus().length}; Node ${process.version}`)
}

await main()
