/** The daemon's configuration in a Kubernetes of the rig, the same on every node. */
import { STARTUP_TAINT } from '../../../daemon/kubernetes/own-node.ts'
import { clusterConfig } from '../daemon.ts'
import type { KubernetesKind } from './kind.ts'
import type { Taint } from './kubelet.ts'

/** Of a node at its registration: no pod starts there before the daemon serves. */
export const TAINTS: readonly Taint[] = [{ key: STARTUP_TAINT, effect: 'NoExecute' }]

/** @param kubeconfig a file of the node; null: the service account of the pod */
export function twillConfig(store: KubernetesKind['store'], kubeconfig: string | null) {
  const common = { ...clusterConfig(), kubernetes: { enabled: true, kubeconfig } }
  return store === 'etcd' ? common : { ...common, datastore: { type: 'kubernetes' } }
}
