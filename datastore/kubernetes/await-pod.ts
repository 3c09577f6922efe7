/**
 * An attachment waits for its pod: for what the API server says of it, since what a runtime says of labels counts for
 * nothing. Normally the watch knows the pod long before its sandbox is made, and nothing is asked.
 *
 * It never keeps pods from starting while the API server is away: when the watch is not connected, the pod goes on
 * without. Nothing but policy needs the pod, and a policy's own gate decides what holds for one that is not known.
 */
import type { Clock } from '../../lib/clock.ts'
import { isTwillError, TwillError } from '../../lib/errors.ts'
import type { Log } from '../../lib/log.ts'
import type { KubernetesClient, KubernetesObject } from './client.ts'
import { Deadline } from './deadline.ts'
import type { KubernetesFacts, PodIdentity } from './facts.ts'
import { isAbsent } from './failure.ts'
import { isPod, type OwnPod, ownPod } from './pod.ts'

const PATIENCE_MS = 5_000

export interface AwaitPodModules {
  readonly facts: Pick<KubernetesFacts, 'podFor' | 'ownPods' | 'namespaces' | 'subscribe'>
  readonly client: Pick<KubernetesClient, 'request'>
  readonly clock: Clock
  readonly log: Log
}

/**
 * Known: at once. Else one direct read, then the watch, each for at most 5 s. That a server has gone silent the watch
 * notices later than that.
 *
 * @returns null: nobody can tell now (no connection), or it is no pod of this cluster (another's namespace), or a static
 *   pod whose mirror has not come: the kubelet starts those without asking
 * @throws kubernetes.pod-unknown (retryable)
 */
export async function awaitPod(identity: PodIdentity, modules: AwaitPodModules): Promise<OwnPod | null> {
  const { facts, log } = modules
  const known = facts.podFor(identity)
  if (known !== null) return known
  if (!facts.ownPods.isConnected) return null
  const read = await readPod(identity, modules)
  if (read === 'unreadable') return null
  if (read !== 'absent') return read
  if (facts.namespaces.isConnected && !facts.namespaces.entries.has(identity.namespace)) return null
  const come = await untilKnown(identity, modules)
  if (come !== null || !facts.ownPods.isConnected) return come
  if (isStatic(identity)) {
    log.warn({ ...identity }, 'the mirror of a static pod has not come: its pod goes on without')
    return null
  }
  const name = `${identity.namespace}/${identity.name}`
  throw new TwillError(
    'kubernetes.pod-unknown',
    `the API server knows no pod ${name} with the UID ${identity.uid || '(none)'} on this node`,
    { ...identity },
    { retryable: true },
  )
}

/** The kubelet's hash, where the API server gives UUIDs. */
const isStatic = ({ uid }: PodIdentity): boolean => /^[0-9a-f]{32}$/.test(uid)

async function readPod(
  { namespace, name, uid }: PodIdentity,
  { client, clock }: AwaitPodModules,
): Promise<OwnPod | 'absent' | 'unreadable'> {
  const path = `/api/v1/namespaces/${encodeURIComponent(namespace)}/pods/${encodeURIComponent(name)}`
  const deadline = new Deadline(PATIENCE_MS, { clock })
  try {
    const pod = ownPod(await client.request<KubernetesObject>('GET', path, { signal: deadline.signal }))
    return isPod(pod, uid) ? pod : 'absent'
  } catch (error) {
    if (isAbsent(error)) return 'absent'
    if (isTwillError(error)) return 'unreadable'
    throw error
  } finally {
    deadline.release()
  }
}

function untilKnown(identity: PodIdentity, { facts, clock }: AwaitPodModules): Promise<OwnPod | null> {
  return new Promise(resolve => {
    const end = () => {
      timer.cancel()
      unsubscribe()
      resolve(facts.podFor(identity))
    }
    const timer = clock.setTimer(PATIENCE_MS, end)
    // Asynchronous: the subscription tells of what is there before it returns.
    const look = () => queueMicrotask(() => facts.podFor(identity) !== null && end())
    const unsubscribe = facts.subscribe({ pods: look })
  })
}
