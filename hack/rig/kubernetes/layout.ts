/** Addresses and ports of a rig's Kubernetes, beside those that every rig has. */
import { UNDERLAY } from '../layout.ts'

/** On the underlay, where nodes reach it as they are and pods by way of their node. */
export const API = { address: UNDERLAY.v4.address, port: 6443 } as const
export const API_URL = `https://${API.address}:${API.port}`

/** Its own etcd: the one on 2379 is Twill's, so that each can fail without the other. */
export const KUBERNETES_ETCD = { name: 'etcd-kubernetes', port: 2389 } as const

export const SERVICES = {
  v4: '10.96.0.0/16',
  v6: 'fd00:96::/112',
  /** The first of each range is the Service `kubernetes`. */
  api: ['10.96.0.1', 'fd00:96::1'],
  dns: '10.96.0.10',
} as const

/** What the controller manager gives out to nodes as spec.podCIDRs. */
export const NODE_RANGES = {
  v4: { cidr: '10.244.0.0/16', mask: 24 },
  v6: { cidr: 'fd00:244::/56', mask: 64 },
} as const

export const CLUSTER_CIDR = `${NODE_RANGES.v4.cidr},${NODE_RANGES.v6.cidr}`
export const SERVICE_CIDR = `${SERVICES.v4},${SERVICES.v6}`

/** Inside every machine. */
export const ETC = '/etc/kubernetes'
