/**
 * What nodes live by must not be in a pool of pods: each node would lead such addresses to the pool's parts, or nowhere,
 * and so cut itself off from its neighbours, the API server or the datastore, and from the deletion of the pool too.
 *
 * A pool that is not entered yet stays out when it covers any node's address. One that is entered is not
 * taken out of use by what another node's record says: who can write one record could cut off all. Then each node leaves
 * out what covers its own.
 */
import { PREFIX } from '../datastore/keys.ts'
import { recordParser } from '../datastore/record.ts'
import { type NodeRecord, nodeRecord } from '../datastore/records/node.ts'
import { type IPPool, isForIpam, type Use } from '../datastore/resources/ippool.ts'
import type { Store } from '../datastore/store.ts'
import { contains, formatIp, type Ip, parseCidr, parseIp } from '../lib/address.ts'
import { TwillError } from '../lib/errors.ts'

/** An address that a node lives by. */
export interface Vital {
  readonly ip: Ip
  /** For messages: "the address of node node1". */
  readonly whose: string
}

/** [] for a name. */
export function vitalOf(text: string, whose: string): Vital[] {
  try {
    return [{ ip: parseIp(text), whose }]
  } catch {
    return []
  }
}

type Underlays = Pick<NodeRecord, 'name' | 'underlay'>

/** By which nodes reach each other, by name of the node. */
export const underlaysOf = (nodes: readonly Underlays[]): Vital[] =>
  [...nodes]
    .sort((a, b) => (a.name < b.name ? -1 : 1))
    .flatMap(({ name, underlay }) =>
      Object.values(underlay).flatMap(text => vitalOf(text ?? '', `the address of node ${name}`)),
    )

/** The same from the store; records that cannot be read say nothing. @throws store.* */
export async function readUnderlays(store: Store): Promise<Vital[]> {
  const parse = recordParser(nodeRecord)
  const { entries } = await store.list(PREFIX.nodes)
  return underlaysOf(
    entries.flatMap(({ key, value }) => {
      try {
        return [parse(value, key)]
      } catch {
        return []
      }
    }),
  )
}

type Ranged = {
  readonly spec: { readonly cidr: string; readonly allowedUses: readonly Use[] }
}

/** The first that the pool covers, or null. Pools for the IPAM plugin are of others' networks, and nothing is routed to them. */
export function coveredBy(pool: Ranged, vitals: readonly Vital[]): Vital | null {
  if (vitals.length === 0 || isForIpam(pool)) return null
  const cidr = parseCidr(pool.spec.cidr)
  return vitals.find(({ ip }) => contains(cidr, ip)) ?? null
}

export const coversText = ({ ip, whose }: Vital): string => `covers ${formatIp(ip)}, ${whose}`

/** @throws ipam.pool-covers {pool, cidr, address}: nobody may use it */
export function refuseCovering(pool: Pick<IPPool, 'metadata' | 'spec'>, vitals: readonly Vital[]): void {
  const vital = coveredBy(pool, vitals)
  if (vital === null) return
  const [{ name }, { cidr }] = [pool.metadata, pool.spec]
  throw new TwillError('ipam.pool-covers', `IPPool ${name} (${cidr}) ${coversText(vital)}`, {
    ...{ pool: name, cidr },
    address: formatIp(vital.ip),
  })
}
