/**
 * Node: what an operator says about a node, under the node's own name. What a node says about itself (addresses,
 * VTEP) is its record in nodes/, written by its daemon; `twillctl get nodes` shows both side by side.
 *
 * The specification has no field yet: labels are all that an operator may set, and a field that nothing honours
 * would be a lie. It may be written before the node has registered and outlives the node's restarts; deleting the
 * node by name deletes it.
 */
import { z } from 'zod'
import { apiVersion, metadata } from './metadata.ts'
import type { Labels } from './selector.ts'

export const node = z.strictObject({
  apiVersion,
  kind: z.literal('Node').meta({ description: 'What this is a document of.' }),
  metadata,
  spec: z.strictObject({}).default({}).meta({ description: 'No fields yet.' }),
})

export type Node = z.infer<typeof node>

/** What selectors see of a node: what its daemon's configuration says, and over it what the operator does, also of its name. */
export const nodeLabels = (name: string, configured: Labels, resource: Node | null): Labels => ({
  'kubernetes.io/hostname': name,
  ...configured,
  ...resource?.metadata.labels,
})
