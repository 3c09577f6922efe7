/**
 * The overlay's rules: what pods may send, what is taken from a tunnel, whose address a packet bears when it
 * leaves. A pure function from facts to the text of table inet twill; docs/netfilter.md goes through it.
 *
 * Invariant: the chains depend on the VTEP, on our own addresses and on nothing else; pods, pools, nodes and
 * peers are elements of sets, so that their changes leave every rule (and its counter) where it is. Packet and
 * conntrack marks are read, never written. Whatever the node sends or forwards meets these chains, so what a
 * comparison can tell (device, protocol, port) comes before what is searched in a set.
 * Trap: nft 1.0.6 refuses `} }` on one line and declared types for raw payload; `typeof` it is.
 */
import type { Ruleset } from '../../kernel/kernel.ts'
import { POD_LINK_PREFIX } from '../../kernel/ownership.ts'
import type { Family } from '../../lib/address.ts'
import { compileElements, FAMILIES, SETS } from './elements.ts'
import type { RulesInput } from './rules-input.ts'

const PODS = `"${POD_LINK_PREFIX}*"`
const IP = { 4: 'ip', 6: 'ip6' } as const
const TYPE = { 4: 'ipv4_addr', 6: 'ipv6_addr' } as const
/** Offsets in bits from the end of the outer UDP header: VXLAN 64, inner Ethernet 112, then inner IP. */
const INNER = {
  4: { protocol: '@ih,160,16 0x0800', source: '@ih,272,32' },
  6: { protocol: '@ih,160,16 0x86dd', source: '@ih,240,128' },
} as const
/** Never forwarded off the link, or never to be given another source. */
const LEFT_ALONE = { 4: '{ 224.0.0.0/4, 255.255.255.255 }', 6: '{ fe80::/10, ff00::/8 }' } as const

type Vtep = NonNullable<RulesInput['vtep']>

/** @throws TwillError address.invalid when a fact is no address or prefix */
export function compileRules(input: RulesInput): Ruleset {
  const chains = [
    ...FAMILIES.flatMap(sets),
    ...(input.vtep === null ? [] : vtepSets()),
    prerouting(input.vtep),
    fromPod(),
    ...(input.vtep === null ? [] : vtepChains(input.vtep)),
    postroutingNat(input),
    toPod(input),
    toTunnel(input),
    postroutingLeak(input),
    leak(),
  ]
  return { chains: `${chains.join('\n\n')}\n`, elements: compileElements(input) }
}

function block(head: string, lines: readonly string[]): string {
  return [`${head} {`, ...lines.map(line => `  ${line}`), '}'].join('\n')
}

/** The comment is what an operator reads in `nft list table inet twill`. */
const dropped = (what: string): string => `counter drop comment "${what}"`

const each = (line: (family: Family) => string): string[] => FAMILIES.map(line)

function sets(family: Family): string[] {
  const address = TYPE[family]
  const ranges = (name: string) => block(`set ${name}`, [`type ${address}`, 'flags interval'])
  return [
    block(`set ${SETS.endpoints(family)}`, [`type ifname . ${address} . ether_addr`]),
    block(`set ${SETS.hairpins(family)}`, [`type ifname . ${address}`]),
    ranges(SETS.pools(family)),
    ranges(SETS.overlay(family)),
    ranges(SETS.nat(family)),
    block(`set ${SETS.natExcluded(family)}`, [`type ${address} . ${address}`, 'flags interval']),
    block(`set ${SETS.nodes(family)}`, [`type ${address}`]),
  ]
}

function vtepSets(): string[] {
  return FAMILIES.flatMap(outer =>
    FAMILIES.map(inner =>
      block(`set ${SETS.vtepSources(outer, inner)}`, [
        `typeof ${IP[outer]} saddr . ${INNER[inner].source}`,
        'flags interval',
      ]),
    ),
  )
}

/**
 * Before conntrack: what is dropped here leaves no trace in its table, what is not to be tracked says so here.
 * Whom an encapsulated packet comes from is judged in `vxlan`, so no set of sources is searched for it here.
 */
function prerouting(vtep: Vtep | null): string {
  return block('chain prerouting', [
    'type filter hook prerouting priority raw; policy accept;',
    `iifname ${PODS} goto from_pod`,
    ...(vtep?.devices ?? []).map(name => `iifname "${name}" accept`),
    'iifname "lo" accept',
    ...(vtep === null ? [] : [`udp dport ${vtep.port} fib daddr type local notrack accept`]),
    ...each(family => `${IP[family]} saddr @${SETS.overlay(family)} counter drop`),
  ])
}

/**
 * A pod speaks from its own addresses and its own MAC; besides, what IPv6 needs on the link itself: rarely, since a
 * flood from many link-local sources would fill the neighbour table, which all devices of the node share. Where
 * kube-proxy or portmap set route_localnet, the node's loopback would be open to pods (CVE-2020-8558).
 */
function fromPod(): string {
  const onLink =
    'mld-listener-report, mld-listener-done, mld2-listener-report, nd-router-solicit, nd-neighbor-solicit, nd-neighbor-advert'
  return block('chain from_pod', [
    'icmpv6 type { nd-router-advert, nd-redirect } counter drop',
    'ip daddr 127.0.0.0/8 counter drop',
    ...each(family => `iifname . ${IP[family]} saddr . ether saddr @${SETS.endpoints(family)} accept`),
    `ip6 saddr { ::, fe80::/10 } ip6 daddr { fe80::/10, ff00::/8 } icmpv6 type { ${onLink} } limit rate 100/second burst 100 packets accept`,
    dropped('not from this pod'),
  ])
}

