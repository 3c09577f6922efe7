/** What twillctl touches of the world, so that the whole command runs in memory in tests. */
import type { AuditReport, Status } from '../daemon/api/types.ts'
import type { SocketStoreOptions } from '../datastore/embedded/socket-store.ts'
import type { EtcdSettings, KubernetesSettings } from '../datastore/settings.ts'
import type { Store } from '../datastore/store.ts'
import type { Clock, Random } from '../lib/clock.ts'

export interface Output {
  write(text: string): unknown
  readonly isTTY?: boolean
  /** Width of a terminal. */
  readonly columns?: number
}

export interface CliModules {
  /** Need not connect yet; calls on the store may reject with store.unavailable. */
  openStore(settings: EtcdSettings): Promise<Store>
  /** Of a Kubernetes cluster, with the records in `records`, or (null) at its API server too. */
  openKubernetes(settings: KubernetesSettings, records: Store | null): Promise<Store>
  /** The embedded store of this node's daemon. */
  openEmbedded(options: SocketStoreOptions): Store
  /** GET /v1/status over the daemon's socket. Rejects when nobody answers there. */
  readStatus(socket: string): Promise<Status>
  /** GET /v1/audit. Rejects when nobody answers there. */
  readAudit(socket: string): Promise<AuditReport>
  /** POST /v1/audit/repair. Rejects when nobody answers there. */
  repairNode(socket: string, dryRun: boolean): Promise<AuditReport>
  /** Text of a file; '-' is standard input. */
  readFile(path: string): Promise<string>
  readonly clock: Clock
  readonly random: Random
  readonly stdout: Output
  readonly stderr: Output
  readonly env: Readonly<Record<string, string | undefined>>
}
