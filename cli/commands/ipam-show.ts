/** `ipam show`: which addresses are whose. A map of pools, of parts; one address, node or pod with its holders. */
import { parseIp } from '../../lib/address.ts'
import { TwillError } from '../../lib/errors.ts'
import {
  type AddressMap,
  type Holders,
  readMap,
  readMapOf,
  shownAddress,
  shownHolders,
  shownParts,
  shownPools,
} from '../address-map.ts'
import { addressText, holderTables, partMap, poolMap } from '../render/address-map.ts'
import { renderJson, renderYaml } from '../render/documents.ts'
import type { Session } from '../session.ts'

export type Subject =
  | { readonly by: 'pools' }
  | { readonly by: 'parts' }
  | { readonly by: 'address'; readonly address: string }
  | { readonly by: 'node'; readonly node: string }
  /** NAMESPACE/NAME, or a name in any namespace. */
  | { readonly by: 'pod'; readonly pod: string }

export type ShowFormat = 'table' | 'yaml' | 'json'

/** @throws address.invalid, resource.not-found, store.* */
export async function ipamShow(subject: Subject, format: ShowFormat, session: Session): Promise<number> {
  const { shown, text } = await answer(subject, session)
  session.modules.stdout.write(
    format === 'json' ? renderJson(shown) : format === 'yaml' ? renderYaml([shown as object]) : text,
  )
  return 0
}

interface Shown {
  readonly shown: unknown
  readonly text: string
}

async function answer(subject: Subject, session: Session): Promise<Shown> {
  const warn = (line: string) => session.warn(line)
  if (subject.by === 'address') return address(subject.address, session)
  const map = await readMap(await session.store(), warn)
  if (subject.by === 'node') return node(subject.node, map)
  if (subject.by === 'pod') return pod(subject.pod, map)
  if (subject.by === 'pools') {
    const pools = shownPools(map)
    if (pools.length === 0) session.note('no ippools')
    return { shown: pools, text: pools.length === 0 ? '' : poolMap(pools) }
  }
  const parts = shownParts(map, null)
  if (parts.length === 0) session.note('no parts: no node has claimed any')
  return { shown: parts, text: parts.length === 0 ? '' : partMap(parts) }
}

async function address(text: string, session: Session): Promise<Shown> {
  const ip = parseIp(text)
  const map = await readMapOf(ip, await session.store(), line => session.warn(line))
  if (map === null) throw new TwillError('resource.not-found', `${text}: in no IPPool`, { address: text })
  const shown = shownAddress(map, ip)
  return { shown, text: addressText(shown) }
}

/** By name; a machine that was replaced has left another UID under the same one. */
function node(name: string, map: AddressMap): Shown {
  const uids = new Set(
    [...map.names].filter(([uid, each]) => each === name || uid === name).map(([uid]) => uid),
  )
  if (uids.size === 0) throw new TwillError('resource.not-found', `Node ${name}: not found`, { node: name })
  const parts = shownParts(map, uids)
  const { holders, before } = shownHolders(map, (_, owner) => uids.has(owner))
  const shown = { node: name, parts, holders, before }
  const table = parts.length === 0 ? `${name} owns no addresses\n` : partMap(parts)
  return { shown, text: holders.length + before.length === 0 ? table : `${table}\n${holderTables(shown)}` }
}

function pod(name: string, map: AddressMap): Shown {
  const matches = (pod: string | null) =>
    pod !== null && (name.includes('/') ? pod === name : pod.slice(pod.indexOf('/') + 1) === name)
  const shown: Holders = shownHolders(map, each => matches(each.pod))
  if (shown.holders.length + shown.before.length === 0)
    throw new TwillError('resource.not-found', `pod ${name}: holds no address, and held none lately`, {
      pod: name,
    })
  return { shown: { pod: name, ...shown }, text: holderTables(shown) }
}
