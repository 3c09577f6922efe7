/** Twill on the nodes, a process of each machine: no image, so that a cluster is up sooner. */
import { cpSync } from 'node:fs'
import { startDaemon, writeDaemonConfig } from '../daemon.ts'
import { PODS } from '../layout.ts'
import { TAINTS, twillConfig } from './config.ts'
import type { Credentials } from './credentials.ts'
import type { KubernetesKind } from './kind.ts'
import { ETC } from './layout.ts'
import type { PodNetwork } from './network.ts'
import type { KubernetesNode } from './node.ts'

/** The daemon's, on each node. */
export const KUBECONFIG = `${ETC}/twilld.conf`

export function twillByProcess(credentials: Credentials, store: KubernetesKind['store']): PodNetwork {
  return {
    surroundings: { dropsPods: true, firewall: false, twill: true },
    store: store === 'etcd' ? 'etcd' : 'none',
    podRanges: `${PODS.v4},${PODS.v6}`,
    taints: TAINTS,
    images: () => [],
    async install(nodes) {
      const config = twillConfig(store, KUBECONFIG)
      const running = nodes.filter(node => node.machine.running)
      await Promise.all(running.map(node => startTwill(node, credentials, config)))
    },
  }
}

async function startTwill(
  { machine }: KubernetesNode,
  credentials: Credentials,
  config: Record<string, unknown>,
): Promise<void> {
  cpSync(credentials.kubeconfig('twilld', 'twilld', ['system:masters']), machine.path(KUBECONFIG))
  writeDaemonConfig(machine, config)
  await startDaemon(machine)
}
