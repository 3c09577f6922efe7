/** What Prometheus sees of a node. Names are for ever; every one says its unit. */
import { Counter, Gauge, Histogram, Registry } from 'prom-client'
import type { AuditReport, Status } from './api/types.ts'

/** Bounds around what an attach takes: a millisecond to a runtime's patience. */
const SECONDS = [0.001, 0.002, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10]

export interface Metrics {
  /** Ends one CNI call. */
  cniCall(command: string, code: number, seconds: number): void
  repair(kind: string): void
  /** A request to the API server was answered; code 0: it was not. */
  kubernetesRequest(verb: string, code: number): void
  /** The audit mended a disagreement. */
  mended(kind: string): void
  text(): Promise<string>
}

export interface MetricsModules {
  readonly status: () => Status
  /** The last audit that came to its end; null: none yet. */
  readonly audit: () => { readonly report: AuditReport; readonly ageMs: number } | null
}

export function createMetrics(modules: MetricsModules): Metrics {
  const registry = new Registry()
  const registers = [registry]
  const calls = new Histogram({
    name: 'twill_cni_seconds',
    help: 'CNI calls by command and error code (0: success)',
    labelNames: ['command', 'code'],
    buckets: SECONDS,
    registers,
  })
  const repairs = new Counter({
    name: 'twill_repairs_total',
    help: 'Objects of ours that somebody else removed or changed, put right',
    labelNames: ['kind'],
    registers,
  })
  const requests = new Counter({
    name: 'twill_kubernetes_requests_total',
    help: 'Requests to the Kubernetes API server by verb and HTTP status (0: no answer); a watch counts once',
    labelNames: ['verb', 'code'],
    registers,
  })
  const mended = new Counter({
    name: 'twill_audit_mended_total',
    help: 'Disagreements that the audit mended, by kind',
    labelNames: ['kind'],
    registers,
  })
  /** Of the scrape under way: it takes long to put together in a large cluster. */
  let seen: Status
  const gauge = (
    name: string,
    help: string,
    read: (status: Status, gauge: Gauge) => void,
    labelNames: string[] = [],
  ) =>
    new Gauge({
      name,
      help,
      labelNames,
      registers,
      collect() {
        this.reset()
        read(seen, this)
      },
    })
  gauge('twill_ready', '1 when pods can be attached', (status, it) => it.set(status.ready ? 1 : 0))
  gauge('twill_datastore_connected', '1 when the datastore answers', (status, it) =>
    it.set(status.datastore.connected ? 1 : 0),
  )
  gauge('twill_datastore_commits', 'Commits sent since start', (status, it) =>
    it.set(status.datastore.commits),
  )
  gauge(
    'twill_kubernetes_objects',
    'Objects of the Kubernetes API server that are followed',
    (status, it) => {
      for (const { what, objects } of status.kubernetes?.watched ?? []) it.set({ what }, objects)
    },
    ['what'],
  )
  gauge(
    'twill_kubernetes_connected',
    '1 while these objects are followed, 0 while they are not',
    (status, it) => {
      for (const { what, connected } of status.kubernetes?.watched ?? []) it.set({ what }, connected ? 1 : 0)
    },
    ['what'],
  )
  gauge(
    'twill_pods',
    'Attachments by state',
    (status, it) => {
      for (const [state, count] of countBy(status.pods, pod => pod.state)) it.set({ state }, count)
    },
    ['state'],
  )
  gauge(
    'twill_leases',
    'Interfaces of other plugins that have their addresses from this node',
    (status, it) => it.set(status.leases.length),
  )
  gauge(
    'twill_addresses_free',
    'Free addresses in the parts of this node',
    (status, it) => {
      for (const { pool, free } of status.parts) it.inc({ pool }, free)
    },
    ['pool'],
  )
  gauge(
    'twill_addresses_held',
    'Addresses held in the parts of this node',
    (status, it) => {
      for (const { pool, held } of status.parts) it.inc({ pool }, held)
    },
    ['pool'],
  )
  gauge('twill_nodes', 'Nodes of the cluster as this one knows them', (status, it) =>
    it.set(status.nodes.length),
  )
  gauge(
    'twill_audit_findings',
    'Disagreements that the last audit of this node found, by kind',
    (_, it) => {
      for (const [kind, count] of countBy(modules.audit()?.report.findings ?? [], each => each.kind))
        it.set({ kind }, count)
    },
    ['kind'],
  )
  gauge(
    'twill_audit_age_seconds',
    'Since the last audit came to its end; absent before the first',
    (_, it) => {
      const last = modules.audit()
      if (last === null) it.remove()
      else it.set(last.ageMs / 1000)
    },
  )
  gauge('twill_resident_bytes', 'Resident memory of the daemon', (_, it) => it.set(process.memoryUsage.rss()))
  return {
    cniCall: (command, code, seconds) => calls.observe({ command, code: String(code) }, seconds),
    kubernetesRequest: (verb, code) => requests.inc({ verb, code: String(code) }),
    repair: kind => repairs.inc({ kind }),
    mended: kind => mended.inc({ kind }),
    async text() {
      seen = modules.status()
      return registry.metrics()
    },
  }
}

function countBy<T>(items: readonly T[], keyOf: (item: T) => string): Map<string, number> {
  const counts = new Map<string, number>()
  for (const item of items) counts.set(keyOf(item), (counts.get(keyOf(item)) ?? 0) + 1)
  return counts
}
