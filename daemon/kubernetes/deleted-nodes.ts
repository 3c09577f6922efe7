/**
 * Deletion of a Node object is the removal of the node (ADDRESSES.md rule 13): every daemon sees the same, and a few of
 * them, chosen by chance, compare Twill's nodes with Kubernetes' now and then and remove those that have no Node object
 * any more. Only nodes that said they have one are judged.
 *
 * A watch that is cut, or that lacks our own node, judges nobody: it is another cluster's, or we were removed ourselves.
 * Nor are nodes judged whose record says another Kubernetes cluster than that of the API server: a kubeconfig may lead
 * elsewhere, where there happens to be a Node of our name. What the watch lacks is asked for by name before anything is
 * done, and the cluster too: it may be behind.
 */
import type { KubernetesClient } from '../../datastore/kubernetes/client.ts'
import { readClusterUid } from '../../datastore/kubernetes/cluster-uid.ts'
import type { Followed } from '../../datastore/kubernetes/facts.ts'
import type { NodeRecord } from '../../datastore/records/node.ts'
import type { Store } from '../../datastore/store.ts'
import { ACTORS } from '../../ipam/fences.ts'
import { identitiesOf, removeIdentities } from '../../ipam/node-removal.ts'
import { UnreadableRecords } from '../../ipam/unreadable.ts'
import type { Clock, Random } from '../../lib/clock.ts'
import { isTwillError, messageOf } from '../../lib/errors.ts'
import type { Log } from '../../lib/log.ts'
import { Periodic } from '../../lib/periodic.ts'
import { nodeStands } from './own-node.ts'

export interface DeletedNodesOptions {
  readonly nodeName: string
  /** Default 10 s; each look comes up to half of this later. */
  readonly sweepEveryMs?: number
}

export interface DeletedNodesModules {
  readonly client: KubernetesClient
  readonly store: Store
  readonly clock: Clock
  readonly random: Random
  readonly log: Log
  /** By name. */
  readonly kubernetesNodes: Pick<Followed<unknown>, 'entries' | 'isConnected'>
  /** Of the API server's cluster; null: not seen yet. */
  readonly clusterUid: () => string | null
  /** Twill's, as the watch has them. */
  readonly nodes: () => readonly NodeRecord[]
}

const SWEEP_EVERY_MS = 10_000

export class DeletedNodes {
  readonly #options: Required<DeletedNodesOptions>
  readonly #modules: DeletedNodesModules
  readonly #sweeping: Periodic
  /** By name of the node that is not removed because of it. */
  readonly #unreadable: UnreadableRecords

  constructor(options: DeletedNodesOptions, modules: DeletedNodesModules) {
    this.#options = { sweepEveryMs: SWEEP_EVERY_MS, ...options }
    this.#modules = modules
    const { clock, random, log } = modules
    this.#unreadable = new UnreadableRecords({ log })
    this.#sweeping = new Periodic(
      { everyMs: this.#options.sweepEveryMs },
      {
        ...{ clock, random },
        work: signal => this.#sweep(signal),
        failed: error => log.debug({ error: messageOf(error) }, 'deleted Node objects were not looked for'),
      },
    )
  }

  start(): void {
    this.#sweeping.start()
  }

  stop(): Promise<void> {
    return this.#sweeping.stop()
  }

  conditions(): { type: string; message: string }[] {
    const damaged = [...this.#unreadable.byAbout].map(([name, reason]) => ({
      type: 'DamagedRecord',
      message: `Node ${name} was deleted in Kubernetes, but cannot be removed: ${reason}`,
    }))
    return [...damaged, ...this.#foreign()]
  }

  /** By cluster: a node moves with its kubeconfig, and what was there before has nobody to see its end. */
  #foreign(): { type: string; message: string }[] {
    const own = this.#modules.clusterUid()
    const names = new Map<string, string[]>()
    for (const { name, kubernetesCluster: uid } of this.#modules.nodes())
      if (own !== null && uid !== undefined && uid !== own) names.set(uid, [...(names.get(uid) ?? []), name])
    return [...names].map(([uid, those]) => ({
      type: 'ForeignKubernetes',
      message: `${nodesText(those)} of another Kubernetes cluster (kube-system ${uid}) than this node's API server (kube-system ${own}): deleted Node objects there remove nothing here. One of the two has the wrong kubeconfig, or the cluster was made anew; a node that is gone for good: twillctl delete node NAME`,
    }))
  }

  async #sweep(signal: AbortSignal): Promise<void> {
    const cluster = this.#modules.clusterUid()
    const judged = this.#modules.nodes().filter(each => isOf(each, cluster))
    const others = judged.filter(({ name }) => name !== this.#options.nodeName)
    this.#unreadable.keepOnly(name => others.some(node => node.name === name) && !this.#stands(name))
    if (others.length === 0 || this.#modules.random.fraction() >= ACTORS / judged.length) return
    const { entries, isConnected } = this.#modules.kubernetesNodes
    if (!isConnected || !entries.has(this.#options.nodeName)) return
    const failures: unknown[] = []
    for (const node of others)
      if (!this.#stands(node.name))
        await this.#unreadable
          .spare(node.name, () => this.#remove(node, signal))
          .catch(error => failures.push(ofOneNode(error)))
    if (failures.length > 0) throw failures[0]
  }

  #stands(name: string): boolean {
    return this.#modules.kubernetesNodes.entries.has(name)
  }

  async #remove(node: NodeRecord, signal: AbortSignal): Promise<void> {
    const { name, uid } = node
    const { client, store, log } = this.#modules
    if (await nodeStands(name, client, signal)) return
    if (!isOf(node, await readClusterUid(client, signal))) return
    const terms = { by: `deletion of Node ${name} in Kubernetes`, endsWith: 'recreation' } as const
    const { identities } = await identitiesOf(name, [uid], store)
    const fenced = await removeIdentities(name, identities, [uid], terms, this.#modules)
    log.warn({ removed: name, uid, fenced }, 'a node whose Node object was deleted is removed')
  }
}

/** What says nothing of the others. @throws what does: a server that is away, the end */
function ofOneNode(error: unknown): unknown {
  if (!isTwillError(error) || error.retryable || error.code === 'cancelled') throw error
  return error
}

/** Whose Node object this cluster, if it is known, has or had. */
const isOf = ({ kubernetes, kubernetesCluster }: NodeRecord, cluster: string | null): boolean =>
  kubernetes === true && cluster !== null && kubernetesCluster === cluster

const NAMED_MAX = 3

function nodesText(names: readonly string[]): string {
  const more = names.length - NAMED_MAX
  const listed = [...names.slice(0, NAMED_MAX), ...(more > 0 ? [`${more} more`] : [])].join(', ')
  return names.length === 1 ? `node ${listed} is` : `nodes ${listed} are`
}
