/**
 * `npm run bench ipam`: what addresses cost, on a real etcd that syncs to disk. For twill-ipam and its socket a daemon of
 * the rig; elsewhere each node is the whole address management of a daemon, with a connection and a journal on disk of
 * its own. An allocation counts when its ledger stands in etcd. Goals are printed, never enforced. --quick only shows
 * that all of it works.
 */
import { mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { EtcdStore } from '../datastore/etcd/store.ts'
import { createPool } from '../ipam/pools.ts'
import { systemClock } from '../lib/clock.ts'
import { isTwillError, messageOf } from '../lib/errors.ts'
import { silentLog } from '../lib/log.ts'
import { systemRandom } from '../lib/random.ts'
import { startEtcd, type TestEtcd } from '../test/fixtures/etcd.ts'
import { pool } from '../test/unit/ipam/rig.ts'
import { type AllocatingNode, openNode } from './allocating.ts'
import { type Audited, audit, fill } from './auditing.ts'
import { type LendingExtent, lendingRows } from './lending.ts'
import { ManyNodes } from './many-nodes.ts'
import { printRows, say, step } from './report.ts'
import { type Row, summary } from './statistics.ts'

interface IpamExtent {
  readonly rounds: number
  /** Allocations of one node, and of each of many. */
  readonly alone: number
  readonly burst: number
  readonly nodes: number
  readonly perNode: number
  readonly inFlight: number
  /** Allocations that `ipam check` looks through. */
  readonly audited: number
  readonly lending: LendingExtent
}

const FULL: IpamExtent = {
  rounds: 3,
  alone: 10_000,
  burst: 1_000,
  nodes: 64,
  perNode: 500,
  inFlight: 32,
  audited: 150_000,
  lending: {
    singles: 30,
    burst: 100,
    inFlight: 32,
    burstRounds: 5,
    pods: 100,
    calls: 5_000,
    callRounds: 3,
  },
}
const QUICK: IpamExtent = {
  rounds: 1,
  alone: 200,
  burst: 100,
  nodes: 4,
  perNode: 20,
  inFlight: 32,
  audited: 1_000,
  lending: { singles: 1, burst: 8, inFlight: 4, burstRounds: 1, pods: 8, calls: 100, callRounds: 1 },
}

/** One round: an etcd of its own, with one pool. */
class Round {
  readonly folder = mkdtempSync(join(tmpdir(), 'twill-bench-ipam-'))
  readonly #opened: AllocatingNode[] = []
  readonly #etcd: TestEtcd
  readonly #cidr: string
  #poolUid = ''

  private constructor(etcd: TestEtcd, cidr: string) {
    this.#etcd = etcd
    this.#cidr = cidr
  }

  static async begin(cidr: string, blockSize: number): Promise<Round> {
    const round = new Round(await startEtcd({ safe: true }), cidr)
    await round.#withStore(async store => {
      const modules = { store, random: systemRandom, clock: systemClock }
      round.#poolUid = (await createPool(pool('bench', cidr, blockSize), modules)).metadata.uid ?? ''
    })
    return round
  }

  async #withStore(work: (store: EtcdStore) => Promise<void>): Promise<void> {
    const modules = { clock: systemClock, random: systemRandom, log: silentLog }
    const store = new EtcdStore({ endpoints: [this.#etcd.endpoint] }, modules)
    await work(store).finally(() => store.close())
  }

  get endpoint(): string {
    return this.#etcd.endpoint
  }

  /** As if daemons had given out so many. */
  fill(addresses: number): Promise<void> {
    return this.#withStore(store => fill(store, { uid: this.#poolUid, cidr: this.#cidr }, addresses))
  }

  audit(): Promise<Audited> {
    return audit(this.#etcd.endpoint)
  }

  async node(uid: string): Promise<AllocatingNode> {
    const node = await openNode(uid, this.#etcd.endpoint, this.folder)
    this.#opened.push(node)
    return node
  }

  async end(): Promise<void> {
    await Promise.all(this.#opened.map(node => node.close()))
    await this.#etcd.remove()
    rmSync(this.folder, { recursive: true })
  }
}

async function rounds<T>(extent: IpamExtent, cidr: string, blockSize: number, measure: Measure<T>) {
  const results: T[] = []
  for (let i = 0; i < extent.rounds; i++) {
    const round = await Round.begin(cidr, blockSize)
    try {
      results.push(await measure(round))
    } finally {
      await round.end()
    }
  }
  return results
}

type Measure<T> = (round: Round) => Promise<T>

const perSecond = (count: number, sinceMs: number) => (count * 1000) / (performance.now() - sinceMs)

async function aloneRow(extent: IpamExtent): Promise<Row> {
  const rates = await rounds(extent, '10.0.0.0/12', 24, async round => {
    const node = await round.node('n')
    await node.add('warm')
    const begin = performance.now()
    await node.burst('burst', extent.alone, extent.inFlight)
    return perSecond(extent.alone, begin)
  })
  return { figure: 'one node, without the socket, counted in etcd', unit: '/s', measured: summary(rates) }
}

async function transactionsRow(extent: IpamExtent): Promise<Row> {
  const shares = await rounds(extent, '10.0.0.0/16', 26, async round => {
    const node = await round.node('n')
    await node.add('warm')
    await node.settled()
    const before = node.transactions
    await node.burst('burst', extent.burst, extent.inFlight)
    return (node.transactions - before) / extent.burst
  })
  return {
    figure: `etcd transactions per allocation, burst of ${extent.burst}`,
    unit: '',
    measured: summary(shares),
    goal: { atMost: 0.05 },
  }
}

async function manyRow(extent: IpamExtent): Promise<Row> {
  const rates = await rounds(extent, '10.0.0.0/12', 26, async round => {
    const many = await ManyNodes.open({ ...extent, endpoint: round.endpoint, folder: round.folder })
    const begin = performance.now()
    try {
      await many.burst(extent.perNode, extent.inFlight)
      return perSecond(extent.nodes * extent.perNode, begin)
    } finally {
      many.close()
    }
  })
  return {
    figure: `${extent.nodes} nodes at once, counted in etcd`,
    unit: '/s',
    measured: summary(rates),
    goal: { atLeast: 10_000 },
  }
}

/** null: nodes do not split parts off for each other. */
async function splitRow(extent: IpamExtent): Promise<Row | null> {
  try {
    const times = await rounds(extent, '10.0.0.0/26', 26, async round => {
      const [rich, needy] = [await round.node('rich'), await round.node('needy')]
      for (let i = 0; i < 8; i++) await rich.add(`r${i}`)
      const begin = performance.now()
      await needy.add('first')
      return performance.now() - begin
    })
    return {
      figure: '"no slot left" to a split-off part in use',
      unit: 'ms',
      measured: summary(times),
      goal: { atMost: 2_000 },
    }
  } catch (error) {
    if (!isTwillError(error, 'ipam.exhausted')) throw error
    say(`a split-off part: not measured: ${messageOf(error)}`)
    return null
  }
}

async function checkRows(extent: IpamExtent): Promise<Row[]> {
  const [audits = []] = await rounds({ ...extent, rounds: 1 }, '10.0.0.0/14', 26, async round => {
    await round.fill(extent.audited)
    return [await round.audit(), await round.audit(), await round.audit()]
  })
  for (const { findings, addresses } of audits)
    if (findings > 0 || addresses < extent.audited)
      throw new Error(`ipam check: ${findings} findings in ${addresses} addresses, expected none`)
  const over = `ipam check over ${extent.audited} allocations`
  const memory = summary(audits.map(({ residentMiB }) => residentMiB))
  return [
    { figure: over, unit: 'ms', measured: summary(audits.map(({ ms }) => ms)), goal: { atMost: 10_000 } },
    { figure: `${over}, peak memory`, unit: 'MiB', measured: memory, goal: { atMost: 500 } },
  ]
}

async function main(): Promise<void> {
  const extent = process.argv.includes('--quick') ? QUICK : FULL
  process.once('SIGINT', () => process.exit(1))
  process.once('SIGTERM', () => process.exit(1))
  const rows = [
    ...(await step('twill-ipam', () => lendingRows(extent.lending))),
    await step('one node', () => aloneRow(extent)),
    await step('transactions', () => transactionsRow(extent)),
    await step('many nodes', () => manyRow(extent)),
    await step('a split-off part', () => splitRow(extent)),
    ...(await step('ipam check', () => checkRows(extent))),
  ]
  printRows(rows.filter(row => row !== null))
}

await main()
