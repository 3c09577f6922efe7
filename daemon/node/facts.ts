/**
 * Puts together what this node knows: the cluster's facts, what it observed of itself, its attachments. The loop
 * and the attaching code ask for it at the moment they need it.
 */
import type { NodeRecord } from '../../datastore/records/node.ts'
import type { Vital } from '../../ipam/covered.ts'
import { contains, type Family, formatIp, parseCidr, parseIp } from '../../lib/address.ts'
import { vtepMac } from '../../routing/vxlan/vtep.ts'
import type { Attachments } from '../attach/attachments.ts'
import type { NodeView } from '../attach/node-view.ts'
import type { Registry } from '../attach/registry.ts'
import { attachmentMtu } from '../desired/desired.ts'
import type { AttachmentFacts, Facts, SelfFacts } from '../desired/facts.ts'
import { gatewayOnHostEnds, routeSource } from '../desired/pods.ts'
import type { Attachment } from '../journal/records.ts'
import type { Cluster } from './cluster.ts'
import type { Observation } from './self.ts'
import type { TunnelAddresses } from './tunnel.ts'

export interface NodeFactsOptions {
  readonly name: string
  readonly uid: string
  /** Of the configuration. */
  readonly labels: Readonly<Record<string, string>>
  /** It has a Node object. */
  readonly kubernetes: boolean
  readonly incarnation: string
  readonly vxlan: { readonly vni: number; readonly port: number }
}

export interface NodeFactsModules {
  readonly cluster: Cluster
  readonly registry: Registry
  readonly busy: () => ReturnType<Attachments['busy']>
  /** What this node lives by. */
  readonly vitals: () => readonly Vital[]
  readonly tunnel: () => Pick<TunnelAddresses, 'byFamily' | 'beside'>
  /** uid of the cluster of its Node object; null: there is none, or it is not known. */
  readonly kubernetesCluster: () => string | null
}

export class NodeFacts implements NodeView {
  readonly #options: NodeFactsOptions
  readonly #modules: NodeFactsModules
  readonly #mac: string
  /** Of each record as last told: what is the same object from one snapshot to the next is not worked out again. */
  readonly #attachments = new WeakMap<Attachment, AttachmentFacts>()
  #observation: Observation

  constructor(options: NodeFactsOptions & { observation: Observation }, modules: NodeFactsModules) {
    this.#options = options
    this.#modules = modules
    this.#observation = options.observation
    this.#mac = vtepMac(options.uid)
  }

  get observation(): Observation {
    return this.#observation
  }

  get tunnel(): Partial<Record<Family, string>> {
    const all = this.#modules.tunnel().byFamily()
    return Object.fromEntries(Object.entries(all).filter(([, address]) => !this.#isCovered(address)))
  }

  /** Of a pool that covers what this node lives by. */
  #isCovered(address: string): boolean {
    const covering = this.#modules.cluster.covering()
    return covering.some(({ spec }) => contains(parseCidr(spec.cidr), parseIp(address)))
  }

  observed(observation: Observation): void {
    this.#observation = observation
  }

  facts(): Facts {
    const { cluster, registry, busy } = this.#modules
    const underWay = busy()
    return {
      known: cluster.known,
      complete: cluster.complete,
      self: this.#self(),
      nodes: cluster.nodes(),
      pools: cluster.pools(),
      slots: cluster.slots(),
      attachments: registry
        .all()
        .map(attachment => this.#attachmentFacts(attachment, underWay.has(attachment.id))),
    }
  }

  /** Records of attachments never change: another state is another record. */
  #attachmentFacts(attachment: Attachment, busy: boolean): AttachmentFacts {
    const told = this.#attachments.get(attachment)
    if (told?.busy === busy) return told
    const { id, hostInterface, podMac, mtu, addresses, state } = attachment
    const facts = { id, hostInterface, podMac: podMac ?? '', mtu, addresses, state, busy }
    this.#attachments.set(attachment, facts)
    return facts
  }

  #self(): SelfFacts {
    const { underlay, hostAddresses, arpIgnore } = this.#observation
    return {
      name: this.#options.name,
      uid: this.#options.uid,
      underlay: Object.fromEntries(
        underlay.map(({ family, address, device, mtu }) => [family, { address, device, mtu }]),
      ),
      hostAddresses,
      vtep: { mac: this.#mac, ...this.#options.vxlan },
      tunnel: this.tunnel,
      besideTunnel: this.#modules
        .tunnel()
        .beside()
        .filter(({ address }) => !this.#isCovered(address)),
      vitals: this.#modules.vitals().map(({ ip }) => formatIp(ip)),
      arpIgnore,
    }
  }

  /** What other nodes are told; null without an underlay. */
  record(): NodeRecord | null {
    const { underlay, hostAddresses } = this.#observation
    const { labels } = this.#options
    const kubernetesCluster = this.#modules.kubernetesCluster()
    if (underlay.length === 0) return null
    const hasV4 = underlay.some(({ family }) => family === 4)
    return {
      v: 1,
      name: this.#options.name,
      uid: this.#options.uid,
      incarnation: this.#options.incarnation,
      ...(Object.keys(labels).length === 0 ? {} : { labels: { ...labels } }),
      ...(this.#options.kubernetes ? { kubernetes: true as const } : {}),
      ...(kubernetesCluster === null ? {} : { kubernetesCluster }),
      underlay: Object.fromEntries(underlay.map(({ family, address }) => [family, address])),
      hostAddresses: [...hostAddresses],
      vteps: hasV4 ? [{ family: 4, mac: this.#mac, ...this.#options.vxlan }] : [],
      tunnel: { ...this.tunnel },
    }
  }

  // ---------------------------------------------------------------- NodeView

  routeSource(family: Family): string | null {
    return routeSource(this.#self(), family)
  }

  podMtu(poolUids: readonly string[]): number {
    return attachmentMtu({ self: this.#self(), pools: this.#modules.cluster.pools() }, poolUids)
  }

  get gatewayOnHostEnd(): boolean {
    return gatewayOnHostEnds(this.#observation)
  }
}
