/** IPReservations as the node uses them: what they keep back of a pool, and who holds what they reserve. */
import { PREFIX } from '../datastore/keys.ts'
import { ipReservation, rangesOf } from '../datastore/resources/ipreservation.ts'
import { type IpRange, parseIp } from '../lib/address.ts'
import { TwillError } from '../lib/errors.ts'
import { holderName } from './holder-name.ts'
import type { HeldAddress, Holder } from './ipam.ts'
import type { JournaledReservation } from './journal-records.ts'

export const PREFIX_RESERVATIONS = `${PREFIX.resources}ipreservations/`

export interface Reservation {
  /** Of the IPReservation. */
  readonly name: string
  readonly ranges: readonly IpRange[]
}

/** @throws document.invalid */
export function parseReservation(text: string, key: string): JournaledReservation {
  const result = ipReservation.safeParse(JSON.parse(text))
  if (result.success) return { name: result.data.metadata.name, addresses: result.data.spec.addresses }
  const [issue] = result.error.issues
  throw new TwillError('document.invalid', `${key}: ${issue?.path.join('.')}: ${issue?.message}`, { key })
}

export const reservationOf = ({ name, addresses }: JournaledReservation): Reservation => ({
  name,
  ranges: rangesOf({ spec: { addresses } }),
})

/** By which reservation, or null. */
export function reservedBy(address: string, reservations: readonly Reservation[]): string | null {
  const ip = parseIp(address)
  const holds = ({ family, first, last }: IpRange) =>
    family === ip.family && first <= ip.value && ip.value <= last
  return reservations.find(({ ranges }) => ranges.some(holds))?.name ?? null
}

/** A sentence for each address that is reserved and held: its holder keeps it. */
export function reservedAndHeld(
  holders: Iterable<{ readonly holder: Holder; readonly addresses: readonly HeldAddress[] }>,
  reservations: readonly Reservation[],
): string[] {
  if (reservations.length === 0) return []
  const found: string[] = []
  for (const { holder, addresses } of holders)
    for (const { address } of addresses) {
      const name = reservedBy(address, reservations)
      if (name !== null)
        found.push(`IPReservation ${name}: ${address} is held by ${holderName(holder)}, which keeps it`)
    }
  return found
}
