/** What gives pods their network, and what the rest of the rig must know of it. */
import type { Surroundings } from '../cluster.ts'
import type { Taint } from './kubelet.ts'
import type { KubernetesNode } from './node.ts'

export interface PodNetwork {
  readonly surroundings: Surroundings
  /** etcd: Twill's own. */
  readonly store: 'etcd' | 'none'
  /** Where pods' addresses come from. */
  readonly podRanges: string
  /** Of a node at its registration. */
  readonly taints: readonly Taint[]
  /** Nodes that run have registered; does what is missing. They need not be Ready when it returns. */
  install(nodes: readonly KubernetesNode[]): Promise<void>
}
