/** The fake as text, one object a line, sorted: so that a test reads as a diff. */
import type { Link, SetElement } from '../kernel.ts'
import type { FakeNetwork } from './network.ts'

export function dumpNetwork(network: FakeNetwork): string[] {
  return [
    ...[...network.links.values()].map(linkLine),
    ...network.addresses.map(a => `address ${a.device} ${a.address}/${a.prefix} scope ${a.scope}`),
    ...network.routes.map(
      r =>
        `route ${r.dst} ${r.type}${word('dev', r.device)}${word('via', r.gateway)}${word('src', r.src)} metric ${r.metric} proto ${r.protocol}${r.onlink ? ' onlink' : ''}`,
    ),
    ...network.neighbours.map(n => `neighbour ${n.device} ${n.address} ${n.mac}`),
    ...network.fdb.map(f => `fdb ${f.device} ${f.mac}${word('dst', f.dst)}`),
  ].sort()
}

export function dumpElements(elements: readonly SetElement[]): string[] {
  return elements.map(({ set, element }) => `element ${set} { ${element} }`).sort()
}

function linkLine(link: Link): string {
  const vxlan =
    link.vxlan === null
      ? ''
      : ` vni ${link.vxlan.vni} port ${link.vxlan.port}${word('local', link.vxlan.local)}${word('underlay', link.vxlan.underlay)}`
  const group = link.group === 0 ? '' : ` group ${link.group}`
  return `link ${link.name} ${link.kind ?? '-'} ${link.mac} mtu ${link.mtu} ${link.up ? 'up' : 'down'}${word('alias', link.alias)}${group}${vxlan}`
}

function word(name: string, value: string | null): string {
  return value === null ? '' : ` ${name} ${value}`
}
