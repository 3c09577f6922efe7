/**
 * What a node knows of its Kubernetes cluster: its own pods in full, all others slimmed, Namespaces, Nodes and
 * NetworkPolicies. Whoever needs changes subscribes, and is told first of everything that is there.
 *
 * A pod stands in `ownPods` or in `otherPods` and never moves: it is bound to a node once, and one that is bound to none
 * is in neither (it has no address). Ended pods of others are not even sent.
 */

import { messageOf } from '../../lib/errors.ts'
import type { Log } from '../../lib/log.ts'
import type { KubernetesNode, NamespaceRecord, NetworkPolicyObject } from './cluster-objects.ts'
import { kubernetesNode, namespaceRecord, networkPolicyObject } from './cluster-objects.ts'
import { isPod, type OwnPod, ownPod, type PodRecord, podRecord } from './pod.ts'
import { Reflector, type ReflectorChange, type ReflectorModules, type ReflectorOptions } from './reflector.ts'

/** Each is told of exact differences, each once; of everything at the subscription. */
export interface FactsListener {
  /** Those of this node (`OwnPod`) and all others. */
  pods?(changes: readonly ReflectorChange<PodRecord>[]): void
  namespaces?(changes: readonly ReflectorChange<NamespaceRecord>[]): void
  nodes?(changes: readonly ReflectorChange<KubernetesNode>[]): void
  policies?(changes: readonly ReflectorChange<NetworkPolicyObject>[]): void
}

/** What others see of a reflector. */
export type Followed<T> = Pick<
  Reflector<T>,
  'entries' | 'isConnected' | 'isSynced' | 'synced' | 'problem' | 'close'
>

/** Of the pod, as a runtime says it. */
export interface PodIdentity {
  readonly namespace: string
  readonly name: string
  /** '' where it does not say. */
  readonly uid: string
}

export interface WatchedStatus {
  readonly what: string
  readonly objects: number
  readonly connected: boolean
  readonly problem: string | null
}

export const WATCHED_PATHS = {
  pods: '/api/v1/pods',
  namespaces: '/api/v1/namespaces',
  nodes: '/api/v1/nodes',
  policies: '/apis/networking.k8s.io/v1/networkpolicies',
} as const

export class KubernetesFacts {
  readonly ownPods: Followed<OwnPod>
  readonly otherPods: Followed<PodRecord>
  readonly namespaces: Followed<NamespaceRecord>
  readonly nodes: Followed<KubernetesNode>
  readonly policies: Followed<NetworkPolicyObject>
  readonly #log: Log
  readonly #listeners = new Set<FactsListener>()

  /** Watches from here on, until `close`. */
  constructor(options: { readonly nodeName: string; readonly pageSize?: number }, modules: ReflectorModules) {
    const { nodeName, pageSize } = options
    this.#log = modules.log
    const follow = <T>(
      kind: keyof typeof WATCHED_PATHS,
      rest: Pick<ReflectorOptions<T>, 'slim' | 'fieldSelector'>,
    ) =>
      new Reflector<T>(
        {
          ...{ path: WATCHED_PATHS[kind], ...rest },
          ...(pageSize === undefined ? {} : { pageSize }),
          onChange: changes => this.#tell(kind, changes),
        },
        modules,
      )
    const elsewhere = `spec.nodeName!=${nodeName},spec.nodeName!=`
    const living = 'status.phase!=Succeeded,status.phase!=Failed'
    this.ownPods = follow('pods', { slim: ownPod, fieldSelector: `spec.nodeName=${nodeName}` })
    this.otherPods = follow('pods', { slim: podRecord, fieldSelector: `${elsewhere},${living}` })
    this.namespaces = follow('namespaces', { slim: namespaceRecord })
    this.nodes = follow('nodes', { slim: kubernetesNode })
    this.policies = follow('policies', { slim: networkPolicyObject })
  }

  /** @returns the end of it */
  subscribe(listener: FactsListener): () => void {
    this.#listeners.add(listener)
    const told = {
      pods: [...created<PodRecord>(this.ownPods), ...created(this.otherPods)],
      namespaces: created(this.namespaces),
      nodes: created(this.nodes),
      policies: created(this.policies),
    }
    for (const [kind, changes] of Object.entries(told))
      if (changes.length > 0) this.#tellOne(listener, kind as keyof FactsListener, changes)
    return () => this.#listeners.delete(listener)
  }

  /** The pod of this node that the runtime means; null: it is not known, or another one has its name. */
  podFor({ namespace, name, uid }: PodIdentity): OwnPod | null {
    const pod = this.ownPods.entries.get(`${namespace}/${name}`)
    return pod !== undefined && isPod(pod, uid) ? pod : null
  }

  /** Resolves when each was listed once. */
  async synced(): Promise<void> {
    await Promise.all(this.#all().map(([, reflector]) => reflector.synced()))
  }

  status(): WatchedStatus[] {
    return this.#all().map(([what, reflector]) => ({
      what,
      objects: reflector.entries.size,
      connected: reflector.isConnected,
      problem: reflector.problem(),
    }))
  }

  async close(): Promise<void> {
    await Promise.all(this.#all().map(([, reflector]) => reflector.close()))
  }

  #all(): [string, Followed<unknown>][] {
    return [
      ['pods of this node', this.ownPods],
      ['pods of other nodes', this.otherPods],
      ['namespaces', this.namespaces],
      ['nodes', this.nodes],
      ['network policies', this.policies],
    ]
  }

  #tell(kind: keyof FactsListener, changes: readonly ReflectorChange<unknown>[]): void {
    // Whoever subscribes meanwhile is told by that.
    for (const listener of [...this.#listeners]) this.#tellOne(listener, kind, changes)
  }

  /** One that throws keeps nothing from the others. */
  #tellOne(
    listener: FactsListener,
    kind: keyof FactsListener,
    changes: readonly ReflectorChange<unknown>[],
  ): void {
    try {
      listener[kind]?.(changes as never)
    } catch (error) {
      this.#log.error({ kind, error: messageOf(error) }, 'a listener to facts of Kubernetes threw')
    }
  }
}

const created = <T>({ entries }: Followed<T>): ReflectorChange<T>[] =>
  [...entries].map(([key, after]) => ({ key, before: null, after }))
