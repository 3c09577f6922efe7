/** What is known of each node, joined by name: its own record, its liveness, and what the operator said. */
import { PREFIX } from '../datastore/keys.ts'
import { recordParser } from '../datastore/record.ts'
import { type LivenessRecord, livenessRecord } from '../datastore/records/liveness.ts'
import { type NodeRecord, nodeRecord } from '../datastore/records/node.ts'
import type { Node } from '../datastore/resources/node.ts'
import type { Labels } from '../datastore/resources/selector.ts'
import type { Store } from '../datastore/store.ts'
import { readAll } from './usage.ts'

export interface KnownNode {
  readonly name: string
  /** null: the operator wrote none. */
  readonly resource: Node | null
  /** null: its daemon has not registered, or it was removed. */
  readonly record: NodeRecord | null
  /** Every identity that bore the name and still owns parts; a replaced machine leaves one behind. */
  readonly identities: readonly LivenessRecord[]
}

/** Its daemon's configuration and, over it, the operator. */
export const labelsOf = ({ record, resource }: KnownNode): Labels => ({
  ...record?.labels,
  ...resource?.metadata.labels,
})

export type NodeState = 'Registered' | 'Unregistered' | 'Removed'

export const parseNode = recordParser(nodeRecord)
export const parseLiveness = recordParser(livenessRecord)

/** By name. Whether a node lives cannot be seen in one read, and is not claimed. */
export async function readNodes(
  resources: readonly Node[],
  store: Store,
  warn: (line: string) => void,
): Promise<KnownNode[]> {
  const records = await readAll(store, PREFIX.nodes, parseNode, warn)
  const identities = [...(await readAll(store, PREFIX.liveness, parseLiveness, warn)).values()]
  const names = new Set([
    ...resources.map(resource => resource.metadata.name),
    ...records.keys(),
    ...identities.map(identity => identity.name),
  ])
  return [...names].sort().map(name => ({
    name,
    resource: resources.find(resource => resource.metadata.name === name) ?? null,
    record: records.get(name) ?? null,
    identities: identities.filter(identity => identity.name === name),
  }))
}

export function stateOf(node: KnownNode): NodeState {
  const current = node.identities.find(identity => identity.uid === node.record?.uid)
  if (current?.removed) return 'Removed'
  if (node.record !== null) return 'Registered'
  return node.identities.some(identity => identity.removed) ? 'Removed' : 'Unregistered'
}
