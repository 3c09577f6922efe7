/**
 * Addresses for interfaces of other plugins, from a daemon of the rig: twill-ipam executed beside host-local with the
 * same configuration but for the section `ipam`, and what the daemon does by itself when calls come over its socket as
 * fast as it answers them. A call over the socket counts when its address stands in etcd.
 */
import { measureBursts, measureSingles, type Times } from './attaching.ts'
import { type Competitor, competitor, HOST_LOCAL, TWILL_IPAM } from './competitors.ts'
import { LedgerCount } from './ledgered.ts'
import { compile } from './spawner.ts'
import { NODE, pause, Stage } from './stage.ts'
import { type Row, summary } from './statistics.ts'

export interface LendingExtent {
  /** Single ADDs and DELs of each competitor. */
  readonly singles: number
  readonly burst: number
  readonly inFlight: number
  readonly burstRounds: number
  /** Namespaces. */
  readonly pods: number
  /** Calls over the socket, and how often. */
  readonly calls: number
  readonly callRounds: number
}

const POOL = `
apiVersion: twill.network/v1alpha1
kind: IPPool
metadata: { name: bench }
spec: { cidr: 10.96.0.0/12, allowedUses: [ipam] }
`

export async function lendingRows(extent: LendingExtent): Promise<Row[]> {
  const stage = new Stage()
  const end = () => void stage.down().finally(() => process.exit(1))
  process.once('SIGINT', end)
  process.once('SIGTERM', end)
  try {
    const rivals = [TWILL_IPAM, HOST_LOCAL].map(competitor)
    await begin(stage, rivals, extent)
    const times: Times = new Map()
    await measureSingles(stage, rivals, extent, times)
    await measureBursts(stage, rivals, extent, times)
    return [...comparisons(times, rivals, extent), ...(await socketRows(stage, extent))]
  } finally {
    process.removeListener('SIGINT', end)
    process.removeListener('SIGTERM', end)
    await stage.down()
  }
}

/** Until the pool is in use; everybody has answered once. */
async function begin(stage: Stage, rivals: readonly Competitor[], { pods }: LendingExtent): Promise<void> {
  await stage.up(pods, 1)
  await stage.machine.must(['sh', '-c', 'cat >/run/pool.yaml && twillctl apply -f /run/pool.yaml'], {
    input: POOL,
  })
  for (const rival of rivals) {
    for (let tries = 0; ; tries++)
      try {
        await stage.spawner.run([rival.job('ADD', 0)])
        break
      } catch (error) {
        if (tries > 100) throw error
        await pause(100)
      }
    await stage.spawner.run([rival.job('DEL', 0)])
  }
}

const FIGURES = [
  { key: 'add', name: 'ADD', goal: 1 },
  { key: 'del', name: 'DEL' },
  { key: 'addBurst', name: 'burst of ADDs', goal: 1 },
  { key: 'delBurst', name: 'burst of DELs' },
] as const

function comparisons(times: Times, rivals: readonly Competitor[], { burst }: LendingExtent): Row[] {
  const [ours, theirs] = rivals as [Competitor, Competitor]
  const of = (rival: Competitor, key: string) => summary(times.get(rival.name)?.[key] ?? [])
  return FIGURES.map(figure => ({
    figure: `${figure.name}${figure.key.endsWith('Burst') ? ` (${burst})` : ''}, ${ours.name}`,
    unit: 'ms',
    measured: of(ours, figure.key),
    against: { name: theirs.name, measured: of(theirs, figure.key) },
    ...('goal' in figure ? { goal: { atMost: figure.goal } } : {}),
  }))
}

async function socketRows(stage: Stage, extent: LendingExtent): Promise<Row[]> {
  const program = compile('callers')
  const count = new LedgerCount(stage.cluster.underlay)
  const [answered, ledgered]: [number[], number[]] = [[], []]
  try {
    await count.reach(0)
    for (let round = 0; round < extent.callRounds; round++) {
      const begin = performance.now()
      const expected = count.count + extent.calls
      const seconds = await call(stage, program, 'ADD', round, extent)
      answered.push(extent.calls / seconds)
      await count.reach(expected)
      ledgered.push((extent.calls * 1000) / (performance.now() - begin))
    }
  } finally {
    count.end()
  }
  const through = "one node, through the daemon's socket"
  return [
    { figure: `${through}, answered`, unit: '/s', measured: summary(answered) },
    {
      figure: `${through}, counted in etcd`,
      unit: '/s',
      measured: summary(ledgered),
      goal: { atLeast: 5_000 },
    },
  ]
}

/** @returns seconds */
async function call(
  stage: Stage,
  program: string,
  command: 'ADD' | 'DEL',
  round: number,
  { calls, inFlight }: LendingExtent,
): Promise<number> {
  const socket = '/run/twill/cni.sock'
  const numbers = [round * calls, calls, inFlight].map(String)
  const said = await stage.cluster
    .node(NODE)
    .must([program, socket, command, ...numbers, '/run/netns/bench0'], {
      input: competitor(TWILL_IPAM).job(command, 0).input,
    })
  return Number(said) / 1e6
}
