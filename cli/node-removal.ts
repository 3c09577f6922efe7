/**
 * Removal of a node by an operator (ipam/node-removal.ts). Its parts become free once the other daemons have seen the
 * fence for the owner's allowance; pods that still run there keep running until the node learns of it. A node that
 * comes back lifts the fence and registers anew.
 *
 * Refused while the heartbeat counter moves, judged by our own clock: a missed heartbeat alone removes nobody, and
 * a living one is never removed by mistake. A heartbeat between the last look and the mark makes the
 * compare-and-swap of that same record fail.
 */
import { livenessKey, nodeKey } from '../datastore/keys.ts'
import type { LivenessRecord } from '../datastore/records/liveness.ts'
import type { Store } from '../datastore/store.ts'
import { identitiesOf, type NodeIdentity, removeIdentities } from '../ipam/node-removal.ts'
import type { Clock, Random } from '../lib/clock.ts'
import { TwillError } from '../lib/errors.ts'
import { parseLiveness, parseNode } from './nodes.ts'

export interface RemovalModules {
  readonly store: Store
  readonly clock: Clock
  readonly random: Random
  /** Tells the operator why it takes so long. */
  readonly note: (line: string) => void
}

export interface Removal {
  /** False: neither a registration nor parts were known under this name. */
  readonly known: boolean
  readonly fencedParts: number
  /** After this long, seen by the other daemons, the parts are free. */
  readonly allowanceMs: number
}

/** Heartbeat intervals without a movement after which a node counts as silent. */
const SILENT_INTERVALS = 2.5

/** @param by who removes it, for people. @throws resource.in-use: it lives; document.invalid: its records; store.* */
export async function removeNode(name: string, by: string, modules: RemovalModules): Promise<Removal> {
  const { store, note } = modules
  const { entry } = await store.get(nodeKey(name))
  const registered = entry === null ? [] : [parseNode(entry.value, entry.key).uid]
  const { identities, unreadable } = await identitiesOf(name, registered, store)
  for (const reason of unreadable) note(`not looked at, whosever it is: ${reason}`)
  await watchSilence(name, identities, modules)
  const terms = { by, endsWith: 'return', mayMark: refuseMoved } as const
  const fencedParts = await removeIdentities(name, identities, registered, terms, modules)
  const allowances = identities.map(({ value }) => value.allowanceMs)
  return {
    known: identities.length > 0 || entry !== null,
    fencedParts,
    allowanceMs: Math.max(0, ...allowances),
  }
}

async function watchSilence(
  name: string,
  identities: readonly NodeIdentity[],
  { store, clock, note }: RemovalModules,
): Promise<void> {
  const watched = identities.filter(({ value }) => value.removed === null)
  if (watched.length === 0) return
  const intervalMs = Math.max(...watched.map(({ value }) => value.heartbeatMs))
  const endMs = clock.boottimeMs() + SILENT_INTERVALS * intervalMs
  note(`watching the heartbeat of node ${name} for ${(SILENT_INTERVALS * intervalMs) / 1000} s`)
  while (clock.boottimeMs() < endMs) {
    await clock.sleep(Math.min(1_000, intervalMs / 2))
    for (const { value } of watched) {
      const key = livenessKey(value.uid)
      const { entry } = await store.get(key)
      if (entry !== null) refuseMoved(value, parseLiveness(entry.value, key))
    }
  }
}

/** @throws resource.in-use */
function refuseMoved(before: LivenessRecord, now: LivenessRecord): void {
  if (now.heartbeat === before.heartbeat) return
  throw new TwillError(
    'resource.in-use',
    `Node ${before.name}: alive: its heartbeat went from ${before.heartbeat} to ${now.heartbeat}: expected a node whose daemon is stopped`,
    { kind: 'Node', name: before.name, uid: before.uid },
  )
}
