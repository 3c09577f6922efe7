/**
 * Which pools an allocation may take from. Whoever is first in the selection order decides for a family, also when
 * what he names cannot be used: nobody gets an address from a pool that was not meant for him because another is full
 * or misspelt. The order: what the pod asks for, its namespace, the network configuration, all that match. A pool's
 * namespaceSelector holds whoever names the pool. Pure.
 */
import type { Use } from '../datastore/resources/ippool.ts'
import type { Family, Ip } from '../lib/address.ts'
import { TwillError } from '../lib/errors.ts'
import { POOL_ANNOTATION, type PoolNames } from '../lib/pool-annotations.ts'
import { poolWith } from './named.ts'
import { type KnownNamespace, means } from './namespaces.ts'
import type { KnownPool, PoolCondition } from './pool-view.ts'

export interface PoolQuery {
  readonly use: Use
  /** Of the pod; null: it has none, or nobody says. 'any': asked on behalf of pods to come. */
  readonly namespace: KnownNamespace | null | 'any'
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
  refuseUnreadable(query)
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

/** What it says of its pods cannot be passed over. */
function refuseUnreadable({ namespace }: PoolQuery): void {
  if (namespace === null || namespace === 'any' || namespace.problem === null) return
  const { name, problem } = namespace
  throw new TwillError('ipam.no-pool', `Namespace ${name} cannot be read: ${problem}`, { namespace: name })
}

/** Those asked for, else those for which there is a pool, or for which pod or namespace names something. */
export function familiesFound(query: PoolQuery, view: PoolsInView): readonly Family[] {
  if (query.families.length > 0) return query.families
  const named = (query.addresses ?? []).map(({ family }) => family)
  return FAMILIES.filter(
    family =>
      named.includes(family) ||
      choiceFor(query, family, view.pools).by !== null ||
      chosen(query, family, view).length > 0,
  )
}

/**
 * In the order in which they are tried: the next ones when those before have nothing to give. @throws ipam.no-pool
 */
export function poolsOf(
  query: PoolQuery,
  family: Family,
  view: PoolsInView,
): readonly (readonly KnownPool[])[] {
  const all = chosen(query, family, view)
  if (all.length === 0) throw noPool(query, view, family)
  const found = all.filter(pool => !isWaiting(pool))
  if (found.length === 0) throw waiting(all)
  if (choiceFor(query, family, view.pools).names.length > 0) return found.map(pool => [pool])
  // A namespace has pools of its own in order that its pods take from them, and nodes need no such pool.
  const [own, common] = [true, false].map(isOwn =>
    found.filter(({ namespaceSelector }) => (namespaceSelector !== null) === isOwn),
  ) as [KnownPool[], KnownPool[]]
  return (query.use === 'tunnel' ? [common, own] : [own, common]).filter(({ length }) => length > 0)
}

/** Kubernetes has not given this node anything of it yet. */
const isWaiting = ({ nodeRanges }: KnownPool): boolean =>
  nodeRanges?.waits === true && nodeRanges.cidrs.length === 0

function waiting(pools: readonly KnownPool[]): TwillError {
  const reasons = pools.map(({ name, nodeRanges }) => `IPPool ${name} ${nodeRanges?.problem}`)
  const names = pools.map(({ name }) => name)
  return new TwillError('ipam.not-confirmed', reasons.join('; '), { pools: names }, { retryable: true })
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
  const { names } = choiceFor(query, family, pools)
  const serving = pools.filter(pool => pool.cidr.family === family && whyNot(pool, query) === null)
  return names.length === 0 ? serving : names.flatMap(name => serving.filter(pool => pool.name === name))
}

/** For pods of any namespace: those for all, where there are such; a namespace without room is no fault of the node. */
export function poolsToJudge(query: PoolQuery, view: PoolsInView): PoolsInView {
  const forAll = { ...view, pools: view.pools.filter(({ namespaceSelector }) => namespaceSelector === null) }
  const families = familiesFound(query, forAll)
  const isEnough = families.length > 0 && families.every(family => chosen(query, family, forAll).length > 0)
  return isEnough ? forAll : view
}

/** One whose pools are all for another use says nothing of this: its pods may have networks of several plugins. */
function namespaceChoice(
  { namespace, use }: PoolQuery,
  family: Family,
  pools: readonly KnownPool[],
): readonly string[] {
  if (namespace === null || namespace === 'any') return []
  return namespace.pools[family].filter(name => {
    const pool = pools.find(each => each.name === name)
    return pool === undefined || pool.uses.includes(use)
  })
}

const podChoice = ({ podPools }: PoolQuery, family: Family): readonly string[] => podPools?.[family] ?? []

/** `by`: who chose, for errors. */
function choiceFor(
  query: PoolQuery,
  family: Family,
  pools: readonly KnownPool[],
): { names: readonly string[]; by: string | null } {
  const annotation = `annotation ${POOL_ANNOTATION[family]}`
  const byPod = podChoice(query, family)
  if (byPod.length > 0) return { names: byPod, by: `${annotation} of the pod` }
  const byNamespace = namespaceChoice(query, family, pools)
  if (byNamespace.length > 0) return { names: byNamespace, by: `${annotation} of its namespace` }
  return { names: query.pools, by: null }
}

export function noPool(query: PoolQuery, view: PoolsInView, family?: Family): TwillError {
  const { names, by } =
    family === undefined ? { names: query.pools, by: null } : choiceFor(query, family, view.pools)
  // Of all: the address space itself cannot be read.
  const conditions = view
    .conditions()
    .filter(({ pool }) => names.length === 0 || pool === 'all' || names.includes(pool))
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
  pool: KnownPool,
  { use, namespace }: Pick<PoolQuery, 'use' | 'namespace'>,
): string | null {
  const { open, ending, disabled, here, covers, nodeRanges, uses, namespaceSelector } = pool
  if (!open) return ending === null ? 'is not entered yet' : 'is being removed'
  if (disabled) return 'is disabled'
  if (!here) return 'is not for this node: nodeSelector'
  if (covers !== null) return `${covers}, and is not used here`
  // One that only waits is there: else pods would come up without its family.
  if (nodeRanges !== null && nodeRanges.cidrs.length === 0 && !nodeRanges.waits) return nodeRanges.problem
  if (!uses.includes(use)) return `is not for ${use}: allowedUses ${uses.join(', ')}`
  // The tunnel's are the nodes' own.
  if (use === 'tunnel' || namespace === 'any' || namespaceSelector === null) return null
  if (namespace === null)
    return 'is for some namespaces, and nothing says which the pod is of: namespaceSelector'
  return means(namespaceSelector, namespace)
    ? null
    : `is not for namespace ${namespace.name}: namespaceSelector`
}
