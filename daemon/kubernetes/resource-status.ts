/**
 * What daemons make of the custom resources, written into their status: whether a pool is in use and why not, what holds
 * where its document is silent, and who is in the way of one that is being deleted. Kubernetes' deletion of a pool is
 * brought to its end here: closed, drained, removed.
 *
 * Every daemon sees the same, so a few of them act at a time, chosen by chance; what changes nothing is not written.
 */
import { isDeepStrictEqual } from 'node:util'
import type { KubernetesClient } from '../../datastore/kubernetes/client.ts'
import { CUSTOM_KINDS } from '../../datastore/kubernetes/definitions/definitions.ts'
import { readWhole } from '../../datastore/kubernetes/page.ts'
import {
  documentOf,
  pathOf,
  type ResourceObject,
  withoutFinalizer,
} from '../../datastore/kubernetes/resources.ts'
import type { AddressSpaceRecord } from '../../datastore/records/address-space.ts'
import type { NodeRecord } from '../../datastore/records/node.ts'
import { ignoredAnnotations } from '../../datastore/resources/annotations.ts'
import { inForce, type Resource, type ResourceKind } from '../../datastore/resources/kinds.ts'
import { POOL_FINALIZER } from '../../datastore/resources/server-fields.ts'
import type { Store } from '../../datastore/store.ts'
import { readSpace } from '../../ipam/address-space.ts'
import type { Vital } from '../../ipam/covered.ts'
import { acceptanceOf } from '../../ipam/pool-acceptance.ts'
import { deletePool, type PoolUser } from '../../ipam/pool-removal.ts'
import { leftText } from '../../ipam/pool-users.ts'
import { parsePool, poolKey } from '../../ipam/pools.ts'
import { PREFIX_RESERVATIONS, parseReservation } from '../../ipam/reservations.ts'
import type { Clock, Random } from '../../lib/clock.ts'
import { isTwillError, messageOf } from '../../lib/errors.ts'
import type { Log } from '../../lib/log.ts'
import { Periodic } from '../../lib/periodic.ts'
import { type Condition, mergedConditions, type Wanted } from './conditions.ts'

export interface ResourceStatusOptions {
  /** Each look comes up to half of this later. */
  readonly everyMs: number
}

export interface ResourceStatusModules {
  readonly client: Pick<KubernetesClient, 'request'>
  readonly store: Store
  readonly clock: Clock
  readonly random: Random
  readonly log: Log
  readonly nodes: () => readonly Pick<NodeRecord, 'uid' | 'name'>[]
  /** What nodes live by, as far as this one knows. */
  readonly vitals: () => readonly Vital[]
}

/** How many daemons look, of all, in the time of one look. */
const ACTORS = 2
const OWN = ['Accepted', 'Draining', 'AnnotationsIgnored']
/** The definitions may be applied anew meanwhile. */
const AGAIN_MS = 600_000

interface StatusObject extends ResourceObject {
  readonly metadata: ResourceObject['metadata'] & { readonly generation?: number }
  readonly status?: { readonly conditions?: readonly Condition[]; readonly inForce?: InForce }
}

type InForce = Readonly<Record<string, unknown>>

interface Finding {
  readonly conditions: readonly Wanted[]
  /** null: nobody knows what the document means. Absent: as it stands. */
  readonly inForce?: InForce | null
}

export class ResourceStatus {
  readonly #modules: ResourceStatusModules
  readonly #sweeping: Periodic
  /** By uid: why it was not written, said once. */
  readonly #complaints = new Map<string, string>()
  /** By uid: what the server takes and does not keep, its definitions being older; and BOOTTIME of that. */
  readonly #dropped = new Map<string, { readonly inForce: InForce | null; readonly sinceMs: number }>()

