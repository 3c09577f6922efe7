/** What gives pods their network, and what the rest of the rig must know of it. */
import type { Surroundings } from '../cluster.ts'
import type { Kubectl } from './kubectl.ts'
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
  /** Archives that nodes import beside everybody's, made where they are missing. */
  images(): string[]
  /** Nodes that run have registered; does what is missing, and returns when all of them serve. */
  install(nodes: readonly KubernetesNode[], kubectl: Kubectl): Promise<void>
}
