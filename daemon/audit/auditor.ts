/**
 * Audits this node: now when asked, and on a timer. Remembers since when each disagreement stands, and mends what is
 * proven once it has stood for the grace period, by BOOTTIME and in this life of the daemon: a restart begins again.
 *
 * Invariant: what is mended was found at two looks at least, the last of them just now, and is still the same
 * attachment, or the same addresses of the same generation, when it is mended.
 */
import { isDeepStrictEqual } from 'node:util'
import { findingId } from '../../ipam/audit/finding.ts'
import type { NodeIpam } from '../../ipam/node-ipam.ts'
import type { Clock } from '../../lib/clock.ts'
import { messageOf } from '../../lib/errors.ts'
import type { Log } from '../../lib/log.ts'
import { Periodic } from '../../lib/periodic.ts'
import type { AuditReport, ReportedFinding } from '../api/types.ts'
import type { Attachments } from '../attach/attachments.ts'
import type { Leases } from '../attach/leases.ts'
import type { Collected } from './collect.ts'
import { compareNode, type NodeFinding, type Remedy } from './compare.ts'

export interface AuditorOptions {
  readonly node: string
  readonly everyMs: number
  readonly graceMs: number
}

export interface AuditorModules {
  readonly collect: () => Promise<Collected>
  readonly attachments: Pick<Attachments, 'del'>
  readonly leases: Pick<Leases, 'del'>
  readonly ipam: Pick<NodeIpam, 'holders' | 'release'>
  readonly clock: Clock
  readonly log: Log
  readonly metrics: { mended(kind: string): void }
}

interface Seen {
  readonly realtimeMs: number
  /** BOOTTIME since which each look has found it proven; null: the last one did not. */
  provenMs: number | null
}

export class Auditor {
  readonly #options: AuditorOptions
  readonly #modules: AuditorModules
  readonly #firstSeen = new Map<string, Seen>()
  #last: { report: AuditReport; boottimeMs: number } | null = null
  #running: Promise<unknown> = Promise.resolve()
  readonly #auditing: Periodic

  constructor(options: AuditorOptions, modules: AuditorModules) {
    this.#options = options
    this.#modules = modules
    const { clock, log } = modules
    this.#auditing = new Periodic(options, {
      clock,
      work: async () => void (await this.#repair(({ remedy }) => !isAsked(remedy), false)),
      failed: error => log.warn({ error: messageOf(error) }, 'the audit failed'),
    })
  }

  start(): void {
    this.#auditing.start()
  }

  /** After those that are asked for, too. */
  async stop(): Promise<void> {
    await this.#auditing.stop()
    await this.#running
  }

  /** Of the last audit that came to its end; null: none yet. */
  last(): { readonly report: AuditReport; readonly ageMs: number } | null {
    if (this.#last === null) return null
    return { report: this.#last.report, ageMs: this.#modules.clock.boottimeMs() - this.#last.boottimeMs }
  }

  /** @throws kernel.failed */
  check(): Promise<AuditReport> {
    return this.#alone(async () => {
      const { report } = await this.#audit()
      return report
    })
  }

  /** For a person: also mends what is proven, or as good as that, and has stood long enough. @throws kernel.failed */
  repair(dryRun: boolean): Promise<AuditReport> {
    return this.#repair(() => true, dryRun)
  }

  #repair(which: (finding: NodeFinding) => boolean, dryRun: boolean): Promise<AuditReport> {
    return this.#alone(async () => {
      const { report, findings } = await this.#audit()
      const mended: AuditReport['mended'][number][] = []
      for (const finding of findings.filter(each => which(each) && this.#due(each) === 'yes')) {
        const failure = dryRun ? null : await this.#mend(finding)
        mended.push({ kind: finding.kind, object: finding.object, failure })
      }
      return { ...report, mended }
    })
  }

  #alone<T>(work: () => Promise<T>): Promise<T> {
    const result = this.#running.then(work)
    this.#running = result.catch(() => undefined)
    return result
  }

  async #audit(): Promise<{ report: AuditReport; findings: NodeFinding[] }> {
    const { clock } = this.#modules
    const { facts, runtime } = await this.#modules.collect()
    const findings = compareNode(facts)
    this.#remember(findings)
    const report: AuditReport = {
      node: this.#options.node,
      at: new Date(clock.realtimeMs()).toISOString(),
      compared: {
        attachments: facts.attachments.length + facts.leases.length,
        addresses: facts.holders.reduce((sum, { addresses }) => sum + addresses.length, 0),
      },
      runtime,
      findings: findings.map(finding => this.#reported(finding)),
      mended: [],
    }
    this.#last = { report, boottimeMs: clock.boottimeMs() }
    return { report, findings }
  }

  #remember(findings: readonly NodeFinding[]): void {
    const { clock, log } = this.#modules
    const found = new Set(findings.map(identityOf))
    for (const id of this.#firstSeen.keys()) if (!found.has(id)) this.#firstSeen.delete(id)
    for (const finding of findings) {
      const { kind, object, message, remedy } = finding
      const known = this.#firstSeen.get(identityOf(finding))
      if (known === undefined) log.warn({ kind, object }, `the audit found: ${message}`)
      this.#firstSeen.set(identityOf(finding), {
        realtimeMs: known?.realtimeMs ?? clock.realtimeMs(),
        provenMs: remedy === null ? null : (known?.provenMs ?? clock.boottimeMs()),
      })
    }
  }

  #reported(finding: NodeFinding): ReportedFinding {
    const { kind, object, message, mend } = finding
    const seen = this.#firstSeen.get(identityOf(finding)) as Seen
    return {
      kind,
      object,
      message,
      mend,
      since: new Date(seen.realtimeMs).toISOString(),
      repair: this.#due(finding),
    }
  }

  #due(finding: NodeFinding): ReportedFinding['repair'] {
    const provenMs = this.#firstSeen.get(identityOf(finding))?.provenMs ?? null
    if (provenMs === null) return 'no'
    return this.#modules.clock.boottimeMs() - provenMs >= this.#options.graceMs ? 'yes' : 'later'
  }

  /** Why it could not be done; null: it is. */
  async #mend({ kind, object, remedy }: NodeFinding): Promise<string | null> {
    const { log, metrics } = this.#modules
    try {
      const failure = await this.#perform(remedy as Remedy)
      if (failure !== null) return failure
      metrics.mended(kind)
      log.warn({ kind, object, remedy: remedy?.do }, 'the audit mended a disagreement')
      return null
    } catch (error) {
      log.error({ kind, object, error: messageOf(error) }, 'a disagreement could not be mended')
      return messageOf(error)
    }
  }

  async #perform(remedy: Remedy): Promise<string | null> {
    const { attachments, leases, ipam } = this.#modules
    if (remedy.do === 'detach') {
      // Whatever was begun after it is another attachment.
      await attachments.del(remedy.attachment, remedy.attachment.begunBoottimeMs + 1)
      return null
    }
    if (remedy.do === 'end') {
      await leases.del(remedy.lease, remedy.lease.begunBoottimeMs + 1)
      return null
    }
    const now = ipam.holders().find(({ holder }) => holder.id === remedy.holderId)
    if (!isDeepStrictEqual(now?.addresses, remedy.addresses)) return 'it holds something else by now'
    ipam.release(remedy.holderId)
    return null
  }
}

const isAsked = (remedy: Remedy | null): boolean => remedy?.do === 'end' && remedy.asked

/** A new attachment of the same container, or another generation, is another disagreement. */
const identityOf = (finding: NodeFinding): string => `${findingId(finding)} ${finding.generation}`
