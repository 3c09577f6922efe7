/**
 * The daemon's side of Kubernetes: what is followed over its connection, and what status says of both. Nothing here
 * keeps the node from starting or from serving pods: what the API server does not answer or does not allow is waited for,
 * and told.
 */
import { type AwaitPodModules, awaitPod } from '../../datastore/kubernetes/await-pod.ts'
import type { KubernetesClient } from '../../datastore/kubernetes/client.ts'
import { KubernetesFacts, type PodIdentity } from '../../datastore/kubernetes/facts.ts'
import type { OwnPod } from '../../datastore/kubernetes/pod.ts'
import type { Clock, Random } from '../../lib/clock.ts'
import type { Log } from '../../lib/log.ts'
import type { Status } from '../api/types.ts'
import type { Config } from '../config.ts'
import { type KubernetesReviews, reviewKubernetes } from './reviews.ts'

export interface KubernetesWatching {
  readonly client: KubernetesClient
  readonly facts: KubernetesFacts
  /** For ADD. @throws kubernetes.pod-unknown (retryable) */
  awaitPod(identity: PodIdentity): Promise<OwnPod | null>
  status(): NonNullable<Status['kubernetes']>
  /** The API server has answered a request with 403. */
  refused(): void
  stop(): Promise<void>
}

export interface WatchingModules {
  readonly clock: Clock
  readonly random: Random
  readonly log: Log
  readonly client: KubernetesClient
}

/** From here on, until `stop`. The client stays open. */
export function watchKubernetes(
  { datastore, nodeName }: Pick<Config, 'datastore' | 'nodeName'>,
  modules: WatchingModules,
): KubernetesWatching {
  const { client } = modules
  const log = modules.log.child({ part: 'kubernetes' })
  const facts = new KubernetesFacts({ nodeName }, { ...modules, log })
  const records = datastore.type === 'kubernetes'
  const reviews = reviewKubernetes({ records }, { ...modules, log })
  const waiting: AwaitPodModules = { facts, client, clock: modules.clock, log }
  return {
    client,
    facts,
    awaitPod: identity => awaitPod(identity, waiting),
    status: () => statusOf(client, facts, reviews),
    refused: () => reviews.rights.lookAnew(),
    async stop() {
      reviews.stop()
      await facts.close()
    },
  }
}

function statusOf(
  client: KubernetesClient,
  facts: KubernetesFacts,
  { rights, definitions }: KubernetesReviews,
): NonNullable<Status['kubernetes']> {
  const watched = facts.status()
  const { server, reason, requests } = client.status()
  return {
    server,
    connected: watched.every(each => each.connected),
    reason,
    requests,
    watched,
    missingRights: rights.missing,
    missingDefinitions: definitions.missing,
  }
}
