/** What Twill keeps of Namespaces, Nodes and NetworkPolicies. Loose, as pod.ts. */
import type { KubernetesObject } from './client.ts'
import { canonicalAddresses, ownAnnotations } from './pod.ts'

export interface NamespaceRecord {
  readonly name: string
  readonly uid: string
  /** With kubernetes.io/metadata.name, also where a server does not add it (NP-032). */
  readonly labels: Readonly<Record<string, string>>
  /** Of our domain alone: those of tools may be a quarter of a megabyte. */
  readonly annotations: Readonly<Record<string, string>>
}

export interface KubernetesNode {
  readonly name: string
  readonly uid: string
  readonly labels: Readonly<Record<string, string>>
  /** All of them, of whatever type, canonical; Hostname and DNS names are none, nor is what the API server does not look at. */
  readonly addresses: readonly string[]
  readonly podCidrs: readonly string[]
}

/** Handed on as it was said: what it means is for the policy model to judge. */
export interface NetworkPolicyObject {
  readonly namespace: string
  readonly name: string
  readonly uid: string
  readonly spec: unknown
}

const NAME_LABEL = 'kubernetes.io/metadata.name'

export function namespaceRecord({ metadata }: KubernetesObject): NamespaceRecord {
  const { name, uid, labels = {}, annotations = {} } = metadata
  return { name, uid, labels: { ...labels, [NAME_LABEL]: name }, annotations: ownAnnotations(annotations) }
}

interface NodeObject extends KubernetesObject {
  readonly spec?: { readonly podCIDR?: string; readonly podCIDRs?: readonly string[] }
  readonly status?: { readonly addresses?: readonly { readonly type: string; readonly address: string }[] }
}

export function kubernetesNode(object: KubernetesObject): KubernetesNode {
  const { metadata, spec = {}, status = {} } = object as NodeObject
  const { name, uid, labels = {} } = metadata
  const addresses = (status.addresses ?? []).filter(({ type }) => type.endsWith('IP'))
  return {
    name,
    uid,
    labels,
    addresses: canonicalAddresses(addresses.map(({ address }) => address)),
    podCidrs: spec.podCIDRs ?? (spec.podCIDR === undefined ? [] : [spec.podCIDR]),
  }
}

export function networkPolicyObject({ metadata, spec }: KubernetesObject): NetworkPolicyObject {
  return { namespace: metadata.namespace ?? '', name: metadata.name, uid: metadata.uid, spec }
}
