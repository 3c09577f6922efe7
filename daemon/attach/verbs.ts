/** The CNI verbs as the daemon serves them: from validated requests to attachments, and from attachments to results. */

import { attachmentId } from '../../cni-bin/attachment-id.ts'
import { CNI_CODE, CniError } from '../../cni-bin/cni-error.ts'
import type { Verbs } from '../../cni-bin/dispatch.ts'
import type { AddRequest, CheckRequest, DelRequest, GcRequest, PodIdentity } from '../../cni-bin/request.ts'
import type { CniResult } from '../../cni-bin/result.ts'
import type { Kernel } from '../../kernel/kernel.ts'
import { ROUTE_PROTOCOL } from '../../kernel/ownership.ts'
import type { Clock } from '../../lib/clock.ts'
import type { Log } from '../../lib/log.ts'
import type { Attachments } from './attachments.ts'
import { checkAttachment } from './check.ts'
import { OWN_CODE, toCniError } from './cni-errors.ts'
import { collectGarbage } from './gc.ts'
import { addLease, checkLease, type LeaseVerbsModules, leaseStatus } from './lease-verbs.ts'
import type { Registry } from './registry.ts'
import { addResult } from './result.ts'
import type { Servable } from './servable.ts'
import type { Gone } from './server.ts'
import { uniqueIps } from './wished.ts'

export interface VerbsModules extends LeaseVerbsModules {
  readonly attachments: Attachments
  readonly registry: Registry
  readonly kernel: Pick<
    Kernel,
    'inspectPod' | 'netnsCookie' | 'readLinks' | 'readRoutes' | 'readNeighbours' | 'rulesetIntact'
  >
  readonly clock: Clock
  readonly log: Log
  /**
   * Waits for what the API server says of a pod; absent: no Kubernetes.
   * @throws kubernetes.pod-unknown (retryable)
   */
  readonly awaitPod?: (pod: PodIdentity) => Promise<unknown>
  /** Could ADD be served, without waiting for anything? */
  readonly servable: () => Servable
}

/** CHECK right after ADD may meet a repair under way (CNI-154). */
const CHECK_ATTEMPTS = 3
const CHECK_PAUSE_MS = 150

/** Undoes one ADD whose answer nobody took, and nothing that came after it. */
export type TakeBack = () => Promise<void>

export interface DaemonVerbs extends Omit<Verbs, 'add'> {
  /** @param made called when something new stands; not when the answer is what an earlier ADD was given */
  add(request: AddRequest, gone: Gone, made: (takeBack: TakeBack) => void): Promise<CniResult>
}

const isIpam = ({ plugin }: Pick<AddRequest, 'plugin'>): boolean => plugin === 'twill-ipam'

export function createVerbs(modules: VerbsModules): DaemonVerbs {
  return {
    add: (request, gone, made) => (isIpam(request) ? addLease : add)(modules, request, gone, made),
    check: request => (isIpam(request) ? checkLease : check)(modules, request),
    del: request => (isIpam(request) ? modules.leases : modules.attachments).del(keyOf(request)),
    gc: request => gc(modules, request),
    status: async request => {
      if (isIpam(request)) return leaseStatus(modules, request)
      const servable = modules.servable()
      if (!servable.ok) throw new CniError(servable.code, 'twill cannot serve ADD', servable.reason)
    },
    toCniError,
  }
}

const keyOf = (request: AddRequest | CheckRequest | DelRequest) => ({
  network: request.network,
  containerId: request.containerId,
  ifName: request.ifName,
})

async function add(
  modules: VerbsModules,
  request: AddRequest,
  gone: Gone,
  made: (takeBack: TakeBack) => void,
): Promise<CniResult> {
  const { attachments } = modules
  if (request.pod !== null) await modules.awaitPod?.(request.pod)
  const attachment = await attachments.add(
    {
      ...keyOf(request),
      netns: request.netns,
      pod: request.pod,
      mac: request.wishes.mac,
      mtu: request.mtu,
      families: request.twill.families,
      pools: request.twill.pools,
      podPools: request.wishes.pools,
      addresses: uniqueIps(request.wishes.addresses),
    },
    gone,
  )
  made(() => attachments.takeBack(attachment))
  return addResult(attachment, request.prevResult, request.dns)
}

/** There is no delegate to forward it to: any `ipam` but ours is refused at ADD (CNI-162). */
async function gc(modules: VerbsModules, request: GcRequest): Promise<void> {
  const failed = await collectGarbage(request, modules.clock.boottimeMs(), modules)
  if (failed.length === 0) return
  const errors = failed.map(({ error }) => toCniError(error))
  const worst = errors.find(({ code }) => code !== CNI_CODE.tryAgainLater) ?? (errors[0] as CniError)
  const each = failed.map(
    ({ attachment }, i) =>
      `${attachment.ifName} of ${attachment.containerId}: ${(errors[i] as CniError).message}`,
  )
  throw new CniError(
    worst.code,
    `${failed.length} stale attachments could not be taken down`,
    each.join('; '),
  )
}

async function check(modules: VerbsModules, request: CheckRequest): Promise<void> {
  const id = attachmentId(request.network, request.containerId, request.ifName)
  for (let attempt = 1; ; attempt++) {
    const problems = await problemsOf(modules, id, request)
    if (problems.length === 0) return
    if (attempt === CHECK_ATTEMPTS)
      throw new CniError(
        OWN_CODE.checkFailed,
        `the attachment is damaged: ${problems[0]}`,
        problems.join('; '),
      )
    await modules.clock.sleep(CHECK_PAUSE_MS)
  }
}

async function problemsOf(modules: VerbsModules, id: string, request: CheckRequest): Promise<string[]> {
  const { kernel, registry } = modules
  const attachment = registry.get(id)
  if (attachment?.state !== 'attached')
    throw new CniError(
      CNI_CODE.unknownContainer,
      `container ${request.containerId} has no interface ${request.ifName} on network ${request.network}`,
    )
  const [pod, links, routes, neighbours, rulesetIntact] = await Promise.all([
    kernel.inspectPod(request.netns, request.ifName),
    kernel.readLinks(),
    kernel.readRoutes({ protocol: ROUTE_PROTOCOL }),
    kernel.readNeighbours(),
    kernel.rulesetIntact(),
  ])
  return checkAttachment(attachment, request.prevResult, { pod, links, routes, neighbours, rulesetIntact })
}
