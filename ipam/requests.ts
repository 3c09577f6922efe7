/**
 * Asking other nodes for addresses of a slot (ADDRESSES.md rules 2 to 4). A request is a claim whose part another
 * node carves out: its id is in the journal before it is sent, and until a successful commit or a read shows what
 * became of it nothing of it is used. It stands in the slot's record only as long as somebody waits for it.
 */
import { livenessKey } from '../datastore/keys.ts'
import { recordParser } from '../datastore/record.ts'
import { livenessRecord } from '../datastore/records/liveness.ts'
import type { SlotRecord } from '../datastore/records/slot.ts'
import type { Store } from '../datastore/store.ts'
import { type Cidr, cidrOf, formatCidr, formatIp, hostCidr, type Ip } from '../lib/address.ts'
import type { Clock, Random } from '../lib/clock.ts'
import { isTwillError, TwillError } from '../lib/errors.ts'
import { faultPoint } from '../lib/fault.ts'
import type { Allocator } from './allocator.ts'
import { KEEP } from './change-record.ts'
import type { ClaimablePool } from './choose-slot.ts'
import { isInDoubt, type OwnedPart, type OwnSlot } from './own-slots.ts'
import type { Ownership } from './ownership.ts'
import type { Restoration } from './restoration.ts'
import { emptySlot } from './slot.ts'
import { dropRequests, enterRequest, isAnswered, type SlotRequest, silentOwners } from './slot-requests.ts'
import type { SlotWork } from './slot-work.ts'

export interface RequestsOptions {
  /** How long an owner is waited for. An ADD waits no longer. */
  readonly patienceMs: number
  /** Something is in doubt: it is to be settled soon. */
  readonly onDoubt: () => void
}

export interface RequestsModules {
  readonly work: SlotWork
  readonly store: Store
  readonly clock: Clock
  readonly random: Random
  readonly allocator: Allocator
  readonly ownership: Pick<Ownership, 'conclude' | 'endClaim'>
  readonly restoration: Pick<Restoration, 'refuseClaims'>
}

export type Answer =
  | { readonly kind: 'given'; readonly part: OwnedPart }
  /** By every owner who could have given. */
  | { readonly kind: 'refused'; readonly refusals: SlotRequest['refusals'] }
  /** UIDs of owners who have not answered in time. */
  | { readonly kind: 'silent'; readonly owners: readonly string[] }
  /** Nobody else owns it now: it is free, or ours. */
  | { readonly kind: 'nobody' }
  /** Something else of this node's is under way in the slot. */
  | { readonly kind: 'busy' }

const parseLiveness = recordParser(livenessRecord)

interface Shown {
  readonly record: SlotRecord
  readonly modRevision: number
}

/**
 * Ends the wait when the watch shows the answer. Trap: what it shows of the slot before the request stood there, and it
 * may be late with that, looks as if the request had been taken out.
 */
class Waiting {
  readonly #request: Pick<SlotRequest, 'id' | 'owner'>
  readonly #end: () => void
  #enteredAt = Number.POSITIVE_INFINITY
  #last: Shown | null = null

  constructor(request: Pick<SlotRequest, 'id' | 'owner'>, end: () => void) {
    this.#request = request
    this.#end = end
  }

