/** The auditor of a composed node, and what status says of its last report. */
import type { NodeIpam } from '../../ipam/node-ipam.ts'
import { isInhabited } from '../../kernel/netns/inhabitants.ts'
import { systemClock } from '../../lib/clock.ts'
import type { AuditReport, Status } from '../api/types.ts'
import type { Attachments } from '../attach/attachments.ts'
import type { Leases } from '../attach/leases.ts'
import type { Registry } from '../attach/registry.ts'
import type { Base } from '../base.ts'
import type { createMetrics } from '../metrics.ts'
import type { Cluster } from '../node/cluster.ts'
import { connectRuntime, runtimeSocket } from '../runtime/cri.ts'
import { Auditor } from './auditor.ts'
import { collectFacts } from './collect.ts'

/** As many as a person reads; all of them by `twillctl ipam check`. */
const AUDIT_CONDITIONS = 10

export const auditConditions = (report: AuditReport | undefined): Status['conditions'] =>
  (report?.findings ?? [])
    .slice(0, AUDIT_CONDITIONS)
    .map(({ kind, object, message }) => ({ type: 'Audit', message: `${kind} ${object}: ${message}` }))

interface AuditedParts {
  readonly attachments: Attachments
  readonly registry: Registry
  readonly leases: Leases
  readonly ipam: NodeIpam
  readonly cluster: Cluster
  readonly metrics: ReturnType<typeof createMetrics>
}

export function createAuditor(
  { config, kernel, store, log }: Base,
  uid: string,
  parts: AuditedParts,
): Auditor {
  const { attachments, registry, leases, ipam, cluster, metrics } = parts
  const runtime = () => {
    const socket = runtimeSocket(config.audit.runtime)
    return socket === null ? null : { socket, connect: () => connectRuntime(socket, { clock: systemClock }) }
  }
  const pools = () => [...cluster.pools(), ...cluster.covering()].map(({ spec }) => spec.cidr)
  const { proc } = config.host
  const facts = {
    attachments,
    registry,
    leases,
    ipam,
    kernel,
    isInhabited: proc === null ? null : (inode: string) => isInhabited(inode, proc),
    store,
    runtime,
    pools,
    clock: systemClock,
    log,
  }
  return new Auditor(
    { node: config.nodeName, everyMs: config.audit.interval, graceMs: config.audit.grace },
    {
      collect: () => collectFacts(uid, facts),
      attachments,
      leases,
      ipam,
      clock: systemClock,
      log,
      metrics,
    },
  )
}
