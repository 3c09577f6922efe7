/** The daemon's configuration in a Kubernetes of the rig, the same on every node. */
import { clusterConfig } from '../daemon.ts'
import type { KubernetesKind } from './kind.ts'

/** @param kubeconfig a file of the node; null: the service account of the pod */
export function twillConfig(store: KubernetesKind['store'], kubeconfig: string | null) {
  const common = { ...clusterConfig(), kubernetes: { enabled: true, kubeconfig } }
  return store === 'etcd' ? common : { ...common, datastore: { type: 'kubernetes' } }
}
