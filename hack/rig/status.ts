/** `hack/cluster status`: what is up, which pods there are, and what the underlay dropped. */
import Table from 'cli-table3'
import type { Cluster } from './cluster.ts'
import { nodeLayout } from './layout.ts'

const PLAIN = { style: { head: [], border: [], compact: true } }

function table(head: string[], rows: string[][]): string {
  const drawn = new Table({ head, ...PLAIN, chars: SILENT })
  drawn.push(...rows)
  return drawn.toString()
}

const SILENT = Object.fromEntries(
  ['top', 'bottom', 'left', 'right', 'mid']
    .flatMap(side => [side, `${side}-mid`, `${side}-left`, `${side}-right`])
    .map(part => [part, '']),
)

async function daemonState(cluster: Cluster, node: string): Promise<string> {
  const machine = cluster.node(node)
  if (!machine.running) return 'node is stopped'
  if (machine.servicePid('twilld') === undefined) return 'not running'
  const reason = await cluster.whyNotReady(node)
  return reason === undefined ? 'ready' : `not ready: ${reason.trim()}`
}

async function nodeRow(cluster: Cluster, node: string): Promise<string[]> {
  const { v4, v6 } = nodeLayout(node)
  return [node, `${v4}, ${v6}`, await daemonState(cluster, node)]
}

export async function printStatus(cluster: Cluster): Promise<void> {
  if (!cluster.exists || !cluster.underlay.running) {
    console.log(`there is no rig "${cluster.name}" (hack/cluster up)`)
    return
  }
  const etcd = cluster.underlay.servicePid('etcd') === undefined ? 'stopped' : 'running'
  const rows = await Promise.all(cluster.nodes.map(node => nodeRow(cluster, node)))
  console.log(`rig ${cluster.name}, etcd ${etcd}\n`)
  console.log(table(['NODE', 'ADDRESSES', 'TWILLD'], rows))
  const pods = cluster.pods().map(pod => [pod.name, pod.namespace, pod.node, pod.addresses.join(', ')])
  if (pods.length > 0) console.log(`\n${table(['POD', 'NAMESPACE', 'NODE', 'ADDRESSES'], pods)}`)
  const leaks = (await cluster.leaks()).map(leak => `${leak.kind} ${leak.packets}`)
  console.log(`\ndropped by the underlay for carrying a pod's address: ${leaks.join(', ')}`)
}