  constructor(options: ResourceStatusOptions, modules: ResourceStatusModules) {
    this.#modules = modules
    const { clock, random, log } = modules
    this.#sweeping = new Periodic(options, {
      ...{ clock, random },
      work: signal => this.#sweep(signal),
      failed: error => log.debug({ err: messageOf(error) }, 'status of resources not written'),
    })
  }

  start(): void {
    this.#sweeping.start()
  }

  stop(): Promise<void> {
    return this.#sweeping.stop()
  }

  async #sweep(signal: AbortSignal): Promise<void> {
    const { random, nodes, store, client } = this.#modules
    if (random.fraction() >= ACTORS / nodes().length) return
    const space = await readSpace(store)
    const seen = new Set<string>()
    for (const kind of CUSTOM_KINDS)
      for (const object of (await readWhole(client, pathOf(kind), { signal })) as StatusObject[]) {
        seen.add(object.metadata.uid)
        signal.throwIfAborted()
        await this.#spare(object, () => this.#attend(kind, object, space, signal))
      }
    for (const known of [this.#complaints, this.#dropped])
      for (const uid of known.keys()) if (!seen.has(uid)) known.delete(uid)
  }

  /** What is wrong with one keeps nothing from the others. */
  async #spare(object: StatusObject, attend: () => Promise<void>): Promise<void> {
    try {
      await attend()
      this.#complaints.delete(object.metadata.uid)
    } catch (error) {
      // Somebody wrote it meanwhile, or took it away: the next look sees that.
      if (isTwillError(error, 'kubernetes.conflict') || isTwillError(error, 'kubernetes.not-found')) return
      if (isTwillError(error, 'cancelled')) throw error
      const { name, uid } = object.metadata
      const err = messageOf(error)
      if (this.#complaints.get(uid) !== err) this.#modules.log.warn({ name, err }, 'status not written')
      this.#complaints.set(uid, err)
    }
  }

  async #attend(
    kind: ResourceKind,
    object: StatusObject,
    space: AddressSpaceRecord,
    signal: AbortSignal,
  ): Promise<void> {
    const found =
      kind.kind === 'IPPool' ? await this.#ofPool(kind, object, space, signal) : ofReservation(kind, object)
    if (found === null) return
    const { name, uid, generation = 0, resourceVersion } = object.metadata
    const now = new Date(this.#modules.clock.realtimeMs()).toISOString()
    const { conditions: present = [], inForce: told = null } = object.status ?? {}
    const conditions = mergedConditions(present, found.conditions, { own: OWN, generation, now })
    const { inForce } = found
    const isTold = inForce === undefined || isDeepStrictEqual(inForce, told) || this.#isDropped(uid, inForce)
    if (conditions === null && isTold) return
    const status = {
      ...(conditions === null ? {} : { conditions }),
      ...(isTold ? {} : { inForce }),
    }
    const written = await this.#modules.client.request<StatusObject>(
      'PATCH',
      `${pathOf(kind)}/${name}/status`,
      {
        body: { metadata: { resourceVersion }, status },
        contentType: 'application/merge-patch+json',
        signal,
      },
    )
    if (isTold || isDeepStrictEqual(inForce, written.status?.inForce ?? null)) return
    this.#dropped.set(uid, { inForce, sinceMs: this.#modules.clock.boottimeMs() })
  }

  #isDropped(uid: string, inForce: InForce | null): boolean {
    const dropped = this.#dropped.get(uid)
    if (dropped === undefined || this.#modules.clock.boottimeMs() - dropped.sinceMs > AGAIN_MS) return false
    return isDeepStrictEqual(dropped.inForce, inForce)
  }

  /** null: it is gone. */
  async #ofPool(
    kind: ResourceKind,
    object: StatusObject,
    space: AddressSpaceRecord,
    signal: AbortSignal,
  ): Promise<Finding | null> {
    const { name, deletionTimestamp, finalizers = [] } = object.metadata
    if (deletionTimestamp !== undefined && finalizers.includes(POOL_FINALIZER))
      return this.#drain(kind, object, signal)
    try {
      const pool = parsePool(JSON.stringify(documentOf(kind, object)), poolKey(name))
      const accepted: Wanted = { type: 'Accepted', ...acceptanceOf(pool, space, this.#modules.vitals) }
      return { conditions: [accepted, ...annotationsIgnored(pool)], inForce: inForce(pool) }
    } catch (error) {
      return invalid(error)
    }
  }

  /** The very one that was listed: by now another may have its name. */
  async #drain(kind: ResourceKind, object: StatusObject, signal: AbortSignal): Promise<Finding | null> {
    const { store, clock, nodes } = this.#modules
    const { name } = object.metadata
    const { uid } = documentOf(kind, object).metadata
    if (uid === undefined) return this.#letGo(kind, object, signal)
    const deletion = await deletePool(name, { drain: true, waitMs: 0, uid }, { store, clock })
    if (deletion.removed) return null
    const closing = 'Kubernetes was told to delete it: it hands out nothing more, and goes when it is empty'
    const names = new Map(nodes().map(node => [node.uid, node.name]))
    const closed: Wanted = { type: 'Accepted', status: 'False', reason: 'Closing', message: closing }
    return { conditions: [closed, draining(deletion.users, names)] }
  }

  /** It was never entered, and is not any more: a copy that came with the finalizer of its original. */
  async #letGo(kind: ResourceKind, object: StatusObject, signal: AbortSignal): Promise<null> {
    const path = `${pathOf(kind)}/${object.metadata.name}`
    await this.#modules.client.request('PUT', path, { body: withoutFinalizer(object), signal })
    return null
  }
}

const draining = (users: readonly PoolUser[], names: ReadonlyMap<string, string>): Wanted => ({
  type: 'Draining',
  status: 'True',
  reason: 'InUse',
  message: users.length === 0 ? 'its last parts are coming back' : leftText(users, names),
})

function ofReservation(kind: ResourceKind, object: StatusObject): Finding {
  try {
    const text = JSON.stringify(documentOf(kind, object))
    const reservation = parseReservation(text, PREFIX_RESERVATIONS + object.metadata.name)
    const { addresses } = reservation
    const message = `kept back: ${addresses.length === 1 ? 'one entry' : `${addresses.length} entries`}`
    const accepted: Wanted = { type: 'Accepted', status: 'True', reason: 'InForce', message }
    return { conditions: [accepted, ...annotationsIgnored(JSON.parse(text))] }
  } catch (error) {
    return invalid(error)
  }
}

/** Of our domain, which nobody reads: misspelt, or a newer version's, so that nothing is refused for it. */
function annotationsIgnored(resource: Resource): Wanted[] {
  const ignored = ignoredAnnotations(resource)
  if (ignored.length === 0) return []
  const message = ignored.join('; ')
  return [{ type: 'AnnotationsIgnored', status: 'True', reason: 'UnknownAnnotations', message }]
}

const invalid = (error: unknown): Finding => ({
  conditions: [{ type: 'Accepted', status: 'False', reason: 'Invalid', message: messageOf(error) }],
  inForce: null,
})
