/**
 * Names and addresses of a rig, all derived from the cluster's name and a node's number, so that a node that comes
 * back is the same machine. Several rigs run side by side: each is in namespaces of its own, and only folders and the
 * processes' mark carry the cluster's name.
 */
import { createHash } from 'node:crypto'
import { join } from 'node:path'

/** Repository root. */
export const ROOT = join(import.meta.dirname, '../..')

/** Every process of a rig has it in its environment. Not TWILL_*: twilld refuses such variables unless it knows them. */
export const MARK = 'RIG_OF_TWILL'

export const UNDERLAY = {
  v4: { address: '192.168.77.1', prefix: 24 },
  v6: { address: 'fd77::1', prefix: 64 },
  /** Addresses beyond the underlay, for whatever leaves the cluster. They live in the underlay's namespace. */
  outside: { v4: '198.51.100.1', v6: '2001:db8:51::1' },
} as const

export const PODS = { v4: '10.244.0.0/16', v6: 'fd00:10:244::/112' } as const

/** What Docker leaves on a machine: a bridge with a global address that has nothing to do with the cluster. */
export const DOCKER = { v4: '172.17.0.1/16', v6: 'fd17::1/64' } as const

export const ETCD_URL = `http://${UNDERLAY.v4.address}:2379`

export interface NodeLayout {
  name: string
  number: number
  v4: string
  v6: string
}

const NODE_NAME = /^node([1-9]\d?)$/

/** @throws Error for a name that is not node1 … node99 */
export function nodeLayout(name: string): NodeLayout {
  const match = NODE_NAME.exec(name)
  if (match === null) throw new Error(`no such node: ${name} (nodes are node1, node2, …)`)
  const number = Number(match[1])
  return { name, number, v4: `192.168.77.${10 + number}`, v6: `fd77::${10 + number}` }
}

export const nodeNames = (count: number): string[] => Array.from({ length: count }, (_, i) => `node${i + 1}`)

/** @param generation counts replacements of the machine. Locally administered, unicast. */
export function hardwareAddress(cluster: string, node: string, generation: number): string {
  const digest = createHash('sha256').update(`${cluster}/${node}/${generation}`).digest()
  return ['02', ...[...digest.subarray(0, 5)].map(byte => byte.toString(16).padStart(2, '0'))].join(':')
}

/** @throws Error for a name that cannot be part of a folder's name */
export function rigFolder(cluster: string): string {
  if (!/^[a-z0-9][a-z0-9-]{0,30}$/.test(cluster))
    throw new Error(`TWILL_CLUSTER: ${JSON.stringify(cluster)}: expected up to 31 of a-z, 0-9 and "-"`)
  return `/run/twill-rig/${cluster}`
}
