/**
 * Addresses lent to interfaces that other plugins make (twill-ipam). Nothing of such an attachment in the kernel is
 * ours, so a lease is one record in the journal and has no halves; it ends by DEL or GC, never by time:
 *
 *   ADD   address in memory → journal → answer          DEL   journal → address cools down → answer
 *
 * Trap: some plugins ask for addresses first, then find that the interface is there already, and call DEL. An ADD of an
 * attachment that stands must be refused, or that DEL frees the address of a living container.
 */
import { leaseId } from '../../cni-bin/attachment-id.ts'
import type { HeldAddress, Holder, Ipam } from '../../ipam/ipam.ts'
import { isLost, type LostPart } from '../../ipam/lost-part.ts'
import type { Kernel, NetnsRef } from '../../kernel/kernel.ts'
import { type Family, formatIp, type Ip, parseIp } from '../../lib/address.ts'
import type { Clock, Timer } from '../../lib/clock.ts'
import { isTwillError, messageOf, TwillError } from '../../lib/errors.ts'
import { faultPoint } from '../../lib/fault.ts'
import type { Log } from '../../lib/log.ts'
import type { PoolNames } from '../../lib/pool-annotations.ts'
import { KeyedQueue } from '../../lib/queue.ts'
import type { Lease } from '../journal/records.ts'
import { type AttachmentKey, refuseWhenGone } from './attachments.ts'
import type { AttachmentJournal } from './registry.ts'
import type { Gone } from './server.ts'

export interface LeaseRequest extends AttachmentKey {
  readonly netns: NetnsRef
  readonly pod: Lease['pod']
  readonly families: readonly Family[]
  readonly pools: readonly string[]
  /** Of the pod's annotations. */
  readonly podPools: PoolNames
  /** Asked for by name. */
  readonly addresses: readonly Ip[]
}

export interface LeasesModules {
  readonly kernel: Pick<Kernel, 'netnsCookie' | 'inspectPod'>
  readonly ipam: Pick<Ipam, 'allocate' | 'recorded' | 'release'>
  readonly journal: AttachmentJournal
  readonly clock: Clock
  readonly log: Log
}

export interface Leased {
  readonly lease: Lease
  /** False: an earlier ADD had begun it. */
  readonly isNew: boolean
}

/** An end that could not be journaled is tried again after this. */
const END_RETRY_MS = 5_000
/** So long after its begin the ADD of the plugin that asked may still be under way: GC leaves it alone (CNI-167). */
const YOUNG_MS = 10_000

export class Leases {
  readonly #boot: string
  readonly #modules: LeasesModules
  readonly #leases: Map<string, Lease>
  readonly #queue = new KeyedQueue()
  /** Ended because their part was lost: their interfaces may stand, with addresses that others get. */
  readonly #lost = new Map<string, Lease>()
  /** Over, and the journal does not know it yet: their addresses are still held. */
  readonly #ending = new Map<string, Timer | null>()

  constructor(options: { boot: string; leases: ReadonlyMap<string, Lease> }, modules: LeasesModules) {
    this.#boot = options.boot
    this.#leases = new Map(options.leases)
    this.#modules = modules
  }

  all(): Lease[] {
    return [...this.#leases.values()].filter(({ id }) => !this.#ending.has(id))
  }

  /** undefined also for one that is over. */
  get(key: AttachmentKey): Lease | undefined {
    return this.#standing(idOf(key))
  }

  #standing(id: string): Lease | undefined {
    return this.#ending.has(id) ? undefined : this.#leases.get(id)
  }

