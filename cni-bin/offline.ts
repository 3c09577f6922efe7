/**
 * What the executable does by itself while the daemon does not answer. ADD and CHECK: code 11. DEL: the pod's
 * interface goes now (of twill-ipam none is ours), its addresses are released by the daemon from the spool. GC waits
 * there altogether. STATUS: 0 for a while, since a restart of the daemon must not make kubelet take the node down (CNI-171).
 */
import { attachmentId, leaseId } from './attachment-id.ts'
import { CNI_CODE, CniError, quote } from './cni-error.ts'
import { internalError, type Verbs } from './dispatch.ts'
import type { Answer, Request } from './frame.ts'
import type { AddRequest, CheckRequest, DelRequest, GcRequest } from './request.ts'

export interface OfflineModules {
  /** Removes the links that are this attachment's and no other. */
  readonly removePodLinks: (attachmentId: string) => readonly string[]
  /** Files the request as it came; `name` begins the entry's name. Answers what `unspool` takes. */
  readonly spool: (name: string, request: Request) => string
  readonly unspool: (entry: string) => void
  /** One more try; null when nobody answers. */
  readonly askAgain: () => Answer | null
  /** How long ago the daemon was last alive; null when it never was. */
  readonly daemonLastAliveMs: () => number | null
  readonly warn: (message: string) => void
}

/** Longer than a restart or an upgrade of the daemon takes. */
const STATUS_GRACE_MS = 30_000

export function offlineVerbs(raw: Request, reason: 'away' | 'silent', modules: OfflineModules): Verbs {
  return {
    add: async request => {
      throw unavailable(request, reason)
    },
    check: async request => {
      throw unavailable(request, reason)
    },
    del: async request => detach(raw, request, modules),
    gc: async request => fileGc(raw, request, reason, modules),
    status: async () => reportStatus(modules),
    toCniError: internalError,
  }
}

function unavailable(request: AddRequest | CheckRequest | GcRequest, reason: 'away' | 'silent'): CniError {
  const what = reason === 'away' ? 'is not running' : 'does not answer'
  return new CniError(
    CNI_CODE.tryAgainLater,
    `twilld ${what} on this node`,
    `${request.command} of ${quote(request.command === 'GC' ? request.network : request.ifName)} needs it, try again later`,
  )
}

function detach(raw: Request, request: DelRequest, modules: OfflineModules): void {
  const { plugin, network, containerId, ifName } = request
  // The interface of another plugin is that plugin's.
  if (plugin === 'twill') removeLinks(attachmentId(network, containerId, ifName), modules)
  const id = (plugin === 'twill' ? attachmentId : leaseId)(network, containerId, ifName)
  const entry = spoolOrRefuse(id, raw, modules)
  // Between our first try and the entry the daemon may have drained the spool and opened its socket.
  if (modules.askAgain()?.status === 0) modules.unspool(entry)
}

function removeLinks(id: string, modules: OfflineModules): void {
  try {
    modules.removePodLinks(id)
  } catch (error) {
    // The daemon removes it when it takes the entry (CNI-134).
    modules.warn(`twill: ${internalError(error).message}`)
  }
}

/**
 * Which attachments are stale only the daemon knows. One that is silent may be at an ADD that the list does not have
 * yet (CNI-167): nothing is filed then, the runtime's next GC will find it.
 */
function fileGc(raw: Request, request: GcRequest, reason: 'away' | 'silent', modules: OfflineModules): void {
  if (request.validAttachments === null) return
  if (reason === 'silent') throw unavailable(request, reason)
  const network = (request.plugin === 'twill' ? attachmentId : leaseId)(request.network, '', '')
  const entry = spoolOrRefuse(`gc-${network}`, raw, modules)
  if (modules.askAgain()?.status === 0) modules.unspool(entry)
}

function spoolOrRefuse(name: string, raw: Request, modules: OfflineModules): string {
  try {
    return modules.spool(name, raw)
  } catch (error) {
    throw new CniError(
      CNI_CODE.tryAgainLater,
      'twilld does not answer and the request cannot be filed',
      internalError(error).message,
    )
  }
}

function reportStatus(modules: OfflineModules): void {
  const age = modules.daemonLastAliveMs()
  if (age !== null && age <= STATUS_GRACE_MS) return
  const since =
    age === null
      ? 'it has left no sign of life since this node started'
      : `last alive ${Math.round(age / 1000)} s ago`
  throw new CniError(CNI_CODE.pluginNotAvailable, 'twilld is not running on this node', since)
}
