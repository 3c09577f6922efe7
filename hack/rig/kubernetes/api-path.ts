/**
 * How the API server reaches pods and Services (its proxy, webhooks, aggregated APIs): by a cable of its own to node1,
 * as where the control plane is a node. The underlay would drop packets with pods' addresses.
 */
import { PODS } from '../layout.ts'
import type { Machine } from '../machine.ts'
import { must } from '../processes.ts'
import { NODE_RANGES, SERVICES } from './layout.ts'

const NAME = 'control0'
const ENDS = {
  v4: { underlay: '192.168.78.1', node: '192.168.78.2', prefix: 30 },
  v6: { underlay: 'fd78::1', node: 'fd78::2', prefix: 64 },
} as const

/** Does nothing if the cable is there. */
export async function layApiPath(underlay: Machine, node: Machine): Promise<void> {
  if ((await node.run(['ip', 'link', 'show', NAME])).status === 0) return
  await underlay.run(['ip', 'link', 'del', NAME])
  // The peer is born in the node: `ip` runs on the host's side of the pid namespaces, where that id means something.
  const link = ['link', 'add', NAME, 'type', 'veth', 'peer', 'name', NAME, 'netns', String(node.pid)]
  await must('nsenter', ['-t', String(underlay.pid), '-n', '--', 'ip', ...link])
  const addresses = (end: 'underlay' | 'node') => `
ip addr add ${ENDS.v4[end]}/${ENDS.v4.prefix} dev ${NAME}
ip addr add ${ENDS.v6[end]}/${ENDS.v6.prefix} dev ${NAME} nodad
ip link set ${NAME} up
`
  await node.script(addresses('node'))
  // To pods it is the node that asks: they know no way to the other end.
  await node.must(['nft', '-f', '-'], {
    input: `table inet rig-control {
  chain postrouting {
    type nat hook postrouting priority 90;
    ip saddr ${ENDS.v4.underlay} masquerade
    ip6 saddr ${ENDS.v6.underlay} masquerade
  }
}
`,
  })
  const ranges = {
    v4: [PODS.v4, SERVICES.v4],
    v6: [PODS.v6, NODE_RANGES.v6.cidr, SERVICES.v6],
  }
  const routes = (['v4', 'v6'] as const).flatMap(family =>
    ranges[family].map(
      range => `ip route replace ${range} via ${ENDS[family].node} src ${ENDS[family].underlay}`,
    ),
  )
  await underlay.script(`${addresses('underlay')}${routes.join('\n')}`)
}