  /** Ids of those that GC must not touch. */
  busy(): ReadonlySet<string> {
    const since = this.#modules.clock.boottimeMs() - YOUNG_MS
    const young = this.all().filter(lease => lease.boot === this.#boot && lease.begunBoottimeMs > since)
    return new Set([...this.#queue.busy(), ...young.map(({ id }) => id)])
  }

  /**
   * The same again for an attachment whose interface does not have the address yet (CNI-245).
   * @param gone aborted when the client went away: a new lease is ended again
   * @throws kernel.interface-exists: the attachment stands, here or in another namespace that lives; kernel.netns-gone,
   *   kernel.netns-mismatch; what Ipam.allocate throws; journal.write-failed: nothing is kept
   */
  add(request: LeaseRequest, gone: Gone): Promise<Leased> {
    const id = idOf(request)
    return this.#queue.run(id, () => this.#add(id, request, gone))
  }

  async #add(id: string, request: LeaseRequest, gone: Gone): Promise<Leased> {
    faultPoint('lease.received')
    const cookie = await this.#modules.kernel.netnsCookie(request.netns)
    const known = this.#standing(id)
    const again = known === undefined ? null : await this.#again(known, request, cookie)
    if (again !== null) return { lease: again, isNew: false }
    if (this.#leases.has(id)) await this.#endNow(id)
    refuseWhenGone(gone)
    const lease = await this.#begin(id, request, cookie)
    try {
      refuseWhenGone(gone)
    } catch (error) {
      await this.#end(id)
      throw error
    }
    return { lease, isNew: true }
  }

  /** null: it was for a namespace that is gone. */
  async #again(known: Lease, request: LeaseRequest, cookie: string): Promise<Lease | null> {
    if (known.netnsCookie !== null && known.netnsCookie !== cookie) {
      if (await this.#lives(known)) throw stands(request, `in ${known.netns.path}, which lives`)
      return null
    }
    if (await this.#isConfigured(known, request)) throw stands(request, 'and has its address')
    if (known.netnsCookie === cookie) return this.#keep({ ...known })
    return this.#write({ ...known, netns: request.netns, netnsCookie: cookie })
  }

  /** By the cookie: the path may have come to mean another namespace. */
  async #lives({ netns, netnsCookie }: Lease): Promise<boolean> {
    try {
      return (await this.#modules.kernel.netnsCookie({ ...netns, dev: null, ino: null })) === netnsCookie
    } catch (error) {
      if (isTwillError(error, 'kernel.netns-gone') || isTwillError(error, 'kernel.netns-mismatch'))
        return false
      throw error
    }
  }

  async #isConfigured(lease: Lease, { netns, ifName }: LeaseRequest): Promise<boolean> {
    const { pod } = await this.#modules.kernel.inspectPod(netns, ifName)
    const there = new Set(pod?.addresses.map(({ address }) => formatIp(parseIp(address))))
    return lease.addresses.some(({ address }) => there.has(address))
  }

  async #begin(id: string, request: LeaseRequest, netnsCookie: string): Promise<Lease> {
    const { ipam, clock } = this.#modules
    const { network, containerId, ifName, pod, netns, families, pools, podPools, addresses: named } = request
    const since = clock.realtimeMs()
    const holder: Holder = { id, kind: 'ipam', network, containerId, ifName, pod, since }
    const addresses = await ipam.allocate({ holder, families, pools, podPools, addresses: named })
    faultPoint('lease.address-taken')
    const begun = { boot: this.#boot, begunBoottimeMs: clock.boottimeMs(), since }
    const attachment = { id, network, containerId, ifName, pod, netns, netnsCookie }
    try {
      const lease = await this.#write({ ...attachment, addresses, ...begun })
      faultPoint('lease.written')
      ipam.recorded(id)
      return lease
    } catch (error) {
      ipam.release(id)
      throw error
    }
  }

  async #write(lease: Lease): Promise<Lease> {
    await this.#modules.journal.append({ t: 'lease', lease })
    return this.#keep(lease)
  }

  /** A fresh object for each ADD that is answered by it: `takeBack` knows by it whether another was. */
  #keep(lease: Lease): Lease {
    this.#leases.set(lease.id, lease)
    this.#lost.delete(lease.id)
    return lease
  }

  /** Idempotent; an unknown attachment is a success (CNI-242). Asks neither namespace nor configuration. */
  del(key: AttachmentKey, begunBeforeBoottimeMs = Number.POSITIVE_INFINITY): Promise<void> {
    const id = idOf(key)
    return this.#queue.run(id, async () => {
      const isEarlier = (lease: Lease | undefined) =>
        lease !== undefined && lease.begunBoottimeMs < begunBeforeBoottimeMs
      if (isEarlier(this.#lost.get(id))) this.#lost.delete(id)
      if (isEarlier(this.#standing(id))) await this.#end(id)
    })
  }

  /** Nobody took the answer to the ADD that made it. One that was answered with it later, or made another, has it. */
  takeBack(made: Lease): Promise<void> {
    return this.#queue.run(made.id, async () => {
      if (this.#leases.get(made.id) === made && !this.#ending.has(made.id)) await this.#end(made.id)
    })
  }

  /** Over for everybody else, also on a full disk; the address cools from when the journal says so too. */
  async #end(id: string): Promise<void> {
    try {
      await this.#endNow(id)
    } catch (error) {
      const { log, clock } = this.#modules
      log.error(
        { id, error: messageOf(error) },
        'the end of a lease could not be journaled; it is tried again',
      )
      this.#ending.get(id)?.cancel()
      const again = () => this.#queue.run(id, async () => (this.#ending.has(id) ? this.#end(id) : undefined))
      this.#ending.set(
        id,
        clock.setTimer(END_RETRY_MS, () => void again()),
      )
    }
  }

