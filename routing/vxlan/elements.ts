/**
 * Elements of the sets that the rules (rules.ts) look into, in nft's own text.
 *
 * Invariant: equal facts give equal text, whatever their order or doubles: rulesets are compared as text. Trap:
 * the kernel refuses intervals that overlap within one set, so covered prefixes are dropped first (a tunnel
 * address lies inside its node's part).
 */

import type { SetElement } from '../../kernel/kernel.ts'
import {
  bitsOf,
  type Cidr,
  compareCidr,
  covers,
  type Family,
  formatCidr,
  formatIp,
  hostCidr,
  lastOf,
  parseCidr,
  parseIp,
} from '../../lib/address.ts'
import type { RuleEndpoint, RulePeer, RulesInput } from './rules-input.ts'

export const FAMILIES: readonly Family[] = [4, 6]

/** Names of the table's sets; `outer` is the family of the underlay. */
export const SETS = {
  endpoints: (family: Family) => `endpoints${family}`,
  hairpins: (family: Family) => `hairpins${family}`,
  pools: (family: Family) => `pools${family}`,
  overlay: (family: Family) => `overlay${family}`,
  nat: (family: Family) => `nat${family}`,
  natExcluded: (family: Family) => `nat_excluded${family}`,
  nodes: (family: Family) => `nodes${family}`,
  vtepSources: (outer: Family, inner: Family) => `vtep${outer}_inner${inner}`,
} as const

/** What one pod's interface adds to the table: constant in number, keyed by interface. */
export function endpointElements(endpoint: RuleEndpoint): SetElement[] {
  return endpoint.addresses.flatMap(({ family, address }) => {
    const source = `"${endpoint.hostInterface}" . ${formatIp(parseIp(address))}`
    return [
      { set: SETS.endpoints(family), element: `${source} . ${endpoint.podMac}` },
      { set: SETS.hairpins(family), element: source },
    ]
  })
}

/** Every set of the table, also the empty ones, with its elements. */
export function compileElements(input: RulesInput): Map<string, Set<string>> {
  const sets = new Map<string, Set<string>>()
  for (const family of FAMILIES) {
    const cidrs = (pools: RulesInput['pools']) => prefixes(family, pools)
    sets.set(SETS.endpoints(family), new Set())
    sets.set(SETS.hairpins(family), new Set())
    sets.set(SETS.pools(family), cidrs(input.pools))
    sets.set(SETS.overlay(family), cidrs(input.pools.filter(pool => pool.encapsulation === 'Always')))
    sets.set(SETS.nat(family), cidrs(input.pools.filter(pool => pool.natOutgoing)))
    sets.set(SETS.natExcluded(family), exclusions(family, input.pools))
    sets.set(SETS.nodes(family), addressesOf(family, input.nodeAddresses))
  }
  for (const endpoint of input.endpoints)
    for (const { set, element } of endpointElements(endpoint)) sets.get(set)?.add(element)
  if (input.vtep !== null) for (const [set, elements] of vtepSources(input.peers)) sets.set(set, elements)
  return sets
}

function prefixes(family: Family, pools: RulesInput['pools']): Set<string> {
  const cidrs = pools.map(pool => parseCidr(pool.cidr)).filter(cidr => cidr.family === family)
  return new Set(withoutCovered(cidrs).map(formatCidr))
}

/** Source . destination. Of pools that collide only the larger says something: no two sources overlap. */
function exclusions(family: Family, pools: RulesInput['pools']): Set<string> {
  const elements = new Set<string>()
  for (const source of prefixes(family, pools)) {
    const texts = pools.filter(pool => pool.natOutgoing && formatCidr(parseCidr(pool.cidr)) === source)
    const destinations = texts.flatMap(({ natExclusions }) => natExclusions.map(parseCidr))
    for (const each of withoutCovered(destinations.filter(cidr => cidr.family === family)))
      elements.add(`${source} . ${formatCidr(each)}`)
  }
  return elements
}

function addressesOf(family: Family, texts: readonly string[]): Set<string> {
  const addresses = texts.map(parseIp).filter(ip => ip.family === family)
  return new Set(
    addresses
      .map(hostCidr)
      .sort(compareCidr)
      .map(cidr => formatCidr(cidr).replace(/\/.*/, '')),
  )
}

/** Two peers may bear one underlay address for a moment (a replaced node): their sources are joined. */
function vtepSources(peers: readonly RulePeer[]): Map<string, Set<string>> {
  const behind = new Map<string, Cidr[]>()
  for (const peer of peers)
    for (const underlay of peer.underlay) {
      const outer = formatIp(parseIp(underlay))
      behind.set(outer, [...(behind.get(outer) ?? []), ...peer.sources.map(parseCidr)])
    }
  const sets = new Map<string, Set<string>>()
  for (const outer of FAMILIES)
    for (const inner of FAMILIES) sets.set(SETS.vtepSources(outer, inner), new Set())
  for (const [outer, cidrs] of [...behind].sort(([a], [b]) => (a < b ? -1 : 1)))
    for (const cidr of withoutCovered(cidrs))
      sets.get(SETS.vtepSources(parseIp(outer).family, cidr.family))?.add(`${outer} . ${hexRange(cidr)}`)
  return sets
}

/** Bytes picked out of a packet (`@ih`) have no type in nft: plain numbers, first and last. */
function hexRange(cidr: Cidr): string {
  const hex = (value: bigint) => `0x${value.toString(16).padStart(bitsOf(cidr.family) / 4, '0')}`
  return `${hex(cidr.base)}-${hex(lastOf(cidr).value)}`
}

function withoutCovered(cidrs: readonly Cidr[]): Cidr[] {
  const kept: Cidr[] = []
  // In this order whatever covers a prefix comes before it.
  for (const cidr of [...cidrs].sort(compareCidr)) {
    const last = kept.at(-1)
    if (last === undefined || !covers(last, cidr)) kept.push(cidr)
  }
  return kept
}
