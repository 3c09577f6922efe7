/** Reads from the kernel what a plan needs, and no more. */
import type { Kernel, Link } from '../../kernel/kernel.ts'
import { ROUTE_PROTOCOL } from '../../kernel/ownership.ts'
import type { DesiredState } from '../desired/state.ts'
import { isVxlanLink } from '../plan/links.ts'
import { KINDS, type Kind, type Observed } from '../plan/observed.ts'
import { acceptRaPath } from '../plan/sysctls.ts'

/** rtnetlink.h RTPROT_RA. */
const ADVERTISED_PROTOCOL = 9

/**
 * What must be looked at together: everything stands on links, and routes need to know which sources they may
 * name. Links and addresses are read always.
 */
export function kindsToObserve(dirty: ReadonlySet<Kind>): ReadonlySet<Kind> {
  if (dirty.has('link')) return new Set(KINDS)
  return dirty.has('address') ? new Set([...dirty, 'route']) : dirty
}

/** Kinds not asked for are empty. @param expected what will be desired: names the switches to read */
export async function observe(
  kernel: Kernel,
  kinds: ReadonlySet<Kind>,
  expected: DesiredState,
): Promise<Observed> {
  const [links, addresses, routes, neighbours, switches] = await Promise.all([
    kernel.readLinks(),
    kernel.readAddresses(),
    kinds.has('route') ? kernel.readRoutes({ protocol: ROUTE_PROTOCOL }) : [],
    kinds.has('neighbour') ? kernel.readNeighbours() : [],
    kinds.has('sysctl') ? readSwitches(kernel, expected) : NO_SWITCHES,
  ])
  const fdb = kinds.has('fdb') ? await readFdb(kernel, links) : []
  return { links, addresses, routes, neighbours, fdb, ...switches }
}

type Switches = Pick<Observed, 'sysctls' | 'advertisedUplinks'>

const NO_SWITCHES: Switches = { sysctls: new Map(), advertisedUplinks: [] }

async function readSwitches(kernel: Kernel, expected: DesiredState): Promise<Switches> {
  const advertisedUplinks = expected.forwardsIpv6 ? await readAdvertisedUplinks(kernel) : []
  const paths = [...expected.sysctls.map(({ path }) => path), ...advertisedUplinks.map(acceptRaPath)]
  const values = await Promise.all(paths.map(async path => [path, await kernel.readSysctl(path)] as const))
  return { sysctls: new Map(values), advertisedUplinks }
}

async function readAdvertisedUplinks(kernel: Kernel): Promise<string[]> {
  const routes = await kernel.readRoutes({ protocol: ADVERTISED_PROTOCOL })
  const defaults = routes.filter(({ dst, device }) => dst === '::/0' && device !== null)
  return [...new Set(defaults.map(({ device }) => device!))]
}

/** A device that went away between the two reads has no entries; the next notification brings the loop back. */
async function readFdb(kernel: Kernel, links: readonly Link[]) {
  const reads = links.filter(isVxlanLink).map(({ name }) => kernel.readFdb(name).catch(() => []))
  return (await Promise.all(reads)).flat()
}
