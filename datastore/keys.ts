/**
 * Where each record lives, relative to the store's prefix (default /twill/v1/). The layout is for ever.
 *
 *   cluster                                   identity of the cluster, written once
 *   address-space                             the CIDRs of all pools
 *   resources/<plural>/<name>                 operator resources (resources/ippools/default)
 *   nodes/<name>                              what routes need of a node; watched by all
 *   liveness/<node uid>                       heartbeat and removal mark; watched by nobody
 *   slots/<pool uid>/<base>-<prefix>          who owns which part; watched by all
 *   ledgers/<pool uid>/<base>-<prefix>/<node uid>   who holds which address; watched by nobody
 */
import { type Cidr, formatIp } from '../lib/address.ts'

export const CLUSTER_KEY = 'cluster'
export const ADDRESS_SPACE_KEY = 'address-space'
export const PREFIX = {
  resources: 'resources/',
  nodes: 'nodes/',
  liveness: 'liveness/',
  slots: 'slots/',
  ledgers: 'ledgers/',
} as const

const slotName = (slot: Cidr) => `${formatIp({ family: slot.family, value: slot.base })}-${slot.prefix}`

export const resourceKey = (plural: string, name: string) => `${PREFIX.resources}${plural}/${name}`
export const nodeKey = (name: string) => `${PREFIX.nodes}${name}`
export const livenessKey = (uid: string) => `${PREFIX.liveness}${uid}`
export const slotKey = (poolUid: string, slot: Cidr) => `${PREFIX.slots}${poolUid}/${slotName(slot)}`
export const ledgerKey = (poolUid: string, slot: Cidr, owner: string) =>
  `${PREFIX.ledgers}${poolUid}/${slotName(slot)}/${owner}`

/** Order of keys: that of their UTF-8 bytes. Code units order as bytes do, but for surrogates, which stand for what comes after all other characters. */
export function compareAsBytes(a: string, b: string): number {
  const length = Math.min(a.length, b.length)
  for (let i = 0; i < length; i++) {
    const [x, y] = [a.charCodeAt(i), b.charCodeAt(i)]
    if (x !== y) return isSurrogate(x) === isSurrogate(y) ? x - y : isSurrogate(x) ? 1 : -1
  }
  return a.length - b.length
}

const isSurrogate = (unit: number): boolean => unit >= 0xd800 && unit <= 0xdfff
