/**
 * Which Kubernetes cluster this is: the uid of its Namespace kube-system, which nobody can delete or make anew. The usual
 * identity of a cluster, which has none of its own.
 */
import type { KubernetesClient } from './client.ts'
import type { Followed } from './facts.ts'
import { readPage } from './page.ts'

const NAME = 'kube-system'

/** As the watch has it; null: not seen yet. */
export const clusterUidOf = (
  namespaces: Pick<Followed<{ readonly uid: string }>, 'entries'>,
): string | null => namespaces.entries.get(NAME)?.uid ?? null

/** Now. By a list, for which the daemon has the right. @throws kubernetes.* */
export async function readClusterUid(
  client: Pick<KubernetesClient, 'request'>,
  signal: AbortSignal,
): Promise<string | null> {
  const query = { fieldSelector: `metadata.name=${NAME}` }
  const { items } = await readPage(client, '/api/v1/namespaces', { query, signal })
  return items.find(({ metadata }) => metadata.name === NAME)?.metadata.uid ?? null
}
