/**
 * Pools after the last node of a cluster: their deletion by Kubernetes waits for a daemon to say that they are empty, and
 * none will come. They are let go; a cluster that begins anew with them holds them again.
 */
import type { KubernetesClient } from '../../datastore/kubernetes/client.ts'
import { readWhole } from '../../datastore/kubernetes/page.ts'
import { pathOf, type ResourceObject, withoutFinalizer } from '../../datastore/kubernetes/resources.ts'
import { kindNamed } from '../../datastore/resources/kinds.ts'
import { POOL_FINALIZER } from '../../datastore/resources/server-fields.ts'
import { isTwillError } from '../../lib/errors.ts'

const PATH = pathOf(kindNamed('ippool')!)

/** @returns the names of those that were held. @throws kubernetes.* */
export async function letPoolsGo(client: Pick<KubernetesClient, 'request'>): Promise<string[]> {
  const pools: ResourceObject[] = await readWhole(client, PATH)
  const held = pools.filter(({ metadata }) => metadata.finalizers?.includes(POOL_FINALIZER))
  for (const pool of held) {
    const body = withoutFinalizer(pool)
    await client.request('PUT', `${PATH}/${pool.metadata.name}`, { body }).catch(unlessGone)
  }
  return held.map(({ metadata }) => metadata.name)
}

function unlessGone(error: unknown): void {
  if (!isTwillError(error, 'kubernetes.not-found')) throw error
}
