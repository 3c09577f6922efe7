/**
 * What stands in the kernel of one table, so that two looks at it can be compared. Rules are told by handle: the
 * kernel never gives a handle twice in the life of a table, and replacing a rule gives a new one. Counters are
 * not looked at.
 */
import { forEachAttribute, readAttributes, readString } from '../netlink/attributes.ts'
import { Datagram } from '../netlink/datagram.ts'
import type { NetlinkMessage, NetlinkSocket } from '../netlink/socket.ts'
import {
  NFT_MSG_GETCHAIN,
  NFT_MSG_GETRULE,
  NFT_MSG_GETSET,
  NFT_MSG_GETSETELEM,
  NFT_MSG_GETTABLE,
  NFT_SET_ANONYMOUS,
  NFTA_CHAIN_HANDLE,
  NFTA_CHAIN_HOOK,
  NFTA_CHAIN_NAME,
  NFTA_CHAIN_POLICY,
  NFTA_CHAIN_TABLE,
  NFTA_DATA_VALUE,
  NFTA_LIST_ELEM,
  NFTA_RULE_CHAIN,
  NFTA_RULE_HANDLE,
  NFTA_RULE_TABLE,
  NFTA_SET_ELEM_FLAGS,
  NFTA_SET_ELEM_KEY,
  NFTA_SET_ELEM_KEY_END,
  NFTA_SET_ELEM_LIST_ELEMENTS,
  NFTA_SET_ELEM_LIST_SET,
  NFTA_SET_ELEM_LIST_TABLE,
  NFTA_SET_FLAGS,
  NFTA_SET_HANDLE,
  NFTA_SET_KEY_LEN,
  NFTA_SET_KEY_TYPE,
  NFTA_SET_NAME,
  NFTA_SET_TABLE,
  NFTA_TABLE_FLAGS,
  NFTA_TABLE_HANDLE,
  NFTA_TABLE_NAME,
} from './constants.ts'
import { writeDumpRequest } from './messages.ts'
import { type KeyLayout, keyLayout } from './set-key.ts'

export interface ObservedSet {
  readonly handle: string
  readonly flags: number
  /** null: its elements are not of a kind set-key.ts encodes. */
  readonly layout: KeyLayout | null
  /** Raw keys (and interval ends) as latin1 text, one character a byte. */
  readonly elements: Set<string>
}

export interface ObservedTable {
  /** Table, chains and rules, one line each, in the kernel's order. */
  readonly objects: string
  /** True: none of its chains is at work. */
  readonly dormant: boolean
  readonly chainNames: readonly string[]
  /** By name; anonymous ones are constant and left out. */
  readonly sets: Map<string, ObservedSet>
}

type Attributes = ReadonlyMap<number, Buffer>

const CHAIN = [NFTA_CHAIN_NAME, NFTA_CHAIN_HANDLE, NFTA_CHAIN_HOOK, NFTA_CHAIN_POLICY]

