/**
 * ADD and DEL of pods, and what a restart makes of the halves it finds. Operations on one attachment are serial,
 * on different ones parallel. The order in which things are written is the protocol:
 *
 *   ADD   address in memory → intent in the journal → kernel → done in the journal → answer
 *   DEL   journal → kernel (pod is off the network) → answer; link deleted later → journal → address cools down
 *
 * so that a death at any point leaves either nothing or a record from which the rest is undone.
 */

import { attachmentId } from '../../cni-bin/attachment-id.ts'
import type { HeldAddress, Holder, Ipam } from '../../ipam/ipam.ts'
import { isLost, type LostPart } from '../../ipam/lost-part.ts'
import type { Kernel, NetnsRef, SetElement } from '../../kernel/kernel.ts'
import { type Family, formatIp, type Ip } from '../../lib/address.ts'
import type { Clock, Random, Timer } from '../../lib/clock.ts'
import { messageOf, TwillError } from '../../lib/errors.ts'
import { faultPoint } from '../../lib/fault.ts'
import type { Log } from '../../lib/log.ts'
import type { PoolNames } from '../../lib/pool-annotations.ts'
import { KeyedQueue } from '../../lib/queue.ts'
import type { Attachment } from '../journal/records.ts'
import { detachSpec, endpointSpec } from './endpoint.ts'
import { hostInterfaceName, podMac } from './identity.ts'
import type { NodeView } from './node-view.ts'
import { Reaper } from './reaper.ts'
import type { Registry } from './registry.ts'
import type { Gone } from './server.ts'

export interface AttachRequest {
  readonly network: string
  readonly containerId: string
  readonly ifName: string
  readonly netns: NetnsRef
  readonly pod: Attachment['pod']
  /** Asked for; null: a random one. */
  readonly mac: string | null
  /** Asked for; the paths' MTU is the upper bound. */
  readonly mtu: number | null
  readonly families: readonly Family[]
  /** Of the network configuration. */
  readonly pools: readonly string[]
  /** Of the pod's annotations. */
  readonly podPools: PoolNames
  /** Asked for by name: these, or the ADD fails. */
  readonly addresses: readonly Ip[]
}

export interface AttachmentKey {
  readonly network: string
  readonly containerId: string
  readonly ifName: string
}

export interface AttachmentsModules {
  readonly kernel: Pick<Kernel, 'attachPod' | 'detachPod' | 'reapLinks' | 'changeElements' | 'netnsCookie'>
  readonly ipam: Pick<Ipam, 'allocate' | 'recorded' | 'release'>
  readonly registry: Registry
  readonly clock: Clock
  readonly random: Random
  readonly log: Log
  readonly node: NodeView
  /** Elements of the anti-spoofing sets for one endpoint. */
  readonly elements: (endpoint: {
    hostInterface: string
    podMac: string
    addresses: readonly HeldAddress[]
  }) => SetElement[]
  /** Resolves when pods may be attached: the table stands. Rejects (retryable) when that takes too long. */
  readonly gate: () => Promise<void>
  /** An attachment is over: what was desired for it no longer is. */
  readonly over: () => void
}

/** What the kernel would not let us take down is tried again after this. */
const DETACH_RETRY_MS = 5_000

export class Attachments {
  readonly #boot: string
  readonly #detachRetryMs: number
  readonly #modules: AttachmentsModules
  readonly #queue = new KeyedQueue()
  readonly #reaper: Reaper
  /** Attachments that could not be taken down, until they are tried again. */
  readonly #retries = new Map<string, Timer>()

  constructor(
    options: { boot: string; reapDelayMs: number; detachRetryMs?: number },
    modules: AttachmentsModules,
  ) {
    this.#boot = options.boot
    this.#detachRetryMs = options.detachRetryMs ?? DETACH_RETRY_MS
    this.#modules = modules
    this.#reaper = new Reaper(
      { delayMs: options.reapDelayMs },
      { ...modules, finish: id => this.#finish(id) },
    )
  }

  /** Ids whose operation is under way: the loop touches nothing of theirs. */
  busy(): ReadonlySet<string> {
    return this.#queue.busy()
  }

  /**
   * @param gone aborted when the client went away: what was done is undone
   * @throws kernel.interface-exists when the attachment stands already (CNI-116); it is left as it is
   */
  add(request: AttachRequest, gone: Gone): Promise<Attachment> {
    const id = attachmentId(request.network, request.containerId, request.ifName)
    return this.#queue.run(id, () => this.#add(id, request, gone))
  }

