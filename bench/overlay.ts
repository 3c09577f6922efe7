/**
 * VXLAN between two pods against plain host routes between the same two namespaces: each gets a second veth pair with
 * an address outside the pools, routed from node to node over the same underlay. A second such address is routed through
 * a bare VXLAN device, which none of our rules knows: what is lost there, the kernel's VXLAN costs. Interleaved.
 */
import type { Extent } from './extent.ts'
import { compile } from './spawner.ts'
import type { Stage } from './stage.ts'
import { type Row, summary } from './statistics.ts'

const PORT = 5201
const NODES = ['node1', 'node2'] as const
type NodeName = (typeof NODES)[number]
const PLAIN = { node1: '10.99.1.2', node2: '10.99.2.2' } as const
const BARE = { node1: '10.98.1.2', node2: '10.98.2.2' } as const
/** Ends of the bare device. */
const BARE_HOP = { node1: '10.98.0.1', node2: '10.98.0.2' } as const
const BARE_PORT = 4790

const PATHS = ['vxlan', 'plain', 'bare'] as const
type Path = (typeof PATHS)[number]
type Samples = Readonly<Record<Path, number[]>>

export interface OverlayTimes {
  readonly gbits: Samples
  readonly roundTripUs: Samples
}

export async function measureOverlay(stage: Stage, extent: Extent): Promise<OverlayTimes> {
  const { cluster } = stage
  const vxlanTarget = (await cluster.addPod('node2', 'far')).addresses[0] as string
  await cluster.addPod('node1', 'near')
  const underlay = await underlayAddresses(stage)
  for (const node of NODES) await layOtherPaths(stage, node, underlay)
  const program = compile('round-trips')
  await cluster.node('node2').startService('iperf', inPod('far', ['iperf3', '-s', '-p', String(PORT)]))
  await cluster
    .node('node2')
    .startService('round-trips', inPod('far', [program, 'serve', '0.0.0.0', String(PORT + 1)]))
  const targets = { vxlan: vxlanTarget, plain: PLAIN.node2, bare: BARE.node2 }
  const samples = (): Samples => ({ vxlan: [], plain: [], bare: [] })
  const times: OverlayTimes = { gbits: samples(), roundTripUs: samples() }
  for (let round = 0; round < extent.transferRounds; round++)
    for (const path of turned(round)) {
      times.gbits[path].push(await throughput(stage, targets[path], extent.transferSeconds))
      times.roundTripUs[path].push(...(await roundTrips(stage, program, targets[path], extent.roundTrips)))
    }
  return times
}

/** Each path comes first, second and last as often. */
const turned = (round: number) => PATHS.map((_, turn) => PATHS[(turn + round) % PATHS.length] as Path)

/** The goals are for our overlay; the bare device is printed beside it. */
export function overlayRows({ gbits, roundTripUs }: OverlayTimes): Row[] {
  const against = (samples: Samples) => ({ name: 'host routes', measured: summary(samples.plain) })
  const throughputOf = (path: Path) =>
    ({ unit: 'Gbit/s', measured: summary(gbits[path]), against: against(gbits) }) as const
  const roundTripOf = (path: Path) =>
    ({ unit: 'us', measured: summary(roundTripUs[path]), against: against(roundTripUs) }) as const
  return [
    { figure: 'VXLAN, TCP throughput', ...throughputOf('vxlan'), goal: { atLeast: 0.9 } },
    { figure: 'bare VXLAN device, TCP throughput', ...throughputOf('bare') },
    { figure: 'VXLAN, request and response', ...roundTripOf('vxlan'), goal: { atMost: 1.35 } },
    { figure: 'bare VXLAN device, request and response', ...roundTripOf('bare') },
  ]
}

const inPod = (pod: string, command: string[]) => ['ip', 'netns', 'exec', pod, ...command]

async function underlayAddresses(stage: Stage): Promise<Record<NodeName, string>> {
  const { nodes } = await stage.status()
  const of = (name: NodeName) => nodes.find(node => node.name === name)?.underlay[0] as string
  return { node1: of('node1'), node2: of('node2') }
}

/** The accepts are for node2, whose FORWARD and INPUT drop by default. */
async function layOtherPaths(
  stage: Stage,
  node: NodeName,
  underlay: Record<NodeName, string>,
): Promise<void> {
  const other = node === 'node1' ? 'node2' : 'node1'
  const pod = node === 'node1' ? 'near' : 'far'
  await stage.cluster.node(node).script(`
ip link add plain0 type veth peer name plain0 netns ${pod}
ip link set plain0 up
ip -n ${pod} link set plain0 up
ip addr add 10.99.0.1/32 dev plain0
for own in ${PLAIN[node]} ${BARE[node]}; do
  ip -n ${pod} addr add $own/32 dev plain0
  ip route add $own/32 dev plain0
done
ip -n ${pod} route add 10.99.0.1/32 dev plain0 src ${PLAIN[node]}
ip -n ${pod} route add ${PLAIN[other]}/32 via 10.99.0.1 dev plain0 src ${PLAIN[node]}
ip -n ${pod} route add ${BARE[other]}/32 via 10.99.0.1 dev plain0 src ${BARE[node]} mtu 1450
ip route add ${PLAIN[other]}/32 via ${underlay[other]}
ip link add bare0 type vxlan id ${BARE_PORT} dstport ${BARE_PORT} nolearning dev eth0 local ${underlay[node]} remote ${underlay[other]}
ip addr add ${BARE_HOP[node]}/24 dev bare0
ip link set bare0 up
ip route add ${BARE[other]}/32 via ${BARE_HOP[other]}
iptables -I FORWARD -i plain0 -j ACCEPT
iptables -I FORWARD -o plain0 -j ACCEPT
iptables -I INPUT -p udp --dport ${BARE_PORT} -j ACCEPT
`)
}

async function must(stage: Stage, command: string[]): Promise<string> {
  const { status, stdout, stderr } = await stage.cluster.exec('near', command)
  if (status !== 0) throw new Error(`${command.join(' ')}: exit ${status}: ${stderr || stdout}`)
  return stdout
}

/** Gbit/s as received. */
async function throughput(stage: Stage, target: string, seconds: number): Promise<number> {
  const command = ['iperf3', '-c', target, '-p', String(PORT), '-t', String(seconds), '-J']
  const report = JSON.parse(await must(stage, command)) as {
    end: { sum_received: { bits_per_second: number } }
  }
  return report.end.sum_received.bits_per_second / 1e9
}

/** Microseconds of each, after a tenth as many to warm up. */
async function roundTrips(stage: Stage, program: string, target: string, count: number): Promise<number[]> {
  const lines = await must(stage, [program, 'ask', target, String(PORT + 1), String(Math.ceil(count * 1.1))])
  return lines.trim().split('\n').map(Number).slice(-count)
}
