/**
 * Whether a rollout may go on to the next node: what the DaemonSet's readiness asks. A node that was in the cluster before
 * serves pods with its datastore away, so a mistake in the configuration would reach every node before anybody noticed.
 */
import type { Status } from './types.ts'

/** [] when it may. A datastore that goes away later is no reason: the daemon was told where it is rightly. */
export function reasonsAgainstNext({ ready, reasons, datastore, node }: Status): readonly string[] {
  if (!ready || datastore.confirmed) return reasons
  const why = datastore.reason ?? 'it has not answered yet'
  return [`the datastore has not said since the start at ${node.startedAt} who this node is: ${why}`]
}
