/**
 * The network between the nodes, as unkind as a cloud's: a bridge that drops every packet that carries a pod's address
 * as its own (outside VXLAN), with counters, and an "outside" that no node knows a route to but by default.
 */
import { readFileSync } from 'node:fs'
import { DOCKER, hardwareAddress, type NodeLayout, PODS, UNDERLAY } from './layout.ts'
import type { Machine } from './machine.ts'
import { must, until } from './processes.ts'

/** The first 112 bits of PODS.v6 as nft 1.0.6 wants raw payload: it does not know `icmpv6 taddr`. */
const ND_TARGET = '0xfd00001002440000000000000000'

/** One counter per direction and kind; an ARP or neighbour question for a pod's address betrays a leak as well. */
const COUNTERS = {
  'ip-source': `ip saddr ${PODS.v4}`,
  'ip-destination': `ip daddr ${PODS.v4}`,
  'ip6-source': `ip6 saddr ${PODS.v6}`,
  'ip6-destination': `ip6 daddr ${PODS.v6}`,
  'arp-sender': `arp saddr ip ${PODS.v4}`,
  'arp-target': `arp daddr ip ${PODS.v4}`,
  'nd-target': `icmpv6 type { nd-neighbor-solicit, nd-neighbor-advert } @th,64,112 ${ND_TARGET}`,
}

const counterName = (key: string) => `dropped-${key}`

/** Frames to the gateway and the outside pass `prerouting` as well; what the underlay itself sends passes `output`. */
function leakFilter(): string {
  const counters = Object.keys(COUNTERS).map(key => `  counter ${counterName(key)} { }`)
  const rules = Object.entries(COUNTERS).map(
    ([key, match]) => `    ${match} counter name "${counterName(key)}" drop`,
  )
  const chain = (hook: string) => [
    `  chain ${hook} {`,
    `    type filter hook ${hook} priority 0;`,
    ...rules,
    '  }',
  ]
  return ['table bridge cloud {', ...counters, ...chain('prerouting'), ...chain('output'), '}', ''].join('\n')
}

/** @param underlay a machine that has just come up */
export async function layUnderlay(underlay: Machine, { dropsPods }: { dropsPods: boolean }): Promise<void> {
  await underlay.script(`
ip link add underlay type bridge
sysctl -qw net.ipv6.conf.underlay.accept_dad=0
ip link set underlay up
ip addr add ${UNDERLAY.v4.address}/${UNDERLAY.v4.prefix} dev underlay
ip addr add ${UNDERLAY.v6.address}/${UNDERLAY.v6.prefix} dev underlay nodad
ip addr add ${UNDERLAY.outside.v4}/32 dev lo
ip addr add ${UNDERLAY.outside.v6}/128 dev lo nodad
`)
  if (dropsPods) await underlay.must(['nft', '-f', '-'], { input: leakFilter() })
}

export interface Leak {
  kind: string
  packets: number
}

/** @returns how many packets with a pod's address the underlay dropped, by kind, all kinds */
export async function readLeaks(underlay: Machine): Promise<Leak[]> {
  const listing = await underlay.must(['nft', '-j', 'list', 'counters', 'table', 'bridge', 'cloud'])
  const { nftables } = JSON.parse(listing) as { nftables: { counter?: { name: string; packets: number } }[] }
  const packets = new Map(
    nftables.flatMap(({ counter }) => (counter ? [[counter.name, counter.packets]] : [])),
  )
  return Object.keys(COUNTERS).map(kind => ({ kind, packets: packets.get(counterName(kind)) ?? 0 }))
}

export interface NodeNetwork {
  cluster: string
  node: NodeLayout
  /** Counts replacements of the machine: another number, another MAC. */
  generation: number
  firewalled: boolean
}

/**
 * docker0 comes first, so that its address is the first global one by interface index: the kernel takes that for
 * packets whose route names no source. A machine announces its addresses when it boots (arp_notify): another one
 * under the same address would else be unreachable until its neighbours' entries fail.
 */
export async function connectNode(underlay: Machine, machine: Machine, network: NodeNetwork): Promise<void> {
  const { node, generation, cluster } = network
  const mac = hardwareAddress(cluster, node.name, generation)
  await machine.script(`
for scope in all default; do echo 1 >/proc/sys/net/ipv4/conf/$scope/rp_filter; done
ip link add docker0 type bridge
ip addr add ${DOCKER.v4} dev docker0
ip addr add ${DOCKER.v6} dev docker0 nodad
ip link set docker0 up
`)
  const port = `port${node.number}`
  // The peer is born in the node: `ip` runs on the host's side of the pid namespaces, where that id means something.
  const link = ['link', 'add', port, 'type', 'veth', 'peer', 'name', 'eth0', 'address', mac]
  await must('nsenter', ['-t', String(underlay.pid), '-n', '--', 'ip', ...link, 'netns', String(machine.pid)])
  await underlay.script(`ip link set ${port} master underlay up`)
  await machine.script(`
echo 1 >/proc/sys/net/ipv4/conf/eth0/arp_notify
echo 1 >/proc/sys/net/ipv6/conf/eth0/ndisc_notify
ip addr add ${node.v4}/${UNDERLAY.v4.prefix} dev eth0
ip addr add ${node.v6}/${UNDERLAY.v6.prefix} dev eth0 nodad
ip link set eth0 up
ip route add default via ${UNDERLAY.v4.address}
ip -6 route add default via ${UNDERLAY.v6.address}
${network.firewalled ? FIREWALL : ''}
`)
  await announce(underlay, machine, port, mac)
}

/** STP's name for a port that passes frames (linux/if_bridge.h, BR_STATE_FORWARDING). */
const FORWARDING = '3'

/** What is sent before the bridge's port passes frames is lost. Writing its own MAC makes the kernel announce anew. */
async function announce(underlay: Machine, machine: Machine, port: string, mac: string): Promise<void> {
  const state = underlay.path(`/sys/class/net/${port}/brport/state`)
  await until(
    () => readFileSync(state, 'utf8').trim() === FORWARDING,
    5_000,
    () => `${port} does not pass frames`,
  )
  await machine.must(['ip', 'link', 'set', 'eth0', 'address', mac])
}

/**
 * The kernel takes a dead namespace's interfaces away when it gets to it; until then a machine without processes
 * answers pings. Does nothing if the port is gone.
 */
export async function unplugNode(underlay: Machine, node: NodeLayout): Promise<void> {
  if (!underlay.running) return
  const port = `port${node.number}`
  const removed = await underlay.run(['ip', 'link', 'del', port])
  if (removed.status !== 0 && !removed.stderr.includes('Cannot find device'))
    throw new Error(`${port}: ${removed.stderr.trim()}`)
}

/** As Docker leaves FORWARD and a host firewall leaves INPUT: open to answers, ICMP and ssh. VXLAN is not foreseen. */
const FIREWALL = ['iptables', 'ip6tables']
  .map(
    program => `
${program} -P FORWARD DROP
${program} -P INPUT DROP
${program} -A INPUT -i lo -j ACCEPT
${program} -A INPUT -m conntrack --ctstate ESTABLISHED,RELATED -j ACCEPT
${program} -A INPUT -p ${program === 'iptables' ? 'icmp' : 'ipv6-icmp'} -j ACCEPT
${program} -A INPUT -p tcp --dport 22 -j ACCEPT`,
  )
  .join('\n')
