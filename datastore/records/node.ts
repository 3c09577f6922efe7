/**
 * nodes/<name>: what other nodes need to route to this one. Changes only when routes must; heartbeats live in
 * liveness/<uid>, which nobody watches.
 */
import { z } from 'zod'

export const nodeRecord = z.object({
  v: z.literal(1),
  name: z.string().min(1),
  /** The owner in slots; a replaced machine of the same name has another. */
  uid: z.string().min(1),
  /** boot_id and the cookie of the daemon's network namespace: changes when the node has restarted. */
  incarnation: z.string().min(1),
  /** Of the daemon's configuration, for people to see; absent: none. */
  labels: z.record(z.string(), z.string()).optional(),
  /** It has a Node object in Kubernetes, whose deletion removes it; absent: it has none. */
  kubernetes: z.literal(true).optional(),
  /** Of which Kubernetes cluster (uid of kube-system); absent: not known yet. Only daemons of that cluster see the deletion. */
  kubernetesCluster: z.string().min(1).optional(),
  /** Underlay addresses, without prefix. */
  underlay: z.object({ '4': z.string().optional(), '6': z.string().optional() }),
  /** Every other global address of the node: sources that pods see when the node itself speaks. */
  hostAddresses: z.array(z.string()),
  /** One per underlay family in use. */
  vteps: z.array(
    z.object({
      family: z.union([z.literal(4), z.literal(6)]),
      mac: z.string(),
      vni: z.number().int(),
      port: z.number().int(),
    }),
  ),
  /** This node's address on the overlay, of each pod family: from its own parts. */
  tunnel: z.object({ '4': z.string().optional(), '6': z.string().optional() }),
})

export type NodeRecord = z.infer<typeof nodeRecord>
