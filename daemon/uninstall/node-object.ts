/** The Node object of a node on which Twill is no more: its network is unavailable, until another one says otherwise. */
import type { KubernetesClient } from '../../datastore/kubernetes/client.ts'
import { isAbsent } from '../../datastore/kubernetes/failure.ts'
import type { Clock } from '../../lib/clock.ts'
import { conditionPatch, nodePath, ownNodeOf } from '../kubernetes/own-node.ts'

const GONE = {
  status: 'True',
  reason: 'TwillIsUninstalled',
  message: 'Twill was uninstalled from this node',
} as const

/** @returns whether it had to be said; false also when there is no such Node. @throws kubernetes.* */
export async function sayUnavailable(
  name: string,
  { client, clock }: { readonly client: Pick<KubernetesClient, 'request'>; readonly clock: Clock },
): Promise<boolean> {
  try {
    const { networkUnavailable } = ownNodeOf(await client.request('GET', nodePath(name)))
    const now = new Date(clock.realtimeMs()).toISOString()
    const body = conditionPatch(networkUnavailable, GONE, now)
    if (body === null) return false
    const contentType = 'application/strategic-merge-patch+json'
    await client.request('PATCH', `${nodePath(name)}/status`, { body, contentType })
    return true
  } catch (error) {
    if (isAbsent(error)) return false
    throw error
  }
}
