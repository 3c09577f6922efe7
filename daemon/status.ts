/** What status, readiness and metrics say, put together from the parts. Pure. */

import { definitionsMessage } from '../datastore/kubernetes/definitions/served.ts'
import { rightsMessage } from '../datastore/kubernetes/rights.ts'
import type { StoreStatus } from '../datastore/store.ts'
import type { OwnPart } from '../ipam/ipam.ts'
import { VXLAN_LINK } from '../kernel/ownership.ts'
import { VERSION } from '../lib/version.ts'
import type { LeaseStatus, PodStatus, Status } from './api/types.ts'
import type { Base } from './base.ts'
import { capped } from './capped.ts'
import type { Attachment, Lease } from './journal/records.ts'
import type { LoopReport } from './loop.ts'
import type { Cluster, Recalled } from './node/cluster.ts'
import type { NodeFacts } from './node/facts.ts'

export interface StatusParts {
  readonly node: Status['node']
  readonly clusterUid: string | null
  readonly store: StoreStatus
  /** The store has said since the start who this node is. */
  readonly confirmed: boolean
  readonly kubernetes: Status['kubernetes']
  readonly facts: NodeFacts
  readonly cluster: Cluster
  readonly vxlan: { readonly vni: number; readonly port: number }
  readonly attachments: readonly Attachment[]
  readonly leases: readonly Lease[]
  readonly ownParts: readonly OwnPart[]
  readonly room: { ok: true } | { ok: false; reason: string }
  readonly loop: LoopReport
  /** Of the data path, as `troubleOf` says it. */
  readonly trouble: string | null
  readonly repairs: Readonly<Record<string, number>>
  readonly foreignFilters: Status['foreignFilters']
  readonly conditions: Status['conditions']
  /** Why runtimes have no network configuration; null: they have. */
  readonly unannounced: string | null
}

export function statusOf(parts: StatusParts): Status {
  const reasons = reasonsAgainstServing(parts)
  if (reasons.length === 0 && parts.unannounced !== null) reasons.push(parts.unannounced)
  const observation = parts.facts.observation
  const tunnel = Object.values(parts.facts.tunnel).filter(text => text !== undefined)
  const pools = [...parts.cluster.pools(), ...parts.cluster.covering()]
  const poolNames = new Map(pools.map(pool => [pool.metadata.uid ?? '', pool.metadata.name]))
  const failing = [...parts.loop.failing].map(([object, { message }]) => `${object}: ${message}`)
  return {
    node: parts.node,
    ready: reasons.length === 0,
    reasons,
    datastore: datastoreStatus(parts.store, parts),
    kubernetes: parts.kubernetes,
    underlay: observation.underlay,
    overlay: {
      device: tunnel.length > 0 ? VXLAN_LINK[4] : null,
      ...parts.vxlan,
      tunnel,
      podMtu: parts.facts.podMtu([...poolNames.keys()]),
    },
    nodes: parts.cluster.nodes().map(node => ({
      name: node.name,
      uid: node.uid,
      underlay: Object.values(node.underlay).filter(text => text !== undefined),
      tunnel: Object.values(node.tunnel).filter(text => text !== undefined),
      self: node.uid === parts.node.uid,
    })),
    parts: parts.ownParts.map(({ poolUid, cidr, free, held, usable }) => ({
      pool: poolNames.get(poolUid) ?? poolUid,
      cidr,
      free,
      held,
      usable,
    })),
    pods: parts.attachments.map(podStatus),
    leases: parts.leases.map(leaseStatus),
    reconcile: { converged: parts.loop.converged, failing, repairs: parts.repairs },
    foreignFilters: parts.foreignFilters,
    conditions: capped([
      ...parts.conditions,
      ...kubernetesConditions(parts.kubernetes),
      ...parts.loop.problems.map(({ message }) => ({ type: 'Overlay', message })),
      ...parts.cluster.damaged().map(message => ({ type: 'DamagedRecord', message })),
    ]),
  }
}

/**
 * Why ADD cannot be served, or makes pods that reach nobody; [] when it can. Never [] where STATUS refuses. Short store outages
 * do not count: pods go on, and so does ADD.
 */
