/**
 * From what should be and what is to the steps between. Pure: the plan of a kernel that is as desired is empty.
 *
 * Invariants: a step touches only what kernel/ownership.ts calls ours; nothing that belongs to an attachment
 * whose operation is under way; nothing is deleted, and nothing of the overlay replaced, while the facts are
 * incomplete: what the kernel has may be newer. Order: what packets need is there before what they needed is taken
 * away.
 */
import type { KernelStep } from '../../kernel/kernel.ts'
import { POD_LINK_PREFIX } from '../../kernel/ownership.ts'
import type { DesiredState } from '../desired/state.ts'
import { planAddresses } from './addresses.ts'
import { isPodLink, isVxlanLink, planLinks } from './links.ts'
import { planFdb, planNeighbours } from './neighbours.ts'
import type { Change, Observed, Plan } from './observed.ts'
import { planRoutes } from './routes.ts'
import { planSysctls } from './sysctls.ts'

export function plan(desired: DesiredState, observed: Observed): Plan {
  const links = planLinks(desired, observed)
  const ours = ownDevices(desired, observed)
  const addresses = planAddresses(desired, observed, links, ours)
  const changes = [
    ...links.changes,
    ...planSysctls(desired, observed, links),
    ...addresses,
    ...planNeighbours(desired, observed, links, ours),
    ...planFdb(desired, observed, links, ours),
    ...planRoutes(desired, observed, links, removedAddresses(addresses)),
  ]
  const allowed = desired.complete ? changes : changes.filter(change => !replacesOverlay(change))
  return { changes: inOrder(allowed), reattach: links.reattach, problems: links.problems }
}

/** Pods' own objects follow from the journal, which is never old. */
function replacesOverlay({ step, reason }: Change): boolean {
  if (reason !== 'different') return false
  if (step.type === 'route.replace') return !step.route.device?.startsWith(POD_LINK_PREFIX)
  if (step.type === 'neighbour.replace') return !step.device.startsWith(POD_LINK_PREFIX)
  return step.type === 'fdb.replace'
}

/** Devices on which neighbours, FDB entries and addresses are ours to delete. */
function ownDevices({ held }: DesiredState, { links }: Observed): ReadonlySet<string> {
  const ours = links.filter(link => isVxlanLink(link) || isPodLink(link)).map(({ name }) => name)
  return new Set(ours.filter(name => !held.devices.has(name)))
}

function removedAddresses(changes: readonly Change[]): ReadonlySet<string> {
  return new Set(changes.flatMap(({ step }) => (step.type === 'address.delete' ? [step.address] : [])))
}

/**
 * A device is deleted to be made again first of all, and for good last of all; the same for an address. Between
 * them: devices, switches, addresses, neighbours, FDB, routes; then what is unwanted, in the opposite order.
 */
const ORDER: Readonly<Record<KernelStep['type'], number>> = {
  'vxlan.add': 2,
  'sysctl.set': 3,
  'link.set': 4,
  'address.add': 6,
  'neighbour.replace': 7,
  'fdb.replace': 8,
  'route.replace': 9,
  'route.delete': 10,
  'fdb.delete': 11,
  'neighbour.delete': 12,
  'address.delete': 13,
  'link.delete': 14,
}
const BEFORE_MAKING_ANEW = { 'link.delete': 1, 'address.delete': 5 } as const

function rank({ step, reason }: Change): number {
  const renewed = reason === 'different' && (step.type === 'link.delete' || step.type === 'address.delete')
  return renewed ? BEFORE_MAKING_ANEW[step.type as 'link.delete' | 'address.delete'] : ORDER[step.type]
}

/** Stable: changes of one rank keep their order (accept_ra before forwarding). */
const inOrder = (changes: readonly Change[]): Change[] => [...changes].sort((a, b) => rank(a) - rank(b))
