/** From facts to what netfilter should hold: our own table, and what we need accepted in the tables of others. Pure. */
import type { AcceptChain } from '../../kernel/kernel.ts'
import { POD_LINK_PREFIX, VXLAN_LINK } from '../../kernel/ownership.ts'
import { type Family, formatCidr, formatIp, parseIp } from '../../lib/address.ts'
import { soundNodes } from '../../routing/nodes.ts'
import { isOverlay, isRouted, ownedParts, partsByOwner } from '../../routing/parts.ts'
import { compileRules } from '../../routing/vxlan/rules.ts'
import { KUBE_PROXY_AND_PORTMAP, type RulePeer, type RulesInput } from '../../routing/vxlan/rules-input.ts'
import type { Facts } from './facts.ts'
import { routeSource } from './pods.ts'
import type { DesiredRules } from './state.ts'

export function desiredRules(facts: Facts): DesiredRules {
  return { ruleset: compileRules(rulesInput(facts)), acceptChains: acceptChains(facts) }
}

/**
 * Endpoints are all attachments, also those whose operation is under way: an element for an interface that is
 * not there yet, or no more, admits nothing, while one that is missing cuts off a pod.
 */
export function rulesInput(facts: Facts): RulesInput {
  const { self, pools, attachments } = facts
  return {
    vtep: hasTunnel(facts) ? { port: self.vtep.port, devices: [VXLAN_LINK[4]] } : null,
    endpoints: attachments.filter(({ podMac }) => podMac !== ''),
    pools: pools.filter(isRouted).map(pool => ({
      cidr: pool.spec.cidr,
      natOutgoing: pool.spec.natOutgoing,
      natExclusions: pool.spec.natOutgoingExclusions ?? [],
      encapsulation: isOverlay(pool) ? 'Always' : 'Never',
    })),
    nodeAddresses: nodeAddresses(facts),
    peers: peers(facts),
    tunnel: self.tunnel,
    nodeSource: sources(facts),
    masqueradeMarks: KUBE_PROXY_AND_PORTMAP,
  }
}

const hasTunnel = ({ self, pools }: Facts): boolean =>
  self.underlay[4] !== undefined && pools.some(pool => isOverlay(pool))

/** Our own from what we see, not from our record, which may lag behind. */
function nodeAddresses({ self, nodes }: Facts): string[] {
  const own = Object.values(self.underlay).map(({ address }) => address)
  const others = soundNodes(nodes)
    .filter(({ uid }) => uid !== self.uid)
    .flatMap(node => [...Object.values(node.underlay), ...node.hostAddresses])
  const texts = [...own, ...self.hostAddresses, ...others].filter(text => text !== undefined)
  return [...new Set(texts.map(text => formatIp(parseIp(text))))].sort()
}

/** A peer is believed about what the slots say is its own; its word about tunnel addresses counts for nothing. */
function peers({ self, nodes, slots, pools }: Facts): RulePeer[] {
  const parts = partsByOwner(ownedParts(slots, pools).filter(({ overlay }) => overlay))
  return soundNodes(nodes).flatMap(({ uid, underlay }) => {
    const address = underlay[4]
    if (uid === self.uid || address === undefined) return []
    return [{ underlay: [address], sources: (parts.get(uid) ?? []).map(({ cidr }) => formatCidr(cidr)) }]
  })
}

function sources({ self }: Facts): Partial<Record<Family, string>> {
  const known = ([4, 6] as const).flatMap(family => {
    const source = routeSource(self, family)
    return source === null ? [] : [[family, source] as const]
  })
  return Object.fromEntries(known)
}

/**
 * Narrow on purpose, since an operator who drops by default means it: forwarding to and from pods and tunnel,
 * which our own table judges; into the node only VXLAN (judged by our table too), replies, and the ICMPv6
 * that neighbour discovery is made of.
 */
function acceptChains(facts: Facts): AcceptChain[] {
  const pods = `${POD_LINK_PREFIX}+`
  const tunnel = hasTunnel(facts) ? [VXLAN_LINK[4]] : []
  const devices = [pods, ...tunnel]
  const forward = devices.flatMap(device => [
    ['-i', device],
    ['-o', device],
  ])
  const replies = devices.map(device => ['-i', device, '-m', 'conntrack', '--ctstate', 'RELATED,ESTABLISHED'])
  const vxlan = ['-p', 'udp', '--dport', String(facts.self.vtep.port)]
  return [
    { hook: 'forward', family: 4, matches: forward },
    { hook: 'forward', family: 6, matches: forward },
    { hook: 'input', family: 4, matches: [...(tunnel.length > 0 ? [vxlan] : []), ...replies] },
    { hook: 'input', family: 6, matches: [['-i', pods, '-p', 'ipv6-icmp'], ...replies] },
  ]
}
