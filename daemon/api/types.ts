/**
 * The daemon's local API: HTTP/1.1 over the Unix socket <runDir>/api.sock, mode 0600. JSON, versioned by path;
 * one version apart is allowed between client and daemon.
 *
 *   GET /v1/live     200 while the event loop turns
 *   GET /v1/ready    200 when ADD can be served, the first reconcile is through and the data path whole, else 503 with {reasons}
 *   GET /v1/ready?datastore   200 when moreover the datastore has said since the start who this node is: may the next node be changed?
 *   GET /v1/status   Status
 *   GET /v1/metrics  Prometheus text
 *   POST /v1/store/  the embedded datastore, where there is one (datastore/embedded/protocol.ts)
 *   GET /v1/audit    AuditReport: what disagrees, looked at now; 503 while the node is not known yet
 *   POST /v1/audit/repair[?dry-run]   AuditReport: and what of it was, or would be, mended
 */
import type { FindingKind } from '../../ipam/audit/finding.ts'
import type { Family } from '../../lib/address.ts'

export interface Status {
  readonly node: {
    readonly name: string
    readonly uid: string
    readonly incarnation: string
    readonly version: string
    readonly startedAt: string
    readonly pid: number
  }
  readonly ready: boolean
  /** Why not, each a sentence; [] when ready. */
  readonly reasons: readonly string[]
  readonly datastore: {
    readonly connected: boolean
    readonly reason: string | null
    readonly clusterUid: string | null
    readonly commits: number
    /** ISO 8601; null: none since the start. */
    readonly lastAnswerAt: string | null
    /** It has said since the start who this node is. */
    readonly confirmed: boolean
  }
  /** null: the pods are no Kubernetes cluster's. */
  readonly kubernetes: {
    readonly server: string
    /** Everything is followed now. */
    readonly connected: boolean
    /** Why the last request was not answered; null: it was. */
    readonly reason: string | null
    /** Sent since start. */
    readonly requests: number
    readonly watched: readonly {
      /** "pods of this node" */
      readonly what: string
      readonly objects: number
      readonly connected: boolean
      /** Why it is not followed, or what of it cannot be read. */
      readonly problem: string | null
    }[]
    /** Each "list pods"; [] also while nobody has been asked yet. */
    readonly missingRights: readonly string[]
    /** Each "ippools.twill.network lacks spec.gateway"; [] also while it is not known. */
    readonly missingDefinitions: readonly string[]
  } | null
  readonly underlay: readonly {
    readonly family: Family
    readonly device: string
    readonly address: string
    readonly mtu: number
    /** Why this one: "the default route leaves by it". */
    readonly reason: string
  }[]
  readonly overlay: {
    readonly device: string | null
    readonly vni: number
    readonly port: number
    readonly tunnel: readonly string[]
    readonly podMtu: number
  }
  readonly nodes: readonly {
    readonly name: string
    readonly uid: string
    readonly underlay: readonly string[]
    readonly tunnel: readonly string[]
    readonly self: boolean
  }[]
  readonly parts: readonly {
    readonly pool: string
    readonly cidr: string
    readonly free: number
    readonly held: number
    readonly usable: boolean
  }[]
  readonly pods: readonly PodStatus[]
  /** Addresses given to interfaces of other plugins, through twill-ipam. */
  readonly leases: readonly LeaseStatus[]
  readonly reconcile: {
    /** A pass over everything, with the cluster's facts known, has ended with nothing failed or waiting. */
    readonly converged: boolean
    /** What could not be done when last tried, each "object: message". */
    readonly failing: readonly string[]
    /** Repairs of foreign damage since start, by kind of object. */
    readonly repairs: Readonly<Record<string, number>>
  }
  /** Rules of others that drop what ours accepts and that we do not reach. */
  readonly foreignFilters: readonly {
    readonly table: string
    readonly chain: string
    readonly hook: string
    readonly reason: string
  }[]
  readonly conditions: readonly { readonly type: string; readonly message: string }[]
}

export interface PodStatus {
  readonly id: string
  readonly network: string
  readonly containerId: string
  readonly ifName: string
  readonly pod: { readonly namespace: string; readonly name: string; readonly uid: string } | null
  readonly addresses: readonly string[]
  readonly hostInterface: string
  readonly mac: string | null
  readonly state: 'attaching' | 'attached' | 'detaching'
  readonly netns: string
}

export interface LeaseStatus
  extends Pick<PodStatus, 'id' | 'network' | 'containerId' | 'ifName' | 'pod' | 'addresses'> {
  /** '' when it is not known any more. */
  readonly netns: string
}

export interface ReportedFinding {
  readonly kind: FindingKind
  /** With the kind: the same disagreement at the next look. */
  readonly object: string
  readonly message: string
  /** ISO 8601, when it was first seen or what the records say; null: nobody knows. */
  readonly since: string | null
  readonly mend: string
  /** Would `repair` mend it: now, once the grace period is over, or not at all. */
  readonly repair: 'yes' | 'later' | 'no'
}

export interface AuditReport {
  readonly node: string
  /** ISO 8601 */
  readonly at: string
  readonly compared: { readonly attachments: number; readonly addresses: number }
  /** "none", the socket of the one that was asked, or why it did not answer. */
  readonly runtime: string
  readonly findings: readonly ReportedFinding[]
  /** Of this call; `failure` null: done, or in a dry run to be done. */
  readonly mended: readonly {
    readonly kind: FindingKind
    readonly object: string
    readonly failure: string | null
  }[]
}