  /** @throws journal.write-failed: it still stands */
  async #endNow(id: string): Promise<void> {
    await this.#modules.journal.append({ t: 'lease-ended', id })
    faultPoint('lease.ended-written')
    this.#ending.get(id)?.cancel()
    this.#ending.delete(id)
    this.#leases.delete(id)
    this.#modules.ipam.release(id)
  }

  /**
   * Its addresses are no longer this node's (ADDRESSES.md rule 15). The interface is another plugin's and stays.
   * @param lost null: all that this node had. What bears the id in its turn, and holds nothing of it, is another.
   * @returns false if the holder has no lease and none is on its way into the journal
   */
  lose(id: string, lost: LostPart | null): boolean {
    if (!this.#leases.has(id) && !this.#queue.has(id)) return false
    void this.#queue.run(id, async () => {
      const known = this.#leases.get(id)
      if (known === undefined || this.#ending.has(id)) return
      if (lost !== null && !known.addresses.some(address => isLost(address, lost))) return
      const { network, containerId, ifName, addresses } = known
      this.#modules.log.error(
        { network, containerId, ifName, addresses: addresses.map(({ address }) => address) },
        'addresses of an interface of another plugin are no longer of this node: delete that container',
      )
      this.#lost.set(id, known)
      await this.#end(id)
    })
    return true
  }

  /** Interfaces that have addresses which are no longer this node's: until their DEL, a new ADD, or a restart. */
  problems(): { type: string; message: string }[] {
    return [...this.#lost.values()].map(({ ifName, containerId, pod, network, addresses }) => {
      const who = pod === null ? `container ${containerId}` : `pod ${pod.namespace}/${pod.name}`
      const texts = addresses.map(({ address }) => address).join(', ')
      const message = `${ifName} of ${who} on network ${network} has ${texts}, which is no longer of this node: delete that container`
      return { type: 'LeaseLost', message }
    })
  }

  /** Those of an earlier boot are dead: their namespaces went with it (rule 17). */
  async recover(): Promise<{ kept: number; dead: number }> {
    const dead = this.all().filter(({ boot }) => boot !== this.#boot)
    for (const { id } of dead) await this.#end(id)
    return { kept: this.all().length, dead: dead.length }
  }

  /**
   * The journal has lost it, the ledger has it for this boot. Where it is nobody knows any more; an ADD tells, or a
   * DEL or GC ends it. @throws journal.write-failed
   */
  async adopt(
    { id, network, containerId, ifName, pod, since }: Holder,
    addresses: readonly HeldAddress[],
  ): Promise<void> {
    if (this.#leases.has(id)) return
    const nowhere = { netns: { path: '', dev: null, ino: null }, netnsCookie: null }
    const attachment = { id, network, containerId, ifName, pod, ...nowhere, addresses: [...addresses] }
    // Any spooled DEL is younger than a lease that stood before this start.
    await this.#write({ ...attachment, boot: this.#boot, begunBoottimeMs: 0, since })
  }

  /** Resolves when no operation is under way. An end that could not be written is left to the next start. */
  async settled(): Promise<void> {
    for (const timer of this.#ending.values()) timer?.cancel()
    await this.#queue.idle()
  }
}

const idOf = ({ network, containerId, ifName }: AttachmentKey): string =>
  leaseId(network, containerId, ifName)

function stands({ network, containerId, ifName }: LeaseRequest, where: string): TwillError {
  return new TwillError(
    'kernel.interface-exists',
    `interface ${ifName} of container ${containerId} is attached to ${network} already, ${where}`,
    { network, containerId, interface: ifName },
  )
}
