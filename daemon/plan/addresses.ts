/**
 * Addresses on our devices and the gateway on `lo`. Only global ones are ever deleted: link-local ones on our
 * devices are the kernel's own or a gateway, and do no harm.
 */
import type { KernelStep, LinkAddress } from '../../kernel/kernel.ts'
import { type DesiredAddress, SCOPE } from '../../routing/state.ts'
import type { DesiredState } from '../desired/state.ts'
import type { LinkPlan } from './links.ts'
import type { Change, Observed, Reason } from './observed.ts'

export const addressKey = ({ device, address, prefix }: Pick<LinkAddress, 'device' | 'address' | 'prefix'>) =>
  `${device} ${address}/${prefix}`

export function planAddresses(
  desired: DesiredState,
  observed: Observed,
  devices: LinkPlan,
  ours: ReadonlySet<string>,
): Change[] {
  const seen = observed.addresses.filter(({ device }) => !devices.fresh.has(device))
  const byKey = new Map(seen.map(address => [addressKey(address), address]))
  const wanted = desired.addresses.filter(({ device }) => devices.present.has(device))
  const keys = new Set(desired.addresses.map(addressKey))
  const unwanted = seen
    .filter(({ device, scope }) => desired.complete && ours.has(device) && scope === SCOPE.global)
    .filter(address => !keys.has(addressKey(address)))
  return [
    ...wanted.flatMap(want => mend(want, byKey.get(addressKey(want)))),
    ...unwanted.map(address => change(address, 'unwanted', remove(address))),
  ]
}

/** Scope and lifetime cannot be changed in place: away with it and anew. */
function mend(want: DesiredAddress, have: LinkAddress | undefined): Change[] {
  if (have === undefined) return [change(want, 'missing', { type: 'address.add', ...want })]
  if (have.permanent && (want.family === 6 || have.scope === want.scope)) return []
  return [
    change(want, 'different', remove(want)),
    change(want, 'different', { type: 'address.add', ...want }),
  ]
}

function remove({
  device,
  family,
  address,
  prefix,
}: Pick<LinkAddress, 'device' | 'family' | 'address' | 'prefix'>): KernelStep {
  return { type: 'address.delete', device, family, address, prefix }
}

const change = (
  address: Pick<LinkAddress, 'device' | 'address' | 'prefix'>,
  reason: Reason,
  step: KernelStep,
): Change => ({ kind: 'address', key: addressKey(address), reason, step })