function vtepChains(vtep: Vtep): string[] {
  const vxlan = `udp dport ${vtep.port}`
  const toNodes = (family: Family) => `${IP[family]} daddr @${SETS.nodes(family)}`
  return [
    block('chain output', [
      'type filter hook output priority raw; policy accept;',
      ...each(family => `${vxlan} ${toNodes(family)} notrack`),
    ]),
    block('chain input', ['type filter hook input priority filter; policy accept;', `${vxlan} goto vxlan`]),
    block('chain vxlan', [
      ...FAMILIES.flatMap(outer =>
        FAMILIES.map(inner => {
          const { protocol, source } = INNER[inner]
          return `${protocol} ${IP[outer]} saddr . ${source} @${SETS.vtepSources(outer, inner)} accept`
        }),
      ),
      dropped('not from a known node'),
    ]),
    block('chain forward', [
      'type filter hook forward priority filter; policy accept;',
      ...each(
        family => `${vxlan} ${IP[family]} saddr @${SETS.pools(family)} ${toNodes(family)} counter drop`,
      ),
    ]),
  ]
}

/**
 * What of a pool's traffic must not leave under its own source by any other way than to pods or tunnel:
 * from an overlay, to nodes and to pools whose addresses the underlay carries; with natOutgoing, to all others but
 * those excluded from it.
 */
function foreign(family: Family): string[] {
  const [ip, pools, nodes] = [IP[family], `@${SETS.pools(family)}`, `@${SETS.nodes(family)}`]
  return [
    `${ip} saddr @${SETS.overlay(family)} ${ip} daddr ${nodes}`,
    `${ip} saddr @${SETS.overlay(family)} ${ip} daddr ${pools}`,
    `${ip} saddr @${SETS.nat(family)} ${ip} daddr != ${pools} ${ip} daddr != ${nodes} ${ip} saddr . ${ip} daddr != @${SETS.natExcluded(family)}`,
  ]
}

const leftAlone = (verdict: string) => each(family => `${IP[family]} daddr ${LEFT_ALONE[family]} ${verdict}`)

const tunnelDevices = (input: RulesInput) => input.vtep?.devices.map(name => `"${name}"`).join(', ') ?? ''

/** Just before 100, where kube-proxy and portmap masquerade: the first to bind a flow's source wins. */
function postroutingNat(input: RulesInput): string {
  return block('chain postrouting_nat', [
    'type nat hook postrouting priority srcnat - 5; policy accept;',
    `oifname ${PODS} goto to_pod`,
    ...(input.vtep === null ? [] : [`oifname { ${tunnelDevices(input)} } goto to_tunnel`]),
    'oifname "lo" return',
    ...leftAlone('return'),
    ...FAMILIES.flatMap(foreign).map(match => `${match} masquerade fully-random`),
  ])
}

/**
 * `masquerade` towards a pod would take the first global address the kernel finds, since host ends bear none:
 * docker0's, say, which each node has, and by which no pod can tell who asks. So what is about to be masqueraded gets
 * the node's.
 */
function toPod(input: RulesInput): string {
  const marked = `meta mark & 0x${input.masqueradeMarks.toString(16)} != 0x0`
  const rules = FAMILIES.flatMap(family => {
    const source = input.nodeSource[family]
    if (source === undefined) return []
    const snat = `snat ${IP[family]} to ${source}`
    return [
      ...(family === 4 ? [`ip saddr 127.0.0.0/8 ${snat}`] : []),
      `oifname . ${IP[family]} saddr @${SETS.hairpins(family)} ${snat}`,
      ...(input.masqueradeMarks === 0 ? [] : [`meta nfproto ipv${family} ${marked} ${snat}`]),
    ]
  })
  return block('chain to_pod', rules)
}

/** The peer accepts from us only what lives here, and the answer must come back by the tunnel. */
function toTunnel(input: RulesInput): string {
  const rules = FAMILIES.flatMap(family => {
    const source = input.tunnel[family]
    return source === undefined
      ? []
      : [`${IP[family]} saddr != @${SETS.pools(family)} snat ${IP[family]} to ${source}`]
  })
  return block('chain to_tunnel', rules)
}

/**
 * After all source NAT: what still bears a pod's address here was not masqueraded although it had to be. `foreign`
 * concerns sources in pools only.
 */
function postroutingLeak(input: RulesInput): string {
  const allowed = [PODS, ...(input.vtep?.devices ?? []).map(name => `"${name}"`), '"lo"']
  return block('chain postrouting_leak', [
    'type filter hook postrouting priority srcnat + 200; policy accept;',
    ...allowed.map(device => `oifname ${device} accept`),
    ...each(family => `${IP[family]} saddr != @${SETS.pools(family)} accept`),
    ...leftAlone('accept'),
    ...FAMILIES.flatMap(foreign).map(match => `${match} goto leak`),
  ])
}

/** Answers to a flow that reached the pod by its own address keep it. Invalid and untracked have no direction. */
function leak(): string {
  return block('chain leak', ['ct direction reply accept', dropped('not masqueraded')])
}
