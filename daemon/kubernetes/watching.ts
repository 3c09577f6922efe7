/**
 * The daemon's side of Kubernetes: one connection, what is followed over it, and what status says of both. Nothing here
 * keeps the node from starting or from serving pods: what the API server does not answer or does not allow is waited for,
 * and told.
 */
import * as files from 'node:fs/promises'
import { type AwaitPodModules, awaitPod } from '../../datastore/kubernetes/await-pod.ts'
import { connectKubernetes, type KubernetesClient } from '../../datastore/kubernetes/client.ts'
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
  stop(): Promise<void>
}

export interface WatchingModules {
  readonly clock: Clock
  readonly random: Random
  readonly log: Log
  readonly onAnswer: (verb: string, code: number) => void
}

/** null: not enabled. @throws config.invalid: the kubeconfig */
export async function watchKubernetes(
  { kubernetes, datastore, nodeName }: Pick<Config, 'kubernetes' | 'datastore' | 'nodeName'>,
  modules: WatchingModules,
): Promise<KubernetesWatching | null> {
  if (!kubernetes.enabled) return null
  const log = modules.log.child({ part: 'kubernetes' })
  const readFile = (path: string) => files.readFile(path)
  const client = await connectKubernetes(kubernetes, {
    ...modules,
    log,
    readFile,
    environment: process.env,
  })
  const facts = new KubernetesFacts({ nodeName }, { ...modules, log, client })
  const records = datastore.type === 'kubernetes'
  const reviews = reviewKubernetes({ records }, { ...modules, log, client })
  const waiting: AwaitPodModules = { facts, client, clock: modules.clock, log }
  return {
    client,
    facts,
    awaitPod: identity => awaitPod(identity, waiting),
    status: () => statusOf(client, facts, reviews),
    async stop() {
      reviews.stop()
      await facts.close()
      client.close()
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
