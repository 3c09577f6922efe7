/**
 * VXLAN between two pods against plain host routes between the same two namespaces: each gets a second veth pair with
 * an address outside the pools, routed from node to node over the same underlay. Interleaved.
 */
import type { Extent } from './extent.ts'
import { compile } from './spawner.ts'
import type { Stage } from './stage.ts'

const PORT = 5201
const PLAIN = { node1: '10.99.1.2', node2: '10.99.2.2' } as const
const NODES = ['node1', 'node2'] as const
type NodeName = (typeof NODES)[number]

export interface OverlayTimes {
  readonly gbits: { readonly vxlan: number[]; readonly plain: number[] }
  readonly roundTripUs: { readonly vxlan: number[]; readonly plain: number[] }
}

export async function measureOverlay(stage: Stage, extent: Extent): Promise<OverlayTimes> {
  const { cluster } = stage
  const vxlanTarget = (await cluster.addPod('node2', 'far')).addresses[0] as string
  await cluster.addPod('node1', 'near')
  const underlay = await underlayAddresses(stage)
  for (const node of NODES) await layPlainPath(stage, node, underlay)
  const program = compile('round-trips')
  await cluster.node('node2').startService('iperf', inPod('far', ['iperf3', '-s', '-p', String(PORT)]))
  await cluster
    .node('node2')
    .startService('round-trips', inPod('far', [program, 'serve', '0.0.0.0', String(PORT + 1)]))
  const times: OverlayTimes = {
    gbits: { vxlan: [], plain: [] },
    roundTripUs: { vxlan: [], plain: [] },
  }
  for (let round = 0; round < extent.transferRounds; round++)
    for (const [path, target] of [
      ['vxlan', vxlanTarget],
      ['plain', PLAIN.node2],
    ] as const) {
      times.gbits[path].push(await throughput(stage, target, extent.transferSeconds))
      times.roundTripUs[path].push(...(await roundTrips(stage, program, target, extent.roundTrips)))
    }
  return times
}

const inPod = (pod: string, command: string[]) => ['ip', 'netns', 'exec', pod, ...command]

async function underlayAddresses(stage: Stage): Promise<Record<NodeName, string>> {
  const { nodes } = await stage.status()
  const of = (name: NodeName) => nodes.find(node => node.name === name)?.underlay[0] as string
  return { node1: of('node1'), node2: of('node2') }
}

/** The accepts are for node2, whose FORWARD drops by default. */
async function layPlainPath(stage: Stage, node: NodeName, underlay: Record<NodeName, string>): Promise<void> {
  const other = node === 'node1' ? 'node2' : 'node1'
  const pod = node === 'node1' ? 'near' : 'far'
  await stage.cluster.node(node).script(`
ip link add plain0 type veth peer name plain0 netns ${pod}
ip link set plain0 up
ip -n ${pod} link set plain0 up
ip -n ${pod} addr add ${PLAIN[node]}/32 dev plain0
ip addr add 10.99.0.1/32 dev plain0
ip route add ${PLAIN[node]}/32 dev plain0
ip -n ${pod} route add 10.99.0.1/32 dev plain0 src ${PLAIN[node]}
ip -n ${pod} route add ${PLAIN[other]}/32 via 10.99.0.1 dev plain0 src ${PLAIN[node]}
ip route add ${PLAIN[other]}/32 via ${underlay[other]}
iptables -I FORWARD -i plain0 -j ACCEPT
iptables -I FORWARD -o plain0 -j ACCEPT
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
