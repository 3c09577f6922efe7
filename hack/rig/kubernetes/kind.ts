/** What a rig's Kubernetes is built as: chosen by the first `up`, and the same for every node that comes later. */
import type { ContainerdVersion } from './containerd.ts'
import type { ProxyMode } from './proxy.ts'

export interface KubernetesKind {
  /** bridge: the reference plugins, with which Twill is compared. */
  cni: 'twill' | 'bridge'
  /** Of Twill: as deployed anywhere, by the image and deploy/manifests, or a process of each node. */
  install: 'daemonset' | 'process'
  /** Of Twill's records: an etcd on the underlay, or custom resources. */
  store: 'etcd' | 'kubernetes'
  proxy: ProxyMode
  containerd: ContainerdVersion
}

/** The values that each may have, the default first. */
export const KINDS = {
  cni: ['twill', 'bridge'],
  install: ['daemonset', 'process'],
  store: ['etcd', 'kubernetes'],
  proxy: ['nftables', 'iptables'],
  containerd: ['1.6', '2.4'],
} as const satisfies { [Key in keyof KubernetesKind]: readonly KubernetesKind[Key][] }

const DEFAULT: KubernetesKind = {
  cni: KINDS.cni[0],
  install: KINDS.install[0],
  store: KINDS.store[0],
  proxy: KINDS.proxy[0],
  containerd: KINDS.containerd[0],
}

export type KindWishes = { [Key in keyof KubernetesKind]?: KubernetesKind[Key] | undefined }

export const describeKind = (kind: KubernetesKind): string =>
  Object.entries(kind)
    .map(([key, value]) => `${key} ${value}`)
    .join(', ')

/** @param standing what the rig is, if it is there. @throws Error if the wishes are others */
export function settleKind(wishes: KindWishes, standing: KubernetesKind | undefined): KubernetesKind {
  const given = Object.entries(wishes).filter(([, value]) => value !== undefined)
  const kind: KubernetesKind = { ...(standing ?? DEFAULT), ...Object.fromEntries(given) }
  if (standing !== undefined && describeKind(kind) !== describeKind(standing))
    throw new Error(`the rig is one of ${describeKind(standing)}: take it down first`)
  return kind
}
