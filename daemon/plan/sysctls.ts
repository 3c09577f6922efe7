/**
 * Kernel switches. Trap: switching IPv6 forwarding on makes the kernel drop default routes that came by router
 * advertisement and take no more of them, unless the device has accept_ra=2 (addrconf.c, rt6_purge_dflt_routers);
 * so that comes first.
 */
import type { DesiredState } from '../desired/state.ts'
import type { LinkPlan } from './links.ts'
import type { Change, Observed, Reason } from './observed.ts'

export const acceptRaPath = (device: string): string => `net/ipv6/conf/${device}/accept_ra`

export function planSysctls(desired: DesiredState, observed: Observed, devices: LinkPlan): Change[] {
  const fresh = [...devices.fresh]
  const absent = (path: string) => fresh.some(device => path.includes(`/${device}/`))
  const settings = desired.sysctls.flatMap(({ path, value }) => {
    const have = observed.sysctls.get(path)
    if (absent(path)) return [change(path, value, 'missing')]
    // A switch that this kernel does not have cannot be set; what needs it fails by itself, with its own name.
    return have === undefined || have === null || have.trim() === value
      ? []
      : [change(path, value, 'different')]
  })
  return [...(desired.forwardsIpv6 ? keepAdvertisements(observed) : []), ...settings]
}

/** Only 1 is raised: at 0 the route came from a program that listens to advertisements by itself. */
function keepAdvertisements({ advertisedUplinks, sysctls }: Observed): Change[] {
  return advertisedUplinks
    .map(acceptRaPath)
    .filter(path => sysctls.get(path)?.trim() === '1')
    .map(path => change(path, '2', 'different'))
}

const change = (path: string, value: string, reason: Reason): Change => ({
  kind: 'sysctl',
  key: path,
  reason,
  step: { type: 'sysctl.set', path, value },
})
