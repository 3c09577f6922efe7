/** Who is in the way of a pool's end, for people: nodes by name, pods, containers. */

import { counted } from '../lib/plural.ts'
import type { PoolUser } from './pool-removal.ts'

/** Of each node. */
const NAMED_MAX = 3
const NODES_MAX = 10

type HolderOfPool = PoolUser['holders'][number]

/** "5 pods hold addresses of it: default/web on node1, … and 2 more" */
export function inUseText(users: readonly PoolUser[], names: ReadonlyMap<string, string>): string {
  const held = users.flatMap(user =>
    user.holders.filter(isPod).map(each => `${titleOf(each)} on ${nameOf(user, names)}`),
  )
  const verb = held.length === 1 ? 'holds' : 'hold'
  return `${counted(held.length, 'pod')} ${verb} addresses of it: ${listed(held)}`
}

/** "node1: pods default/web and default/db; node2: 1 empty part" */
export function leftText(users: readonly PoolUser[], names: ReadonlyMap<string, string>): string {
  const more = users.length - NODES_MAX
  const named = users.slice(0, NODES_MAX).map(user => `${nameOf(user, names)}: ${whatOf(user)}`)
  return [...named, ...(more > 0 ? [`and ${counted(more, 'more node')}`] : [])].join('; ')
}

function whatOf({ holders, parts }: PoolUser): string {
  const pods = holders.filter(isPod).map(titleOf)
  if (pods.length > 0) return `${pods.length === 1 ? 'pod' : 'pods'} ${listed(pods)}`
  if (holders.length > 0) return 'its own address on the overlay'
  return `${counted(parts, 'empty part')}, which its daemon gives back when it runs`
}

/** Those of other plugins' interfaces too. */
const isPod = ({ kind }: HolderOfPool): boolean => kind !== 'tunnel'

const titleOf = ({ pod, containerId }: HolderOfPool): string =>
  pod === null ? `container ${containerId.slice(0, 13)}` : `${pod.namespace}/${pod.name}`

const nameOf = ({ uid }: PoolUser, names: ReadonlyMap<string, string>): string => names.get(uid) ?? uid

function listed(words: readonly string[]): string {
  const more = words.length - NAMED_MAX
  if (more > 0) return `${words.slice(0, NAMED_MAX).join(', ')} and ${more} more`
  return words.length < 2 ? words.join('') : `${words.slice(0, -1).join(', ')} and ${words.at(-1)}`
}