/** null when there is no such table. @throws TwillError kernel.failed */
export function readTable(socket: NetlinkSocket, table: string): ObservedTable | null {
  const dump = <T>(type: number, name: number, keep: (attributes: Attributes) => T) =>
    socket
      .dump('nft dump', writeDumpRequest(new Datagram(256), type, name, table), message => {
        const attributes = bodyOf(message)
        return readString(attributes.get(name) ?? Buffer.alloc(0)) === table
          ? { kept: keep(attributes) }
          : null
      })
      .map(({ kept }) => kept)
  const line = (kind: string, types: readonly number[]) => (attributes: Attributes) =>
    `${kind} ${types.map(type => attributes.get(type)?.toString('hex') ?? '').join(' ')}`

  const [found] = dump(NFT_MSG_GETTABLE, NFTA_TABLE_NAME, attributes => ({
    line: line('table', [NFTA_TABLE_HANDLE, NFTA_TABLE_FLAGS])(attributes),
    dormant: (attributes.get(NFTA_TABLE_FLAGS)?.readUInt32BE(0) ?? 0) !== 0,
  }))
  if (found === undefined) return null
  const chains = dump(NFT_MSG_GETCHAIN, NFTA_CHAIN_TABLE, attributes => ({
    line: line('chain', CHAIN)(attributes),
    name: readString(attributes.get(NFTA_CHAIN_NAME) ?? Buffer.alloc(0)),
  }))
  const rules = dump(NFT_MSG_GETRULE, NFTA_RULE_TABLE, line('rule', [NFTA_RULE_CHAIN, NFTA_RULE_HANDLE]))
  const sets = dump(NFT_MSG_GETSET, NFTA_SET_TABLE, describeSet).filter(
    ({ set }) => (set.flags & NFT_SET_ANONYMOUS) === 0,
  )
  for (const { name, set } of sets)
    for (const element of readElements(socket, table, name)) set.elements.add(element)
  return {
    objects: [found.line, ...chains.map(chain => chain.line), ...rules].join('\n'),
    dormant: found.dormant,
    chainNames: chains.map(({ name }) => name),
    sets: new Map(sets.map(({ name, set }) => [name, set])),
  }
}

/** A set's raw elements. @throws TwillError kernel.failed, ENOENT when there is no such set */
export function readElements(socket: NetlinkSocket, table: string, set: string): string[] {
  const request = writeDumpRequest(new Datagram(256), NFT_MSG_GETSETELEM, NFTA_SET_ELEM_LIST_TABLE, table)
  request.attrString(NFTA_SET_ELEM_LIST_SET, set)
  return socket
    .dump('nft dump of set elements', request, message => {
      const elements: string[] = []
      const list = bodyOf(message).get(NFTA_SET_ELEM_LIST_ELEMENTS)
      if (list !== undefined)
        forEachAttribute(list, 0, list.length, (type, element) => {
          if (type === NFTA_LIST_ELEM) elements.push(describeElement(readAttributes(element)))
        })
      return elements
    })
    .flat()
}

export function sameTable(a: ObservedTable, b: ObservedTable): boolean {
  if (a.objects !== b.objects || a.sets.size !== b.sets.size) return false
  for (const [name, set] of a.sets) {
    const other = b.sets.get(name)
    if (other === undefined || set.handle !== other.handle || set.elements.size !== other.elements.size)
      return false
    for (const element of set.elements) if (!other.elements.has(element)) return false
  }
  return true
}

const bodyOf = (message: NetlinkMessage) => readAttributes(message.bytes, message.start + 4, message.end)

function describeSet(attributes: Attributes): { name: string; set: ObservedSet } {
  const number = (type: number) => attributes.get(type)?.readUInt32BE(0) ?? 0
  const flags = number(NFTA_SET_FLAGS)
  return {
    name: readString(attributes.get(NFTA_SET_NAME) ?? Buffer.alloc(0)),
    set: {
      handle: attributes.get(NFTA_SET_HANDLE)?.toString('hex') ?? '',
      flags,
      layout: flags === 0 ? keyLayout(number(NFTA_SET_KEY_TYPE), number(NFTA_SET_KEY_LEN)) : null,
      elements: new Set(),
    },
  }
}

/** A plain element is its key and nothing else, so that it equals what set-key.ts encodes. */
function describeElement(attributes: Attributes): string {
  const value = (type: number) => {
    const data = attributes.get(type)
    return data === undefined ? '' : (readAttributes(data).get(NFTA_DATA_VALUE)?.toString('latin1') ?? '')
  }
  const key = value(NFTA_SET_ELEM_KEY)
  const end = value(NFTA_SET_ELEM_KEY_END)
  const flags = attributes.get(NFTA_SET_ELEM_FLAGS)?.readUInt32BE(0) ?? 0
  return end === '' && flags === 0 ? key : `${key}\u0100${end}\u0100${flags}`
}
