/**
 * `npm run bench kubernetes`: what a pod costs on a real Kubernetes, beside bridge with host-local on the same node, in
 * turns; and what a large cluster costs a daemon.
 */
import { KubernetesCluster } from '../hack/rig/kubernetes/cluster.ts'
import { must } from '../hack/rig/processes.ts'
import { askedSoFar, countRequests } from './api-requests.ts'
import { DaemonProcess } from './daemon-process.ts'
import { ADDRESSES, type NetworkName, NodeNetworks } from './node-networks.ts'
import { PodStarts } from './pod-starts.ts'
import { printRows, step } from './report.ts'
import { pause } from './stage.ts'
import { type Row, summary } from './statistics.ts'

const EXTENT = process.argv.includes('--quick')
  ? { pods: 3, rounds: 1, singles: 2, synthetic: 50, settleMs: 1_000 }
  : { pods: 50, rounds: 3, singles: 20, synthetic: 5_000, settleMs: 20_000 }

const NODE = 'node1'

const names = (what: string, count: number): string[] =>
  Array.from({ length: count }, (_, i) => `${what}-${i}`)

interface Bench {
  readonly cluster: KubernetesCluster
  readonly starts: PodStarts
  readonly networks: NodeNetworks
}

/** In turns; the first of each is not counted: images and caches are warm then. */
async function burstRow({ starts, networks }: Bench): Promise<Row> {
  const times: Record<NetworkName, number[]> = { twill: [], bridge: [] }
  for (let round = 0; round <= EXTENT.rounds; round++)
    for (const network of round % 2 ? (['bridge', 'twill'] as const) : (['twill', 'bridge'] as const)) {
      networks.use(network)
      await starts.start([`warm-${network}-${round}`], ADDRESSES[network])
      const took = await starts.start(names(`${network}-${round}`, EXTENT.pods), ADDRESSES[network])
      if (round > 0) times[network].push(took)
      await starts.remove()
    }
  networks.use('twill')
  const against = { name: 'bridge, host-local', measured: summary(times.bridge) }
  const measured = summary(times.twill)
  return {
    figure: `${EXTENT.pods} pods at once, all Ready`,
    unit: 'ms',
    measured,
    against,
    goal: { atMost: 0.9 },
  }
}

/** One pod at a time. */
async function singleRows({ cluster, starts, networks }: Bench): Promise<Row[]> {
  networks.useTimed()
  const before = await askedSoFar(cluster)
  if (before.others === 0)
    throw new Error('the daemon has read nothing since its start: it is not the one that is counted')
  for (const name of names('single', EXTENT.singles)) await starts.start([name], ADDRESSES.twill)
  const asked = (await askedSoFar(cluster)).others - before.others
  const measured = summary(networks.timesOf('ADD'))
  await starts.remove()
  networks.use('twill')
  return [
    { figure: "the plugin's share of a pod's start", unit: 'ms', measured, goal: { atMost: 15 } },
    {
      figure: 'API server requests for a pod, watches apart',
      unit: '',
      measured: single(asked / EXTENT.singles),
      goal: { atMost: 2 },
    },
  ]
}

/** @throws Error: the daemon watches nothing, so that its memory would say nothing of the cluster's size */
async function memoryRow({ cluster }: Bench): Promise<Row> {
  const { underlay } = cluster.rig
  const program = [process.execPath, '--import', 'tsx', 'bench/synthetic-pods.ts']
  await must('nsenter', [
    ...['-t', String(underlay.pid), '-n', '--', ...program],
    ...[cluster.kubeconfig, String(EXTENT.synthetic)],
  ])
  if ((await askedSoFar(cluster)).watches === 0) throw new Error('the daemon watches nothing')
  const daemon = new DaemonProcess(cluster.rig, NODE)
  // What it still reads, and what is collected then.
  await pause(EXTENT.settleMs)
  return {
    figure: `twilld resident, ${EXTENT.synthetic} pods in the cluster`,
    unit: 'MiB',
    measured: single(daemon.residentMiB()),
    goal: { atMost: 150 },
  }
}

const single = (value: number) => ({ median: value, p95: value })

async function measure(cluster: KubernetesCluster): Promise<Row[]> {
  await step('a node', () => cluster.up({ nodes: 1, cni: 'twill', install: 'process' }))
  await countRequests(cluster, NODE)
  const starts = await PodStarts.open(cluster, NODE)
  try {
    const bench = { cluster, starts, networks: new NodeNetworks(cluster.node(NODE)) }
    return [
      await step('pods at once', () => burstRow(bench)),
      ...(await step('single pods', () => singleRows(bench))),
      await step('a large cluster', () => memoryRow(bench)),
    ]
  } finally {
    starts.close()
  }
}

const cluster = new KubernetesCluster(`bench-${process.pid}`)
const end = () => cluster.down().finally(() => process.exit(1))
process.once('SIGINT', end)
process.once('SIGTERM', end)
try {
  printRows(await measure(cluster))
} finally {
  await cluster.down()
}
