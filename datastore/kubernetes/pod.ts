/**
 * What Twill keeps of a pod. Strict where it must be (an address is one, or is left out), loose elsewhere: the API
 * server has judged the object, and a version that says more is no damage.
 *
 * Labels are the API server's, never a runtime's (a pod must not label itself past a policy).
 */
import { formatIp, parseIp } from '../../lib/address.ts'
import { ANNOTATION_DOMAIN } from '../../lib/pool-annotations.ts'
import type { KubernetesObject } from './client.ts'

export type PodState =
  /** No address yet, or not all of it running. */
  | 'pending'
  | 'running'
  /** Being deleted: it keeps its network, and its policy, until its sandbox is gone (NP-085). */
  | 'terminating'
  /** Succeeded or Failed: its address may be another pod's already (NP-086). */
  | 'ended'

export interface NamedPort {
  readonly name: string
  readonly protocol: string
  readonly port: number
}

export interface PodRecord {
  readonly namespace: string
  readonly name: string
  readonly uid: string
  readonly node: string | null
  readonly labels: Readonly<Record<string, string>>
  /** Canonical texts. None of a hostNetwork pod, whose address is its node's (NP-037), nor of one that ended. */
  readonly addresses: readonly string[]
  readonly hostNetwork: boolean
  readonly state: PodState
  /** Of all containers that run on, sidecars among them; one name may stand for several (NP-045). */
  readonly ports: readonly NamedPort[]
}

/** A pod of this node. */
export interface OwnPod extends PodRecord {
  /** Of our domain alone: a pod that has ended stays for a while, and whoever may create pods gives each a quarter of a megabyte. */
  readonly annotations: Readonly<Record<string, string>>
  /** The UID by which the node's runtime knows a static pod: this object is its mirror, with another. */
  readonly staticUid: string | null
}

/** By the kubelet: a hash of the file that the pod stands in. */
const STATIC_UID = 'kubernetes.io/config.hash'

interface Container {
  readonly restartPolicy?: string
  readonly ports?: readonly {
    readonly name?: string
    readonly protocol?: string
    readonly containerPort: number
  }[]
}

interface PodObject extends KubernetesObject {
  readonly spec?: {
    readonly nodeName?: string
    readonly hostNetwork?: boolean
    readonly containers?: readonly Container[]
    readonly initContainers?: readonly Container[]
  }
  readonly status?: {
    readonly phase?: string
    readonly podIP?: string
    readonly podIPs?: readonly { readonly ip?: string }[]
  }
}

export function podRecord(object: KubernetesObject): PodRecord {
  const { metadata, spec = {} } = object as PodObject
  const state = stateOf(object as PodObject)
  const hostNetwork = spec.hostNetwork ?? false
  return {
    namespace: metadata.namespace ?? '',
    name: metadata.name,
    uid: metadata.uid,
    node: spec.nodeName ?? null,
    labels: metadata.labels ?? {},
    addresses: hostNetwork || state === 'ended' ? [] : addressesOf(object as PodObject),
    hostNetwork,
    state,
    ports: portsOf(object as PodObject),
  }
}

export function ownPod(object: KubernetesObject): OwnPod {
  const { annotations = {} } = object.metadata
  const staticUid = annotations[STATIC_UID] ?? null
  return { ...podRecord(object), annotations: ownAnnotations(annotations), staticUid }
}

/** Of our domain. */
export const ownAnnotations = (annotations: Readonly<Record<string, string>>): Record<string, string> =>
  Object.fromEntries(Object.entries(annotations).filter(([key]) => key.startsWith(ANNOTATION_DOMAIN)))

/** @param uid '' where the runtime does not say: then the name decides */
export const isPod = (pod: OwnPod, uid: string): boolean =>
  uid === '' || pod.uid === uid || pod.staticUid === uid

function stateOf({ metadata, status = {} }: PodObject): PodState {
  if (status.phase === 'Succeeded' || status.phase === 'Failed') return 'ended'
  if (metadata.deletionTimestamp !== undefined) return 'terminating'
  return status.phase === 'Running' ? 'running' : 'pending'
}

/** What is no address is left out, and the pod's others stay (NP-088). */
function addressesOf({ status = {} }: PodObject): string[] {
  return canonicalAddresses(status.podIPs?.map(({ ip }) => ip) ?? [status.podIP])
}

/** Each once; what is no address is left out: servers take forms that we do not. */
export const canonicalAddresses = (texts: readonly (string | undefined)[]): string[] => [
  ...new Set(texts.flatMap(canonical)),
]

function canonical(text: string | undefined): string[] {
  try {
    return text ? [formatIp(parseIp(text))] : []
  } catch {
    return []
  }
}

function portsOf({ spec = {} }: PodObject): NamedPort[] {
  const sidecars = (spec.initContainers ?? []).filter(each => each.restartPolicy === 'Always')
  return [...(spec.containers ?? []), ...sidecars].flatMap(({ ports = [] }) =>
    ports.flatMap(({ name, protocol = 'TCP', containerPort }) =>
      name === undefined ? [] : [{ name, protocol, port: containerPort }],
    ),
  )
}
