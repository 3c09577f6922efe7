/**
 * Pools of which each node takes only what Kubernetes has given it: the podCIDRs of its Node object. The rest of such a
 * pool is withheld from this node, as reserved addresses are; nobody asks anybody for addresses of it. Pure.
 */
import { type Cidr, covers, formatCidr, type IpRange, lastOf, overlaps, parseCidr } from '../lib/address.ts'
import type { SlotIndex } from './slot-index.ts'

/** What of a pool is this node's. */
export interface NodeRanges {
  /** Whole slots, in the pool, in order of address. */
  readonly cidrs: readonly Cidr[]
  /** Why there are none, or not all that the Node has; null: nothing is wrong. */
  readonly problem: string | null
  /** What is wrong may pass by itself. */
  readonly waits: boolean
}

/** Of the Node object. 'none': this node is in no Kubernetes cluster; 'unknown': the API server has not said yet. */
export type PodCidrs = readonly string[] | 'none' | 'unknown'

interface Pool {
  readonly cidr: Cidr
  readonly slotPrefix: number
}

/** @param known what was this node's before, as long as it is not known what is now; null: nothing */
export function nodeRangesOf(
  { cidr, slotPrefix }: Pool,
  podCidrs: PodCidrs,
  nodeName: string,
  known: NodeRanges | null,
): NodeRanges {
  const of = `of Node ${nodeName}`
  if (podCidrs === 'unknown') return known ?? none(`waits for the podCIDRs ${of}`, true)
  if (podCidrs === 'none')
    return none('is for podCIDRs of Kubernetes, and this node is in no such cluster: nodeSlots', false)
  if (podCidrs.length === 0) return none(`waits for the podCIDRs ${of}, which has none yet`, true)
  const read = podCidrs.map(parsed)
  const inside = read.filter(each => each !== null && overlaps(each, cidr)) as Cidr[]
  // One that holds the whole pool gives this node all of it.
  const shares = inside.map(each => (covers(each, cidr) ? cidr : each))
  const cidrs = shares.filter(({ prefix }) => prefix <= slotPrefix).sort((a, b) => (a.base < b.base ? -1 : 1))
  if (cidrs.length === shares.length && shares.length > 0) return { cidrs, problem: null, waits: false }
  const texts = podCidrs.join(', ')
  const problem =
    shares.length === 0
      ? `has none of the podCIDRs ${texts} ${of} in it`
      : `cannot give whole slots of /${slotPrefix} out of the podCIDRs ${texts} ${of}: blockSize`
  return { cidrs, problem, waits: false }
}

const none = (problem: string, waits: boolean): NodeRanges => ({ cidrs: [], problem, waits })

function parsed(text: string): Cidr | null {
  try {
    return parseCidr(text)
  } catch {
    return null
  }
}

/** What of the pool lies outside these, which lie in it. */
export function rangesOutside(cidr: Cidr, cidrs: readonly Cidr[]): IpRange[] {
  const outside: IpRange[] = []
  let next = cidr.base
  for (const each of cidrs) {
    if (each.base > next) outside.push({ family: cidr.family, first: next, last: each.base - 1n })
    const after = lastOf(each).value + 1n
    if (after > next) next = after
  }
  const end = lastOf(cidr).value
  return next > end ? outside : [...outside, { family: cidr.family, first: next, last: end }]
}

/** Kubernetes has given two nodes the same, or one node what a removed one has not left yet: whoever came first has it. */
export function sharedPodCidrs(
  {
    uid,
    name,
    nodeRanges,
  }: Pool & { readonly uid: string; readonly name: string; readonly nodeRanges: NodeRanges | null },
  nodeUid: string,
  {
    slots,
    nodes,
  }: {
    readonly slots: Pick<SlotIndex, 'keysOf' | 'get'>
    readonly nodes: readonly { uid: string; name: string }[]
  },
): { pool: string; reason: string }[] {
  const others = new Map<string, number>()
  for (const key of nodeRanges === null || nodeRanges.cidrs.length === 0 ? [] : slots.keysOf(uid))
    for (const { cidr, owner } of slots.get(key)?.value.parts ?? []) {
      const isOthers = owner !== null && owner !== nodeUid
      if (isOthers && nodeRanges?.cidrs.some(own => covers(own, parseCidr(cidr))))
        others.set(owner, (others.get(owner) ?? 0) + 1)
    }
  return [...others].map(([owner, parts]) => {
    const known = nodes.find(node => node.uid === owner)
    const who = known === undefined ? `a removed node (${owner})` : `node ${known.name}`
    const what = `${parts} ${parts === 1 ? 'part' : 'parts'} of ${textOf(nodeRanges as NodeRanges)}`
    return { pool: name, reason: `IPPool ${name}: ${who} owns ${what}, the podCIDRs of this node` }
  })
}

export const textOf = ({ cidrs }: NodeRanges): string => cidrs.map(formatCidr).join(', ')