export function reasonsAgainstServing({
  loop,
  trouble,
  room,
  cluster,
  store,
}: Pick<StatusParts, 'loop' | 'trouble' | 'room' | 'cluster' | 'store'>): string[] {
  if (!cluster.known)
    return [`the cluster's facts are not known yet${store.reason === null ? '' : `: ${store.reason}`}`]
  if (!loop.converged) return ['the first reconcile is not through yet']
  const broken = trouble === null ? [] : [`the data path is broken: ${trouble}`]
  return room.ok ? broken : [...broken, room.reason]
}

export function recalledCondition(recalled: Recalled | null): Status['conditions'] {
  if (recalled === null) return []
  const [what, since] = [recalled.what.join(', '), new Date(recalled.savedAt).toISOString()]
  const message = `not told since the start: ${what}; routes and rules are made of those of ${since}`
  return [{ type: 'OldFacts', message }]
}

/** @param reason of `NodeIpam.restored` */
export function restoredCondition(reason: string | null): Status['conditions'] {
  if (reason === null) return []
  const message = `the datastore went back to an older state (${reason}): no further addresses are claimed for the longest offlineAllowance and a minute`
  return [{ type: 'StoreRestored', message }]
}

/** What is wrong with the connection, or with the rights, is not said again for each kind that is followed. */
export function kubernetesConditions(kubernetes: Status['kubernetes']): Status['conditions'] {
  if (kubernetes === null) return []
  const { server, reason, missingRights, missingDefinitions, watched } = kubernetes
  const type = 'Kubernetes'
  const older =
    missingDefinitions.length === 0
      ? []
      : [{ type: 'Definitions', message: definitionsMessage(missingDefinitions) }]
  if (missingRights.length > 0) return [{ type, message: rightsMessage(missingRights) }, ...older]
  if (reason !== null) return [{ type, message: `the API server at ${server}: ${reason}` }, ...older]
  const problems = watched.flatMap(({ what, problem }) => (problem === null ? [] : [`${what}: ${problem}`]))
  return [...problems.map(message => ({ type, message })), ...older]
}

function podStatus(attachment: Attachment): PodStatus {
  const { id, network, containerId, ifName, pod, hostInterface, podMac, state, netns } = attachment
  return {
    id,
    network,
    containerId,
    ifName,
    pod,
    addresses: attachment.addresses.map(({ address }) => address),
    hostInterface,
    mac: podMac,
    state,
    netns: netns.path,
  }
}

function leaseStatus({ id, network, containerId, ifName, pod, addresses, netns }: Lease): LeaseStatus {
  const texts = addresses.map(({ address }) => address)
  return { id, network, containerId, ifName, pod, addresses: texts, netns: netns.path }
}

function datastoreStatus(
  { connected, reason, commits, lastAnswerMs }: StoreStatus,
  { clusterUid, confirmed }: Pick<Status['datastore'], 'clusterUid' | 'confirmed'>,
): Status['datastore'] {
  const lastAnswerAt = lastAnswerMs === null ? null : new Date(lastAnswerMs).toISOString()
  return { connected, reason, clusterUid, commits, lastAnswerAt, confirmed }
}

export function nodeStatus({ config, boot, startedAt }: Base, uid: string): Status['node'] {
  return { name: config.nodeName, uid, incarnation: boot, version: VERSION, startedAt, pid: process.pid }
}

/** While `reason` keeps the node from being one. */
export function startingStatus(base: Base, reason: string): Status {
  return {
    node: nodeStatus(base, base.local.node?.uid ?? ''),
    ready: false,
    reasons: [reason],
    datastore: datastoreStatus(base.store.status(), {
      clusterUid: base.local.node?.clusterUid ?? null,
      confirmed: false,
    }),
    kubernetes: base.kubernetes?.status() ?? null,
    underlay: [],
    overlay: { device: null, ...base.config.vxlan, tunnel: [], podMtu: 0 },
    nodes: [],
    parts: [],
    pods: [],
    leases: [],
    reconcile: { converged: false, failing: [], repairs: {} },
    foreignFilters: [],
    conditions: kubernetesConditions(base.kubernetes?.status() ?? null),
  }
}
