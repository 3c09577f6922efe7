/** The annotations by which a pod chooses its pools, addresses and MAC. Lists are separated by commas. */
import { isIP } from 'node:net'
import type { Family } from './address.ts'

export const POOL_ANNOTATION: Readonly<Record<Family, string>> = {
  4: 'twill.network/ipv4-pool',
  6: 'twill.network/ipv6-pool',
}
export const ADDRESSES_ANNOTATION = 'twill.network/ip-addresses'
export const MAC_ANNOTATION = 'twill.network/mac'

/** Of our domain; any other on a pod is a mistake. */
export const ANNOTATION_DOMAIN = 'twill.network/'
export const POD_ANNOTATIONS: readonly string[] = [
  POOL_ANNOTATION[4],
  POOL_ANNOTATION[6],
  ADDRESSES_ANNOTATION,
  MAC_ANNOTATION,
]

/** Names of IPPools by family, in order; [] leaves the choice to others. */
export type PoolNames = Readonly<Record<Family, readonly string[]>>

export const NO_POOLS: PoolNames = { 4: [], 6: [] }

/** DNS subdomain (RFC 1123), as Kubernetes names its objects; at most 253 characters. */
export const RESOURCE_NAME = /^[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*$/

/** Each is looked through for an address, for whoever may create a pod. */
const POOL_NAMES_MAX = 16
export const POOL_NAMES_EXPECTED = `names of IPPools, each once and at most ${POOL_NAMES_MAX}, separated by commas`
export const ADDRESSES_EXPECTED = 'one IPv4 address, one IPv6 address, or one of each separated by a comma'

const listOf = (text: string): string[] => text.split(',').map(each => each.trim())

/** null: it is no such list. */
export function readPoolNames(text: string): readonly string[] | null {
  const names = listOf(text)
  if (names.length > POOL_NAMES_MAX || new Set(names).size < names.length) return null
  return names.every(name => name.length <= 253 && RESOURCE_NAME.test(name)) ? names : null
}

/** null: it is no such list, or has two of one family. */
export function readAddresses(text: string): readonly string[] | null {
  const addresses = listOf(text)
  const families = addresses.map(address => (address.includes('%') ? 0 : isIP(address)))
  return families.includes(0) || new Set(families).size < families.length ? null : addresses
}
