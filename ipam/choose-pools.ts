/**
 * Which pools an allocation may take from. Whoever is first in the selection order decides for a family, also when
 * what he names cannot be used: nobody gets an address from a pool that was not meant for him because another is full
 * or misspelt. The order: what the pod asks for, the network configuration, all that match. Pure.
 */
import type { Use } from '../datastore/resources/ippool.ts'
import type { Family, Ip } from '../lib/address.ts'
import { TwillError } from '../lib/errors.ts'
import { POOL_ANNOTATION, type PoolNames } from '../lib/pool-annotations.ts'
import { poolWith } from './named.ts'
import type { KnownPool, PoolCondition } from './pool-view.ts'

export interface PoolQuery {
  readonly use: Use
  /** [] means every family that a pool is found for. */
  readonly families: readonly Family[]
  /** Names, by the network configuration. */
  readonly pools: readonly string[]
  /** Names, by the pod. */
  readonly podPools?: PoolNames | undefined
  readonly addresses?: readonly Ip[] | undefined
}

export interface PoolsInView {
  readonly pools: readonly KnownPool[]
  /** Pools that are written down and cannot be used. */
  readonly conditions: () => readonly PoolCondition[]
}

const FAMILIES = [4, 6] as const
/** So many pools that do not serve are named in an error. */
const REASONS = 8

/** @throws ipam.no-pool */
export function familiesOf(query: PoolQuery, view: PoolsInView): readonly Family[] {
  if (query.families.length > 0) {
    for (const family of FAMILIES)
      if (podChoice(query, family).length > 0 && !query.families.includes(family))
        throw new TwillError(
          'ipam.no-pool',
          `this network gives no IPv${family} addresses, and ${POOL_ANNOTATION[family]} asks for one`,
          { family },
        )
    return query.families
  }
  const found = familiesFound(query, view)
  if (found.length === 0) throw noPool(query, view)
  return found
}

/** Those asked for, else those for which there is a pool or that the pod names something of. */
export function familiesFound(query: PoolQuery, view: PoolsInView): readonly Family[] {
  if (query.families.length > 0) return query.families
  const named = (query.addresses ?? []).map(({ family }) => family)
  return FAMILIES.filter(
    family =>
      named.includes(family) || podChoice(query, family).length > 0 || chosen(query, family, view).length > 0,
  )
}

/** In the order in which they are tried. @throws ipam.no-pool */
export function poolsOf(query: PoolQuery, family: Family, view: PoolsInView): readonly KnownPool[] {
  const found = chosen(query, family, view)
  if (found.length === 0) throw noPool(query, view, family)
  return found
}

/** The pool from which an address asked for by name comes. @throws ipam.address-refused {reason: 'outside' | 'pool'} */
export function poolOfAddress(query: PoolQuery, ip: Ip, { pools }: PoolsInView): KnownPool {
  const names = podChoice(query, ip.family)
  const annotation = POOL_ANNOTATION[ip.family]
  return poolWith(ip, pools, pool =>
    names.length > 0 && !names.includes(pool.name)
      ? `is not what ${annotation} names: ${names.join(', ')}`
      : whyNot(pool, query),
  )
}

/** None: nobody could be served. */
export function chosen(query: PoolQuery, family: Family, { pools }: PoolsInView): KnownPool[] {
  const { names } = choiceFor(query, family)
  const serving = pools.filter(pool => pool.cidr.family === family && whyNot(pool, query) === null)
  return names.length === 0 ? serving : names.flatMap(name => serving.filter(pool => pool.name === name))
}

const podChoice = ({ podPools }: PoolQuery, family: Family): readonly string[] => podPools?.[family] ?? []

/** `by`: who chose, for errors. */
function choiceFor(query: PoolQuery, family: Family): { names: readonly string[]; by: string | null } {
  const names = podChoice(query, family)
  if (names.length > 0) return { names, by: `annotation ${POOL_ANNOTATION[family]} of the pod` }
  return { names: query.pools, by: null }
}

export function noPool(query: PoolQuery, view: PoolsInView, family?: Family): TwillError {
  const { names, by } = family === undefined ? { names: query.pools, by: null } : choiceFor(query, family)
  const conditions = view.conditions()
  const what = [
    'no enabled pool',
    ...(names.length === 0 ? [] : [`named ${names.join(' or ')}`]),
    ...(query.use === 'pod' ? [] : [`that allows ${query.use}`]),
    ...(family === undefined ? [] : [`for IPv${family}`]),
    ...(by === null ? [] : [`(${by})`]),
  ].join(' ')
  const reasons = [
    ...reasonsOf(query, names, view.pools, family).slice(0, REASONS),
    ...conditions.map(({ pool, reason }) => `${pool}: ${reason}`),
  ]
  return new TwillError('ipam.no-pool', [what, ...reasons].join('; '), {
    pools: names,
    family: family ?? null,
    conditions,
  })
}

function reasonsOf(
  query: PoolQuery,
  names: readonly string[],
  pools: readonly KnownPool[],
  family: Family | undefined,
): string[] {
  const missing = names.filter(name => !pools.some(pool => pool.name === name))
  const concerned = pools.filter(({ name, cidr }) =>
    names.length > 0 ? names.includes(name) : (family ?? cidr.family) === cidr.family,
  )
  const unfit = concerned.flatMap(pool => {
    const otherFamily =
      family === undefined || pool.cidr.family === family ? null : `is for IPv${pool.cidr.family}`
    const why = otherFamily ?? whyNot(pool, query)
    return why === null ? [] : [`IPPool ${pool.name} ${why}`]
  })
  return [...missing.map(name => `there is no IPPool ${name}`), ...unfit]
}

/** Why nothing is handed out of this pool for such a use, or null. */
export function whyNot(
  { open, disabled, here, uses }: KnownPool,
  { use }: Pick<PoolQuery, 'use'>,
): string | null {
  if (!open) return 'is being removed or not entered yet'
  if (disabled) return 'is disabled'
  if (!here) return 'is not for this node: nodeSelector'
  return uses.includes(use) ? null : `is not for ${use}: allowedUses ${uses.join(', ')}`
}
