/**
 * CNI GC: what this node has on a network and the runtime no longer lists is taken down, each as by DEL. The list
 * speaks of one network, of one node and of the instant at which it was made: whatever is of another network, of
 * another node, under way, or begun after that instant is not touched (CNI-161, CNI-163, CNI-167).
 *
 * Trap: no list is not an empty list. Without one nothing may be reclaimed (CNI-164).
 */
import type { GcRequest } from '../../cni-bin/request.ts'
import type { Log } from '../../lib/log.ts'
import type { Attachment } from '../journal/records.ts'
import type { Attachments } from './attachments.ts'
import type { Leases } from './leases.ts'
import type { Registry } from './registry.ts'

export interface GcModules {
  readonly attachments: Pick<Attachments, 'del'>
  readonly registry: Pick<Registry, 'all'>
  readonly leases: Pick<Leases, 'all' | 'busy' | 'del'>
  readonly log: Log
}

/** An attachment of ours, or a lease of another plugin's. */
type Held = Pick<Attachment, 'id' | 'network' | 'containerId' | 'ifName'>
type Request = Pick<GcRequest, 'plugin' | 'network' | 'validAttachments'>

export interface NotReclaimed {
  readonly attachment: Held
  readonly error: unknown
}

/**
 * @param atBoottimeMs when the list was handed over
 * @returns what could not be taken down; it is tried again by itself
 */
export async function collectGarbage(
  request: Request,
  atBoottimeMs: number,
  { attachments, registry, leases, log }: GcModules,
): Promise<NotReclaimed[]> {
  const isIpam = request.plugin === 'twill-ipam'
  const holders = isIpam ? leases : attachments
  const stale = staleAttachments(request, isIpam ? settledLeases(leases) : settledAttachments(registry))
  const outcomes = await Promise.allSettled(stale.map(each => holders.del(each, atBoottimeMs)))
  const failed = stale.flatMap((attachment, i) => {
    const outcome = outcomes[i] as PromiseSettledResult<void>
    return outcome.status === 'rejected' ? [{ attachment, error: outcome.reason as unknown }] : []
  })
  if (stale.length > 0)
    log.info(
      { network: request.network, stale: stale.map(({ id }) => id), failed: failed.length },
      'attachments that the runtime no longer has were taken down',
    )
  return failed
}

/** By state, not by whether something is under way: that may be an attempt to build the pod again whose DEL was lost. */
function settledAttachments(registry: GcModules['registry']): readonly Held[] {
  return registry.all().filter(({ state }) => state !== 'attaching')
}

function settledLeases(leases: GcModules['leases']): readonly Held[] {
  const busy = leases.busy()
  return leases.all().filter(({ id }) => !busy.has(id))
}

/** Pure. */
export function staleAttachments<T extends Held>(
  { network, validAttachments }: Pick<GcRequest, 'network' | 'validAttachments'>,
  known: readonly T[],
): T[] {
  if (validAttachments === null) return []
  // Neither a container id nor an interface name has a slash.
  const valid = new Set(validAttachments.map(({ containerId, ifName }) => `${containerId}/${ifName}`))
  return known.filter(each => each.network === network && !valid.has(`${each.containerId}/${each.ifName}`))
}
