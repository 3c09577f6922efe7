/**
 * The address management of many nodes over one store in memory: what a pod costs in writes and in what every other node
 * is told, in a cluster that starts, is restarted node by node, is redeployed, and loses nodes.
 *
 *   npm run bench ipam-scale -- [--nodes 100] [--pods 30] [--lost 2]     pods: on each node
 *
 * Time is the bench's own: it stands still while nothing waits, so that addresses per second are what one processor
 * does for all nodes, slots and ledgers included. Bytes watched are those of all keys that every node watches.
 */
import { parseArgs } from 'node:util'
import { PREFIX } from '../datastore/keys.ts'
import type { SlotRecord } from '../datastore/records/slot.ts'
import { settle } from '../test/fixtures/manual-clock.ts'
import { Rig, type RigNode } from '../test/unit/ipam/rig.ts'

const { values } = parseArgs({
  options: {
    nodes: { type: 'string', default: '100' },
    pods: { type: 'string', default: '30' },
    lost: { type: 'string', default: '2' },
  },
})
const [nodeCount, podsEach, lostCount] = [values.nodes, values.pods, values.lost].map(Number) as [
  number,
  number,
  number,
]
const ALLOWANCE_MS = 600_000
const WATCHED = [PREFIX.slots, PREFIX.nodes, PREFIX.resources, 'address-space']

const rig = new Rig(1)
let started = 0
let peakMiB = 0

interface Cost {
  readonly revision: number
  readonly watched: number
  readonly started: number
  readonly atMs: number
}

/** Every change of the store so far, and those that every node is told of. */
function cost(): Cost {
  const { revision } = rig.cluster
  const watched = WATCHED.reduce((sum, prefix) => sum + bytesOf(prefix), 0)
  return { revision, watched, started, atMs: performance.now() }
}

function bytesOf(prefix: string): number {
  const since = rig.cluster.since(prefix, 1, rig.cluster.epoch)
  const events = since.resumable ? since.events : []
  return events.reduce((sum, { key, value }) => sum + key.length + (value?.length ?? 0), 0)
}

async function phase(name: string, work: () => Promise<void>): Promise<void> {
  const before = cost()
  await work()
  const after = cost()
  const pods = after.started - before.started
  const seconds = (after.atMs - before.atMs) / 1000
  peakMiB = Math.max(peakMiB, process.memoryUsage.rss() / 2 ** 20)
  const writes = after.revision - before.revision
  const watched = after.watched - before.watched
  const each = (value: number, per: number) =>
    pods === 0 ? '-' : ((value / pods) * per).toFixed(per === 1 ? 3 : 0)
  const rate = pods === 0 ? '-' : (pods / seconds).toFixed(0)
  console.log(
    `| ${name} | ${pods} | ${rate} | ${writes} | ${each(writes, 1)} | ${watched} | ${each(watched, 1000)} |`,
  )
}

async function deploy(nodes: readonly RigNode[], round: number): Promise<void> {
  for (let i = 0; i < podsEach; i++) {
    await Promise.all(nodes.map(node => node.add(`${node.name}-${round}-${i}`)))
    started += nodes.length
  }
  await rig.clock.advance(5_000)
}

/** Each node's pods end, and as many new ones begin, before the next node's. */
async function redeploy(nodes: readonly RigNode[], round: number): Promise<void> {
  for (const node of nodes) {
    for (const id of [...node.attachments.keys()]) node.del(id)
    for (let i = 0; i < podsEach; i++) await node.add(`${node.name}-${round}-${i}`)
    started += podsEach
  }
  await rig.clock.advance(5_000)
}

async function rollingRestart(nodes: readonly RigNode[]): Promise<void> {
  for (const node of nodes) {
    node.kill()
    node.start()
    await settle()
  }
  await rig.clock.advance(5_000)
}

/** Removed by name; the others fence and free what they had, and their pods start elsewhere. */
async function loseNodes(lost: readonly RigNode[], rest: readonly RigNode[]): Promise<void> {
  for (const node of lost) {
    node.kill()
    const key = `liveness/${node.uid}`
    const removed = { fence: rig.random.hex(8), by: 'bench', endsWith: 'return' }
    rig.put(key, { ...rig.read<object>(key), removed })
    rig.put(`nodes/${node.name}`, null)
  }
  const orphans = lost.length * podsEach
  for (let i = 0; i < orphans; i++) await rest[i % rest.length]?.add(`orphan-${i}`)
  started += orphans
  await rig.clock.advance(2 * ALLOWANCE_MS)
}

function fragmentation(): string {
  const parts = rig.under<SlotRecord>(PREFIX.slots).flatMap(([, slot]) => slot.parts)
  const slots = rig.under(PREFIX.slots).length
  const owned = parts.filter(({ owner }) => owner !== null).length
  return `${slots} slots in ${parts.length} parts (${(parts.length / slots).toFixed(2)} each), ${owned} owned`
}

async function main(): Promise<void> {
  await rig.createPool('default', '10.0.0.0/8')
  const options = {
    lowWater: 16,
    offlineAllowanceMs: ALLOWANCE_MS,
    confirmEveryMs: ALLOWANCE_MS / 2,
    sweepEveryMs: 120_000,
    marginMs: 60_000,
  }
  for (let i = 0; i < nodeCount; i++) rig.node(`n${i}`, options)
  const { nodes } = rig
  console.log(`${nodeCount} nodes, ${podsEach} pods on each, ${lostCount} lost\n`)
  console.log('| | pods started | per second | writes | per pod | bytes watched by a node | per 1,000 pods |')
  console.log('|---|---|---|---|---|---|---|')
  await phase('all nodes start', async () => {
    for (const node of nodes) node.start()
    await rig.clock.advance(1_000)
  })
  await phase('first deployment', () => deploy(nodes, 0))
  await phase('rolling restart of the daemons', () => rollingRestart(nodes))
  await phase('full redeployment', () => redeploy(nodes, 1))
  await phase(`${lostCount} nodes lost at once`, () =>
    loseNodes(nodes.slice(0, lostCount), nodes.slice(lostCount)),
  )
  console.log(`\npeak memory ${peakMiB.toFixed(0)} MiB for all; ${fragmentation()}`)
  for (const node of nodes) node.kill()
}

await main()