  entered(modRevision: number): void {
    this.#enteredAt = modRevision
    if (this.#last !== null) this.see(this.#last)
  }

  see(shown: Shown): void {
    this.#last = shown
    if (shown.modRevision >= this.#enteredAt && isAnswered(shown.record, this.#request)) this.#end()
  }
}

export class Requests {
  readonly #options: RequestsOptions
  readonly #modules: RequestsModules
  /** Slot id → told of every state of the slot that the watch shows. */
  readonly #waiting = new Map<string, Waiting>()
  readonly #ends = new Set<() => void>()
  #stopped = false

  constructor(options: RequestsOptions, modules: RequestsModules) {
    this.#options = options
    this.#modules = modules
  }

  /** The watch shows the slot. */
  observe(slotId: string, record: SlotRecord, modRevision: number): void {
    this.#waiting.get(slotId)?.see({ record, modRevision })
  }

  /** Whoever waits is answered at once by what the records say. */
  stop(): void {
    this.#stopped = true
    for (const end of this.#ends) end()
  }

  /**
   * One address by name, from the node that owns its part: a part of ours of this one address when it resolves.
   * It is in no one's hands yet: take it before anything else is awaited.
   * @throws ipam.address-taken {address, owner}: held by a living pod there; ipam.owner-silent (retryable) {owners}
   *   after `patienceMs`; store.conflict (retryable): its part is free, or ours,
   *   or its slot is being settled; store.*; journal.write-failed
   */
  async requestAddress(pool: ClaimablePool, ip: Ip): Promise<OwnedPart> {
    const address = formatIp(ip)
    const answer = await this.ask(pool.uid, cidrOf(ip, pool.slotPrefix), formatCidr(hostCidr(ip)))
    if (answer.kind === 'given') return answer.part
    if (answer.kind === 'silent') throw await this.silence(answer.owners, `address ${address}`)
    if (answer.kind !== 'refused') {
      const why = answer.kind === 'nobody' ? 'it belongs to no other node' : 'its slot is being settled'
      throw new TwillError(
        'store.conflict',
        `address ${address} cannot be asked for: ${why}`,
        { address },
        { retryable: true },
      )
    }
    const owner = answer.refusals[0]?.owner ?? ''
    const [name] = await this.namesOf([owner])
    const why = answer.refusals.map(({ reason }) => reason).join(', ')
    throw new TwillError('ipam.address-taken', `address ${address} is not free on node ${name}: ${why}`, {
      address,
      owner,
    })
  }

  /**
   * Asks all other owners of the slot for `cidr`, or for any piece (null), `fresh`: of which nothing cools, and waits
   * until one gives, all have refused, or patience ends. @throws store.*, journal.write-failed: the slot is settled later
   */
  async ask(
    poolUid: string,
    slotCidr: Cidr,
    cidr: string | null,
    { patienceMs = this.#options.patienceMs, fresh = false } = {},
  ): Promise<Answer> {
    const { work, allocator, clock, random, restoration } = this.#modules
    restoration.refuseClaims()
    const slot = allocator.slotAt(poolUid, slotCidr)
    const request = { id: random.hex(8), owner: work.nodeUid, cidr, ...(fresh ? { fresh } : {}) }
    let end = () => {}
    const ended = new Promise<void>(resolve => {
      end = resolve
    })
    const entered = await this.#orDoubt(work.run(slot, () => this.#enter(slot, request, end)))
    if (entered !== 'entered') return { kind: entered }
    const timer = clock.setTimer(this.#stopped ? 0 : patienceMs, end)
    this.#ends.add(end)
    try {
      await ended
    } finally {
      timer.cancel()
      this.#ends.delete(end)
      this.#waiting.delete(slot.id)
    }
    return this.#orDoubt(work.run(slot, () => this.#conclude(slot, request)))
  }

  async #orDoubt<T>(step: Promise<T>): Promise<T> {
    try {
      return await step
    } catch (error) {
      this.#options.onDoubt()
      throw error
    }
  }

  async #enter(
    slot: OwnSlot,
    request: Omit<SlotRequest, 'refusals'>,
    end: () => void,
  ): Promise<'entered' | 'nobody' | 'busy'> {
    const { work, ownership } = this.#modules
    if (isInDoubt(slot) || slot.ledgerUnread) return 'busy'
    slot.claiming = request.id
    await work.record(slot, () => {
      slot.claiming = null
    })
    faultPoint('request.recorded')
    const waiting = new Waiting(request, end)
    this.#waiting.set(slot.id, waiting)
    try {
      const changed = await work.change(slot.key, current =>
        current === null ? KEEP : (enterRequest(current, request) ?? KEEP),
      )
      faultPoint('request.entered')
      if (changed.value?.requests.some(({ id }) => id === request.id)) {
        slot.asking = true
        waiting.entered(changed.modRevision)
        return 'entered'
      }
    } catch (error) {
      this.#waiting.delete(slot.id)
      if (isTwillError(error, 'store.unavailable')) await ownership.endClaim(slot)
      throw error
    }
    this.#waiting.delete(slot.id)
    await ownership.endClaim(slot)
    return 'nobody'
  }

  /** Takes the request out, unless it was answered; what the record then says is true: no commit is in doubt. */
  async #conclude(slot: OwnSlot, request: Omit<SlotRequest, 'refusals'>): Promise<Answer> {
    const { work, ownership } = this.#modules
    if (slot.claiming !== request.id) return { kind: 'busy' }
    let last: SlotRequest = { ...request, refusals: [] }
    const at = work.now()
    slot.asking = false
    const changed = await work.change(slot.key, current => {
      last = current?.requests.find(({ id }) => id === request.id) ?? last
      return current === null ? KEEP : (dropRequests(current, new Set([request.id])) ?? KEEP)
    })
    faultPoint('request.answered')
    const record = changed.value ?? emptySlot(slot.slot)
    const part = await ownership.conclude(slot, { record, modRevision: changed.modRevision, at })
    if (part !== null) return { kind: 'given', part }
    const owners = silentOwners(record, last)
    return owners.length > 0 ? { kind: 'silent', owners } : { kind: 'refused', refusals: last.refusals }
  }

  async silence(owners: readonly string[], wanted: string): Promise<TwillError> {
    const names = await this.namesOf(owners)
    return new TwillError(
      'ipam.owner-silent',
      `${wanted} belongs to ${names.length === 1 ? 'node' : 'nodes'} ${names.join(', ')}, which ${names.length === 1 ? 'does' : 'do'} not answer`,
      { owners, names },
      { retryable: true },
    )
  }

  /** UIDs stand for nodes whose name cannot be found out now. */
  namesOf(owners: readonly string[]): Promise<string[]> {
    return Promise.all(
      owners.map(async uid => {
        try {
          const { entry } = await this.#modules.store.get(livenessKey(uid))
          return entry === null ? uid : parseLiveness(entry.value, entry.key).name
        } catch {
          return uid
        }
      }),
    )
  }
}
