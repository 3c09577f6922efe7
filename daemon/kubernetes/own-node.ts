/** What this node's daemon looks at of its core Node object (k8s.io/api/core/v1). */
import type { KubernetesClient, KubernetesObject } from '../../datastore/kubernetes/client.ts'
import { isAbsent } from '../../datastore/kubernetes/failure.ts'

/** On a node from its registration (kubelet --register-with-taints) until Twill serves it. */
export const STARTUP_TAINT = 'twill.network/agent-not-ready'
export const NETWORK_UNAVAILABLE = 'NetworkUnavailable'

export interface Taint {
  readonly key: string
  readonly effect: string
  readonly [field: string]: unknown
}

export interface NodeCondition {
  readonly type: string
  readonly status: string
  readonly reason?: string
  readonly lastTransitionTime?: string
}

export interface OwnNode {
  readonly uid: string
  /** Whole, as they must stand in a patch that leaves the others alone. */
  readonly taints: readonly Taint[]
  /** null: nobody has said anything. */
  readonly networkUnavailable: NodeCondition | null
  /** Of each family one at most; [] until the controller manager has given some. */
  readonly podCidrs: readonly string[]
}

export function ownNodeOf({ metadata, spec, status }: KubernetesObject): OwnNode {
  const { taints, podCIDRs } = (spec ?? {}) as { taints?: Taint[]; podCIDRs?: string[] }
  const { conditions } = (status ?? {}) as { conditions?: NodeCondition[] }
  return {
    uid: metadata.uid,
    taints: taints ?? [],
    networkUnavailable: conditions?.find(({ type }) => type === NETWORK_UNAVAILABLE) ?? null,
    podCidrs: podCIDRs ?? [],
  }
}

export const nodePath = (name: string): string => `/api/v1/nodes/${encodeURIComponent(name)}`

/** Is there such a Node object, now? @throws kubernetes.*: the API server does not say */
export async function nodeStands(
  name: string,
  client: Pick<KubernetesClient, 'request'>,
  signal: AbortSignal,
): Promise<boolean> {
  try {
    await client.request('GET', nodePath(name), { signal })
    return true
  } catch (error) {
    if (isAbsent(error)) return false
    throw error
  }
}

/**
 * RFC 6902, without the startup taint; null: there is none. Refused (422) when somebody has changed the taints
 * meanwhile: whatever he did stays.
 */
export function taintPatch(taints: readonly Taint[]): object[] | null {
  const others = taints.filter(({ key }) => key !== STARTUP_TAINT)
  if (others.length === taints.length) return null
  return [
    { op: 'test', path: '/spec/taints', value: taints },
    { op: 'replace', path: '/spec/taints', value: others },
  ]
}

export interface WantedCondition {
  readonly status: 'True' | 'False'
  readonly reason: string
  readonly message: string
}

/**
 * Strategic merge of the one condition; null: it stands. The message is not compared, nor is a time kept fresh in it: nobody
 * reads that, and thousands of nodes would write it.
 * @param now ISO 8601
 */
export function conditionPatch(
  current: NodeCondition | null,
  wanted: WantedCondition,
  now: string,
): object | null {
  if (current?.status === wanted.status && current.reason === wanted.reason) return null
  const isSame = current?.status === wanted.status
  const lastTransitionTime = isSame ? (current.lastTransitionTime ?? now) : now
  const condition = { type: NETWORK_UNAVAILABLE, ...wanted, lastHeartbeatTime: now, lastTransitionTime }
  return { status: { conditions: [condition] } }
}
