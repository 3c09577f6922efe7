/**
 * Addresses asked for by name: from an own part, cooling or not (ADDRESSES.md rule 5), from a free part claimed for
 * it, or from another node's. What cannot be given is refused with the reason, and nothing has changed then.
 */
import { cidrOf, contains, formatCidr, formatIp, type Ip } from '../lib/address.ts'
import { isTwillError, TwillError } from '../lib/errors.ts'
import type { KeyedQueue } from '../lib/queue.ts'
import type { Allocator } from './allocator.ts'
import { holderName } from './holder-name.ts'
import type { HeldAddress, Holder } from './ipam.ts'
import { slotId } from './journal-records.ts'
import type { OwnedPart } from './own-slots.ts'
import { textOf } from './pod-cidrs.ts'
import type { KnownPool } from './pool-view.ts'
import type { Requests } from './requests.ts'
import { type Reservation, reservedBy } from './reservations.ts'
import type { Upkeep } from './upkeep.ts'

export interface NamedModules {
  readonly allocator: Allocator
  readonly upkeep: Pick<Upkeep, 'claims' | 'confirm'>
  readonly requests: Pick<Requests, 'requestAddress'>
  /** By slot: a node asks one thing at a time of the others in a slot. */
  readonly queue: KeyedQueue
  readonly reservations: readonly Reservation[]
  readonly usable: (part: OwnedPart) => boolean
}

/** A part that was ours when it was found may be gone when it is confirmed. */
const ATTEMPTS = 4

/**
 * @throws ipam.address-refused {address, reason: 'withheld' | 'taken'}; ipam.address-taken; ipam.not-confirmed,
 *   ipam.owner-silent (retryable); store.*
 */
export async function takeNamed(
  holder: Holder,
  ip: Ip,
  pool: KnownPool,
  { allocator, upkeep, requests, queue, usable, reservations }: NamedModules,
): Promise<HeldAddress> {
  for (let attempt = 0; attempt < ATTEMPTS; attempt++) {
    if (pool.withheld.has(ip)) throw refusedAsWithheld(ip, pool, reservations)
    const part = allocator.partWith(pool.uid, ip)
    if (part === null) await queue.run(slotOf(ip, pool), () => acquire(ip, pool, { upkeep, requests }))
    else if (!usable(part)) {
      await upkeep.confirm([part.slot])
      if (!usable(part) && allocator.partWith(pool.uid, ip) === part) throw notConfirmed(ip)
    } else return allocator.takeNamed(holder, part, ip) ?? refuseTaken(ip, part, allocator)
  }
  throw notConfirmed(ip)
}

/** Afterwards it is ours, unless somebody was faster: then whoever called looks again. */
async function acquire(
  ip: Ip,
  pool: KnownPool,
  { upkeep, requests }: Pick<NamedModules, 'upkeep' | 'requests'>,
): Promise<void> {
  if ((await upkeep.claims.address(pool, ip)) !== null) return
  if (pool.nodeRanges !== null) throw refused(ip, 'taken', 'another node owns it, which gives nothing of it')
  try {
    await requests.requestAddress(pool, ip)
  } catch (error) {
    if (!isTwillError(error, 'store.conflict')) throw error
  }
}

const slotOf = (ip: Ip, pool: KnownPool): string => slotId(pool.uid, formatCidr(cidrOf(ip, pool.slotPrefix)))

/** The pool that has the address and may give it. @throws ipam.address-refused {reason: 'outside' | 'pool'} */
export function poolWith(
  ip: Ip,
  pools: readonly KnownPool[],
  whyNot: (pool: KnownPool) => string | null,
): KnownPool {
  // One that collides with another may have been written around twillctl: it is never open.
  const around = pools.filter(({ cidr }) => contains(cidr, ip))
  const pool = around.find(each => whyNot(each) === null)
  if (pool !== undefined) return pool
  const why = around.map(each => `IPPool ${each.name} ${whyNot(each)}`).join('; ')
  throw why === '' ? refused(ip, 'outside', 'it is in no pool') : refused(ip, 'pool', why)
}

export function refused(ip: Ip, reason: string, why: string): TwillError {
  const address = formatIp(ip)
  return new TwillError('ipam.address-refused', `${address} cannot be given: ${why}`, { address, reason })
}

function refusedAsWithheld(ip: Ip, pool: KnownPool, reservations: readonly Reservation[]): TwillError {
  const name = reservedBy(formatIp(ip), reservations)
  if (name !== null) return refused(ip, 'withheld', `IPReservation ${name} reserves it`)
  const { nodeRanges } = pool
  if (nodeRanges !== null && nodeRanges.cidrs.length === 0)
    return new TwillError(
      'ipam.not-confirmed',
      `${formatIp(ip)}: IPPool ${pool.name} ${nodeRanges.problem}`,
      { pools: [pool.name] },
      { retryable: true },
    )
  if (nodeRanges !== null && !nodeRanges.cidrs.some(cidr => contains(cidr, ip)))
    return refused(ip, 'withheld', `it is not in ${textOf(nodeRanges)}, the podCIDRs of this node`)
  const isGateway = pool.gateway?.value === ip.value
  const what = isGateway ? 'the gateway' : 'the network or broadcast address'
  return refused(ip, 'withheld', `it is ${what} of IPPool ${pool.name}`)
}

function refuseTaken(ip: Ip, part: OwnedPart, { holdings }: Allocator): never {
  const id = part.addresses.holderOf(Number(ip.value - part.cidr.base)) ?? ''
  const { kind, pod } = holdings.get(id)?.holder ?? { kind: 'pod', pod: null }
  throw refused(ip, 'taken', `${holderName({ id, kind, pod })} holds it`)
}

const notConfirmed = (ip: Ip) =>
  new TwillError(
    'ipam.not-confirmed',
    `this node's ownership of ${formatIp(ip)} is not confirmed`,
    { address: formatIp(ip) },
    { retryable: true },
  )
