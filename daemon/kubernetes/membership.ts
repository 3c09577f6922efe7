/** This node as one of a Kubernetes cluster: its Node object, and what is done about those that are deleted. */
import { clusterUidOf } from '../../datastore/kubernetes/cluster-uid.ts'
import type { NodeRecord } from '../../datastore/records/node.ts'
import type { Store } from '../../datastore/store.ts'
import type { PodCidrs } from '../../ipam/pod-cidrs.ts'
import type { Clock, Random } from '../../lib/clock.ts'
import { messageOf } from '../../lib/errors.ts'
import type { Log } from '../../lib/log.ts'
import { DeletedNodes } from './deleted-nodes.ts'
import { NodeLife, type NodeLifeModules } from './node-life.ts'
import type { KubernetesWatching } from './watching.ts'

type Watching = Pick<KubernetesWatching, 'client' | 'facts'>
type Facts = Watching['facts']

export interface MembershipModules extends Pick<NodeLifeModules, 'announced' | 'trouble' | 'changed'> {
  readonly clock: Clock
  readonly random: Random
  readonly log: Log
  readonly store: Store
  readonly nodes: () => readonly NodeRecord[]
}

/** A start waits this long for an API server that does not answer. */
const PATIENCE_MS = 4_000
const POLL_MS = 2_000

export class Membership {
  readonly #modules: MembershipModules
  readonly #name: string
  readonly #deletedNodes: DeletedNodes
  readonly #facts: Facts
  #unsubscribe: () => void = () => undefined
  readonly node: NodeLife

  private constructor(name: string, { client, facts }: Watching, modules: MembershipModules) {
    this.#modules = modules
    this.#name = name
    this.node = new NodeLife({ name }, { ...modules, client })
    this.#facts = facts
    const { nodes: kubernetesNodes } = facts
    const clusterUid = () => this.clusterUid()
    this.#deletedNodes = new DeletedNodes(
      { nodeName: name },
      { ...modules, client, kubernetesNodes, clusterUid },
    )
  }

  /** null: the pods are not those of a Kubernetes cluster. */
  static of(name: string, watching: Watching | null, modules: MembershipModules): Membership | null {
    return watching === null ? null : new Membership(name, watching, modules)
  }

  /**
   * Until Kubernetes has a Node of our name: without one this node was removed, and must not register again. An API server
   * that is away holds up nobody.
   */
  async untilThere(waiting: (reason: string) => void): Promise<void> {
    const { clock, log } = this.#modules
    while (!(await this.#mayBegin())) {
      const reason = `Kubernetes has no Node ${this.#name}: waiting for it`
      waiting(reason)
      log.warn({}, reason)
      await clock.sleep(POLL_MS)
    }
  }

  async #mayBegin(): Promise<boolean> {
    const { clock, log } = this.#modules
    const giveUp = new AbortController()
    const patience = clock.setTimer(PATIENCE_MS, () => giveUp.abort())
    try {
      return await this.node.standsNow(giveUp.signal)
    } catch (error) {
      log.warn({ error: messageOf(error) }, 'the API server does not say whether there is a Node of our name')
      return true
    } finally {
      patience.cancel()
    }
  }

  /** Of the Kubernetes cluster; null: not seen yet. */
  clusterUid(): string | null {
    return clusterUidOf(this.#facts.namespaces)
  }

  conditions(): { type: string; message: string }[] {
    return [...this.node.conditions(), ...this.#deletedNodes.conditions()]
  }

  /** Of our Node object. */
  podCidrs(): PodCidrs {
    return this.node.node?.podCidrs ?? 'unknown'
  }

  start(): void {
    let told = this.clusterUid()
    this.#unsubscribe = this.#facts.subscribe({
      namespaces: () => {
        if (told === this.clusterUid()) return
        told = this.clusterUid()
        this.#modules.changed()
      },
    })
    this.node.start()
    this.#deletedNodes.start()
  }

  async stop(): Promise<void> {
    this.#unsubscribe()
    await Promise.all([this.node.stop(), this.#deletedNodes.stop()])
  }
}
