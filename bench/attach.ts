/**
 * `npm run bench attach`: what attaching costs, side by side with the reference plugins in one run, and what the daemon
 * and the overlay cost.
 */
import { execFileSync } from 'node:child_process'
import { join } from 'node:path'
import {
  measureBursts,
  measureChurn,
  measureDaemonShare,
  measureSingles,
  measureVersions,
  type Times,
} from './attaching.ts'
import {
  buildNewerReference,
  type Competitor,
  competitor,
  newerVersion,
  OFFLINE,
  reference,
  TWILL,
  TWILL_V4,
} from './competitors.ts'
import type { Extent } from './extent.ts'
import { measureGrowth } from './growing.ts'
import type { KernelFloor } from './kernel-floor.ts'
import { measureOverlay, overlayRows } from './overlay.ts'
import { report, say, step } from './report.ts'
import { pause, type Stage } from './stage.ts'
import { type Row, summary } from './statistics.ts'

async function references(extent: Extent): Promise<Competitor[]> {
  const debian = [reference('bridge'), reference('ptp')].map(competitor)
  const newer = extent.newer ? await buildNewerReference() : { reason: 'left out of --quick' }
  if ('reason' in newer) {
    say(`reference plugins ${newerVersion}: not measured: ${newer.reason}`)
    return debian
  }
  const shapes = [
    reference('bridge', newer.folder, newerVersion),
    reference('ptp', newer.folder, newerVersion),
  ]
  return [...debian, ...shapes.map(competitor)]
}

/** In a process of its own, with namespaces of its own on the same kernel. */
function kernelFloor(pods: number): KernelFloor {
  const program = join(import.meta.dirname, 'kernel-floor.ts')
  const output = execFileSync(process.execPath, ['--import', 'tsx', program, String(pods), '--json'], {
    encoding: 'utf8',
  })
  return JSON.parse(output) as KernelFloor
}

const FIGURES = [
  { key: 'add', name: 'ADD', goals: { bridge: 0.25, ptp: 0.3 } },
  { key: 'del', name: 'DEL', goals: { bridge: 0.1, ptp: 0.1 } },
  { key: 'addBurst', name: 'burst of ADDs', goals: { bridge: 0.25, ptp: 0.25 } },
  { key: 'delBurst', name: 'burst of DELs', goals: { bridge: 0.3, ptp: 0.3 } },
  { key: 'churn', name: 'churn of ADDs and DELs' },
  { key: 'readd', name: 'DEL, then ADD of the same container' },
] as const

/** Every shape of ours against every reference; the goals are for the whole of twill, dual-stack and with etcd. */
function comparisons(times: Times, ours: readonly Competitor[], others: readonly Competitor[]): Row[] {
  const of = (rival: Competitor, key: string) => summary(times.get(rival.name)?.[key] ?? [])
  return FIGURES.flatMap(figure =>
    ours.flatMap(our =>
      others.map((other): Row => {
        const bound =
          'goals' in figure ? figure.goals[other.name.startsWith('bridge') ? 'bridge' : 'ptp'] : null
        return {
          figure: `${figure.name}, ${our.name}`,
          unit: 'ms',
          measured: of(our, figure.key),
          against: { name: other.name, measured: of(other, figure.key) },
          ...(our.name === TWILL.name && bound !== null ? { goal: { atMost: bound } } : {}),
        }
      }),
    ),
  )
}

const single = (value: number) => ({ median: value, p95: value })

async function idleRows(stage: Stage, extent: Extent): Promise<Row[]> {
  await pause(extent.idleMs)
  const share = await stage.processorShare(extent.idleMs)
  return [
    {
      figure: 'twilld resident, idle',
      unit: 'MiB',
      measured: single(stage.residentMiB()),
      goal: { atMost: 90 },
    },
    { figure: 'twilld processor time, idle', unit: '%', measured: single(share), goal: { atMost: 1 } },
  ]
}

async function growthRows(stage: Stage, extent: Extent): Promise<Row[]> {
  const rows = [TWILL, reference('bridge')].map(competitor)
  const all: Row[] = []
  for (const rival of rows) {
    const growth = await measureGrowth(stage, rival, extent)
    const ours = rival.name === TWILL.name
    all.push({
      figure: `ADD with ${extent.pods} pods, ${rival.name}`,
      unit: 'ms',
      measured: summary(growth.fullMs),
      against: { name: 'with none', measured: summary(growth.emptyMs) },
      ...(ours ? { goal: { atMost: 1.15 } } : {}),
    })
    if (!ours) continue
    all.push(
      {
        figure: `etcd transactions for ${extent.burst} pods`,
        unit: '',
        measured: single(growth.commits),
        goal: { atMost: 10 },
      },
      {
        figure: `twilld resident, after ${extent.pods} pods`,
        unit: 'MiB',
        measured: single(growth.residentMiB),
        goal: { atMost: 110 },
      },
    )
  }
  return all
}

async function shareRows(stage: Stage, extent: Extent): Promise<Row[]> {
  const shares = await measureDaemonShare(stage, competitor(TWILL), extent.singles)
  const floor = kernelFloor(extent.burst)
  const row = (command: 'ADD' | 'DEL', floorMs: readonly number[], atMost?: number): Row => ({
    figure: `the daemon's share of ${command}`,
    unit: 'ms',
    measured: summary(shares[command]),
    against: { name: 'kernel floor', measured: summary(floorMs) },
    ...(atMost === undefined ? {} : { goal: { atMost } }),
  })
  return [row('ADD', floor.attachMs, 1.5), row('DEL', floor.detachMs)]
}

async function versionRows(stage: Stage, extent: Extent): Promise<Row[]> {
  const { trueMs, conduitMs, offlineMs } = await measureVersions(stage, extent)
  const against = { name: '/bin/true', measured: summary(trueMs) }
  return [
    { figure: 'VERSION, twill', unit: 'ms', measured: summary(conduitMs), against, goal: { atMost: 2 } },
    { figure: 'VERSION, twill-offline', unit: 'ms', measured: summary(offlineMs), against },
  ]
}

async function measure(stage: Stage, extent: Extent): Promise<Row[]> {
  const others = await references(extent)
  const ours = [TWILL, TWILL_V4, OFFLINE].map(competitor)
  const all = [...ours, ...others]
  const times: Times = new Map()
  await step('two nodes', () => stage.up(extent.pods + extent.growthSamples))
  const idle = await step('idle', () => idleRows(stage, extent))
  const growth = await step('growth', () => growthRows(stage, extent))
  const versions = await step('VERSION', () => versionRows(stage, extent))
  await step('single ADDs and DELs', () => measureSingles(stage, all, extent, times))
  const shares = await step("the daemon's share", () => shareRows(stage, extent))
  await step('bursts', () => measureBursts(stage, all, extent, times))
  await step('churn', () => measureChurn(stage, all, extent, times))
  const overlay = overlayRows(await step('VXLAN', () => measureOverlay(stage, extent)))
  return [...comparisons(times, ours, others), ...versions, ...shares, ...growth, ...idle, ...overlay]
}

await report(measure)
