/**
 * Who holds addresses by what the journal says: pods, and interfaces of other plugins. The address management must hear
 * of all of them before it starts, also when it starts only to leave: whom it is not told of has his address given away.
 */
import type { HeldAddress, Holder } from '../../ipam/ipam.ts'
import type { JournalState, Lease } from './records.ts'

export interface JournaledHolder {
  readonly holder: Holder
  readonly addresses: readonly HeldAddress[]
}

type Found = Pick<JournalState, 'attachments' | 'leases'>

export function journaledHolders({ attachments, leases }: Found): JournaledHolder[] {
  return [
    ...[...attachments.values()].map(each => heldAs('pod', each)),
    ...[...leases.values()].map(each => heldAs('ipam', each)),
  ]
}

/** Those of this boot: of an earlier one they are dead (ADDRESSES.md rule 17). */
export function livingHolders({ attachments, leases }: Found, boot: string): JournaledHolder[] {
  return journaledHolders({ attachments: ofBoot(attachments, boot), leases: ofBoot(leases, boot) })
}

const ofBoot = <T extends { readonly boot: string }>(
  all: ReadonlyMap<string, T>,
  boot: string,
): Map<string, T> => new Map([...all].filter(([, each]) => each.boot === boot))

function heldAs(
  kind: 'pod' | 'ipam',
  { id, network, containerId, ifName, pod, since, addresses }: Lease,
): JournaledHolder {
  return { holder: { id, kind, network, containerId, ifName, pod, since }, addresses }
}
