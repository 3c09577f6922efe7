/** Twill on the nodes, a process of each machine: no image, so that a cluster is up sooner. */
import { cpSync } from 'node:fs'
import { startDaemon, writeDaemonConfig } from '../daemon.ts'
import { PODS } from '../layout.ts'
import type { Credentials } from './credentials.ts'
import { ETC } from './layout.ts'
import type { PodNetwork } from './network.ts'
import type { KubernetesNode } from './node.ts'

/** The daemon's, on each node. */
export const KUBECONFIG = `${ETC}/twilld.conf`

export function twillByProcess(credentials: Credentials): PodNetwork {
  return {
    surroundings: { dropsPods: true, firewall: false, executables: true },
    store: 'etcd',
    podRanges: `${PODS.v4},${PODS.v6}`,
    taints: [],
    images: () => [],
    async install(nodes) {
      await Promise.all(nodes.filter(node => node.machine.running).map(node => startTwill(node, credentials)))
    },
  }
}

async function startTwill({ machine }: KubernetesNode, credentials: Credentials): Promise<void> {
  cpSync(credentials.kubeconfig('twilld', 'twilld', ['system:masters']), machine.path(KUBECONFIG))
  writeDaemonConfig(machine, { kubernetes: { enabled: true, kubeconfig: KUBECONFIG } })
  await startDaemon(machine)
}
