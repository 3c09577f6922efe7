/**
 * Others' base chains on the forward and input hooks, as far as they drop what no rule of theirs speaks of: by
 * policy, or by a rule without a match, in the chain itself or where it jumps to without a match.
 */
import { forEachAttribute, readAttributes, readString } from '../netlink/attributes.ts'
import { Datagram } from '../netlink/datagram.ts'
import type { NetlinkSocket } from '../netlink/socket.ts'
import * as nft from './constants.ts'

export interface BaseChain {
  /** ip, ip6 or inet. */
  readonly family: string
  readonly table: string
  readonly chain: string
  readonly hook: 'forward' | 'input'
  readonly reason: string
}

/** What a rule does to every packet that reaches it; null: it has a match, or no verdict. */
export type Verdict = { readonly kind: 'drop' } | { readonly kind: 'jump'; readonly chain: string } | null

const FAMILIES: ReadonlyMap<number, string> = new Map([
  [nft.NFPROTO_INET, 'inet'],
  [nft.NFPROTO_IPV4, 'ip'],
  [nft.NFPROTO_IPV6, 'ip6'],
])
const HOOKS: ReadonlyMap<number, 'forward' | 'input'> = new Map([
  [nft.NF_INET_LOCAL_IN, 'input'],
  [nft.NF_INET_FORWARD, 'forward'],
])

/** Tables of this namespace as `family name`. @throws TwillError kernel.failed */
export function readTableNames(socket: NetlinkSocket): Set<string> {
  const names = dump(socket, nft.NFT_MSG_GETTABLE, 0, null, (family, attributes) => {
    return `${FAMILIES.get(family) ?? family} ${textOf(attributes, nft.NFTA_TABLE_NAME)}`
  })
  return new Set(names)
}

/** @throws TwillError kernel.failed */
export function readDroppingChains(socket: NetlinkSocket): BaseChain[] {
  const found = dump(socket, nft.NFT_MSG_GETCHAIN, 0, null, (family, attributes) => {
    const hookAttributes = attributes.get(nft.NFTA_CHAIN_HOOK)
    const number =
      hookAttributes && readAttributes(hookAttributes).get(nft.NFTA_HOOK_HOOKNUM)?.readUInt32BE(0)
    const hook = number === undefined ? undefined : HOOKS.get(number)
    if (hook === undefined || !FAMILIES.has(family)) return null
    return {
      protocol: family,
      table: textOf(attributes, nft.NFTA_CHAIN_TABLE),
      chain: textOf(attributes, nft.NFTA_CHAIN_NAME),
      hook,
      policyDrops: attributes.get(nft.NFTA_CHAIN_POLICY)?.readUInt32BE(0) === nft.NF_DROP,
    }
  })
  return found.flatMap(({ protocol, table, chain, hook, policyDrops }) => {
    const reason = policyDrops ? 'policy drop' : ruleThatDrops(socket, protocol, table, chain)
    return reason === null ? [] : [{ family: FAMILIES.get(protocol) as string, table, chain, hook, reason }]
  })
}

function ruleThatDrops(socket: NetlinkSocket, protocol: number, table: string, base: string): string | null {
  const verdicts = new Map<string, Verdict[]>()
  const rules = dump(socket, nft.NFT_MSG_GETRULE, protocol, table, (_, attributes) => ({
    table: textOf(attributes, nft.NFTA_RULE_TABLE),
    chain: textOf(attributes, nft.NFTA_RULE_CHAIN),
    verdict: verdictOf(attributes.get(nft.NFTA_RULE_EXPRESSIONS) ?? Buffer.alloc(0)),
  }))
  for (const rule of rules)
    if (rule.table === table) verdicts.set(rule.chain, [...(verdicts.get(rule.chain) ?? []), rule.verdict])
  const visited = new Set<string>()
  for (const pending = [base]; pending.length > 0; ) {
    const chain = pending.pop() as string
    if (visited.has(chain)) continue
    visited.add(chain)
    for (const verdict of verdicts.get(chain) ?? []) {
      if (verdict?.kind === 'drop') return `a rule in chain ${chain} drops whatever reaches it`
      if (verdict?.kind === 'jump') pending.push(verdict.chain)
    }
  }
  return null
}

/** Expressions that look at nothing of the packet. */
const WITHOUT_MATCH = new Set(['counter', 'log', 'last'])

/** NFTA_RULE_EXPRESSIONS: a list of {name, data}. A rule matches nothing when all but its verdict only record. */
export function verdictOf(expressions: Buffer): Verdict {
  let verdict: Verdict = null
  let matches = false
  forEachAttribute(expressions, 0, expressions.length, (_, element) => {
    const expression = readAttributes(element)
    const name = textOf(expression, nft.NFTA_EXPR_NAME)
    const data = expression.get(nft.NFTA_EXPR_DATA) ?? Buffer.alloc(0)
    const here = verdictOfExpression(name, data)
    verdict = here ?? verdict
    matches ||= here === null && !WITHOUT_MATCH.has(name)
  })
  return matches ? null : verdict
}

function verdictOfExpression(name: string, data: Buffer): Verdict {
  if (name === 'reject') return { kind: 'drop' }
  const attributes = readAttributes(data)
  // iptables-nft carries targets of iptables in this.
  if (name === 'target')
    return ['REJECT', 'DROP'].includes(textOf(attributes, nft.NFTA_TARGET_NAME)) ? { kind: 'drop' } : null
  const value = name === 'immediate' ? attributes.get(nft.NFTA_IMMEDIATE_DATA) : undefined
  const verdict = value && readAttributes(value).get(nft.NFTA_DATA_VERDICT)
  if (verdict === undefined) return null
  const members = readAttributes(verdict)
  const code = members.get(nft.NFTA_VERDICT_CODE)?.readInt32BE(0)
  if (code === nft.NF_DROP) return { kind: 'drop' }
  if (code === nft.NFT_JUMP || code === nft.NFT_GOTO)
    return { kind: 'jump', chain: textOf(members, nft.NFTA_VERDICT_CHAIN) }
  return null
}

type Attributes = ReadonlyMap<number, Buffer>

/** struct nfgenmsg begins with the family, in requests and in answers. */
function dump<T>(
  socket: NetlinkSocket,
  type: number,
  family: number,
  table: string | null,
  read: (family: number, attributes: Attributes) => T | null,
): T[] {
  const request = new Datagram(256).begin(type, 0).u8(family).u8(0).u16(0)
  if (table !== null) request.attrString(nft.NFTA_RULE_TABLE, table)
  return socket.dump('nft dump', request, message =>
    read(
      message.bytes.readUInt8(message.start),
      readAttributes(message.bytes, message.start + 4, message.end),
    ),
  )
}

const textOf = (attributes: Attributes, type: number): string =>
  readString(attributes.get(type) ?? Buffer.alloc(0))