  async #add(id: string, request: AttachRequest, gone: Gone): Promise<Attachment> {
    faultPoint('add.received')
    await this.#modules.gate()
    await this.#makeWay(id, request)
    refuseWhenGone(gone)
    const attachment = await this.#begin(id, request)
    try {
      refuseWhenGone(gone)
      return await this.#build(attachment, gone)
    } catch (error) {
      await this.#undo(attachment)
      throw error
    }
  }

  /** An attachment of the same key that stands is refused, one whose namespace is another's or gone is taken down. */
  async #makeWay(id: string, request: AttachRequest): Promise<void> {
    const known = this.#modules.registry.get(id)
    if (known === undefined) return
    if (known.state === 'attached' && (await this.#sameNamespace(known, request.netns)))
      throw new TwillError(
        'kernel.interface-exists',
        `interface ${request.ifName} exists in container ${request.containerId}: attached already`,
        {
          interface: request.ifName,
        },
      )
    await this.#takeDown(known)
    await this.#reaper.gone(id)
  }

  async #sameNamespace(known: Attachment, netns: NetnsRef): Promise<boolean> {
    return known.netnsCookie !== null && (await this.#modules.kernel.netnsCookie(netns)) === known.netnsCookie
  }

  async #begin(id: string, request: AttachRequest): Promise<Attachment> {
    const { ipam, registry, random, clock, node } = this.#modules
    const since = clock.realtimeMs()
    await this.#untilReaped(request.addresses)
    const addresses = await ipam.allocate({
      holder: holderOf(id, request, since),
      families: request.families,
      pools: request.pools,
      podPools: request.podPools,
      addresses: request.addresses,
    })
    faultPoint('add.address-taken')
    const pathMtu = node.podMtu(addresses.map(address => address.poolUid))
    const attachment: Attachment = {
      id,
      network: request.network,
      containerId: request.containerId,
      ifName: request.ifName,
      netns: request.netns,
      netnsCookie: null,
      hostInterface: hostInterfaceName(random),
      podMac: request.mac ?? podMac(random),
      mtu: request.mtu === null ? pathMtu : Math.min(request.mtu, pathMtu),
      addresses,
      pod: request.pod,
      boot: this.#boot,
      begunBoottimeMs: clock.boottimeMs(),
      since,
      state: 'attaching',
    }
    try {
      await registry.begin(attachment)
    } catch (error) {
      ipam.release(id)
      throw error
    }
    faultPoint('add.intent-written')
    return attachment
  }

  /** A pod that is replaced under its address has been answered its DEL before its link is gone. */
  async #untilReaped(wanted: readonly Ip[]): Promise<void> {
    const texts = wanted.map(formatIp)
    for (const { id, state, addresses } of this.#modules.registry.all())
      if (state === 'detaching' && addresses.some(({ address }) => texts.includes(address)))
        await this.#reaper.gone(id)
  }

  async #build(attachment: Attachment, gone: Gone): Promise<Attachment> {
    const { kernel, registry, ipam, node, elements } = this.#modules
    const mac = attachment.podMac as string
    const endpoint = await kernel.attachPod(
      endpointSpec(attachment, node),
      elements({ ...attachment, podMac: mac }),
    )
    faultPoint('add.kernel-done')
    refuseWhenGone(gone)
    await registry.attached(attachment.id, { podMac: endpoint.podMac, netnsCookie: endpoint.netnsCookie })
    faultPoint('add.done-written')
    ipam.recorded(attachment.id)
    return registry.get(attachment.id) as Attachment
  }

  /** Of what was begun and not ended: the kernel may have been touched or not, the journal has the intent. */
  async #undo(attachment: Attachment): Promise<void> {
    try {
      await this.#detach(attachment)
    } catch (error) {
      this.#modules.log.error(
        { id: attachment.id, error: messageOf(error) },
        'what was half-done could not be undone yet; it is tried again',
      )
    }
  }

  /** Idempotent; an unknown attachment is a success (CNI-138). */
  del(key: AttachmentKey, begunBeforeBoottimeMs = Number.POSITIVE_INFINITY): Promise<void> {
    const id = attachmentId(key.network, key.containerId, key.ifName)
    return this.#queue.run(id, async () => {
      faultPoint('del.received')
      const known = this.#modules.registry.get(id)
      if (known === undefined || known.begunBoottimeMs >= begunBeforeBoottimeMs) return
      await this.#takeDown(known)
    })
  }

  /** Nobody took the answer to its ADD. Whatever has come in its place since, by DEL and ADD, stays. */
  takeBack({ id, hostInterface }: Attachment): Promise<void> {
    return this.#queue.run(id, async () => {
      const known = this.#modules.registry.get(id)
      if (known?.hostInterface === hostInterface) await this.#takeDown(known)
    })
  }

  /**
   * Its addresses are no longer this node's (ADDRESSES.md rule 15). Never rejects: what fails is tried again.
   * @param lost null: all that this node had. What bears the id in its turn, and holds nothing of it, is another.
   */
  cutOff(id: string, lost: LostPart | null): Promise<void> {
    return this.#queue.run(id, async () => {
      const known = this.#modules.registry.get(id)
      if (known === undefined || known.state === 'detaching') return
      if (lost !== null && !known.addresses.some(address => isLost(address, lost))) return
      const { log } = this.#modules
      log.error(
        { id, addresses: known.addresses.map(({ address }) => address), pod: known.pod },
        'a pod is cut off: its addresses are no longer of this node',
      )
      await this.#detach(known).catch(error =>
        log.error({ id, error: messageOf(error) }, 'a pod could not be cut off yet; it is tried again'),
      )
    })
  }

  /** One that waits for its link's deletion is down already; one whose detaching failed is not. */
  async #takeDown(known: Attachment): Promise<void> {
    if (known.state !== 'detaching' || !this.#reaper.has(known.id)) await this.#detach(known)
  }

  async #detach(attachment: Attachment): Promise<void> {
    try {
      await this.#detachNow(attachment)
    } catch (error) {
      this.#retryLater(attachment.id)
      throw error
    }
  }

  /** Nobody may ask for it again: the runtime of an ADD that failed, say. */
  #retryLater(id: string): void {
    const { clock, registry, log } = this.#modules
    const retry = () =>
      this.#queue.run(id, async () => {
        const known = registry.get(id)
        if (known?.state === 'detaching') await this.#takeDown(known)
      })
    this.#retries.get(id)?.cancel()
    const timer = clock.setTimer(this.#detachRetryMs, () => {
      this.#retries.delete(id)
      retry().catch(error => log.error({ id, error: messageOf(error) }, 'a pod could not be taken down yet'))
    })
    this.#retries.set(id, timer)
  }

  async #detachNow(attachment: Attachment): Promise<void> {
    const { kernel, registry, node, elements, log } = this.#modules
    await registry.detaching(attachment.id).catch(error => {
      log.warn(
        { id: attachment.id, error: messageOf(error) },
        'the journal could not be written; DEL goes on, a restart would repeat it',
      )
    })
    faultPoint('del.detaching-written')
    await kernel.detachPod(
      detachSpec(attachment, node),
      attachment.podMac ? elements({ ...attachment, podMac: attachment.podMac }) : [],
    )
    faultPoint('del.kernel-done')
    this.#reaper.add(
      attachment.id,
      attachment.addresses.map(({ address }) => address),
    )
  }

  async #finish(id: string): Promise<void> {
    await this.#modules.registry.gone(id)
    faultPoint('del.gone-written')
    this.#modules.ipam.release(id)
    faultPoint('del.address-released')
    this.#modules.over()
  }

  /**
   * What the journal of an earlier run holds: attached ones of this boot stay, halves are undone or finished, those
   * of an earlier boot are dead pods (rule 17), whose namespaces went with it. What fails of one pod is tried again
   * later: it must not keep the daemon from the others.
   */
  async recover(): Promise<{ kept: number; undone: number; dead: number }> {
    const count = { kept: 0, undone: 0, dead: 0 }
    for (const attachment of this.#modules.registry.all()) {
      if (attachment.boot !== this.#boot) {
        await this.#bury(attachment)
        count.dead++
      } else if (attachment.state === 'attached') count.kept++
      else {
        await this.#queue.run(attachment.id, () => this.#undo(attachment))
        count.undone++
      }
    }
    return count
  }

  async #bury({ id, addresses }: Attachment): Promise<void> {
    try {
      await this.#finish(id)
    } catch (error) {
      this.#modules.log.error({ id, error: messageOf(error) }, 'a dead pod stays in the journal for now')
      await this.#modules.registry.detaching(id).catch(() => undefined)
      this.#reaper.add(
        id,
        addresses.map(({ address }) => address),
      )
    }
  }

  /** Somebody deleted the veth pair: build it again, as it was, when the pod's namespace is still the same. */
  async reattach(id: string): Promise<void> {
    await this.#queue.run(id, async () => {
      const known = this.#modules.registry.get(id)
      if (known?.state !== 'attached') return
      const { kernel, node, elements, registry } = this.#modules
      const endpoint = await kernel.attachPod(
        endpointSpec(known, node),
        elements({ ...known, podMac: known.podMac as string }),
      )
      await registry.attached(id, { podMac: endpoint.podMac, netnsCookie: endpoint.netnsCookie })
    })
  }

  /** A MAC changed inside a pod (`tuning`, ip link): learned, not punished. */
  async learnMac(id: string, mac: string): Promise<void> {
    await this.#queue.run(id, async () => {
      const { registry, kernel, elements, log } = this.#modules
      const known = registry.get(id)
      if (known?.state !== 'attached' || known.podMac === mac || known.netnsCookie === null) return
      const remove = elements({ ...known, podMac: known.podMac as string })
      await kernel.changeElements({ add: elements({ ...known, podMac: mac }), remove })
      await registry.attached(id, { podMac: mac, netnsCookie: known.netnsCookie })
      log.info({ id, from: known.podMac, to: mac }, "a pod's MAC changed; learned")
    })
  }

  /** Resolves when no operation is under way and no link awaits deletion. What failed is left to the next start. */
  async settled(): Promise<void> {
    for (const timer of this.#retries.values()) timer.cancel()
    this.#retries.clear()
    await this.#queue.idle()
    await this.#reaper.idle()
  }
}

function holderOf(id: string, request: AttachRequest, since: number): Holder {
  const { network, containerId, ifName, pod } = request
  return { id, kind: 'pod', network, containerId, ifName, pod, since }
}

/** @throws cancelled (retryable) */
export function refuseWhenGone(gone: Gone): void {
  if (gone.aborted)
    throw new TwillError(
      'cancelled',
      'the client went away; what was begun is undone',
      {},
      { retryable: true },
    )
}
