/**
 * The control that Twill is compared with: the reference plugins bridge, host-local and portmap, with each node's
 * podCIDRs and static routes between the nodes, as kubenet was.
 */
import { writeFileSync } from 'node:fs'
import { CLUSTER_CIDR, NODE_RANGES } from './layout.ts'
import type { PodNetwork } from './network.ts'
import type { KubernetesNode } from './node.ts'

const CONFLIST = '/etc/cni/net.d/10-bridge.conflist'

export const BRIDGE: PodNetwork = {
  surroundings: { dropsPods: false, firewall: false, twill: false },
  store: 'none',
  podRanges: CLUSTER_CIDR,
  taints: [],
  images: () => [],
  async install(nodes) {
    const cidrs = new Map(await Promise.all(nodes.map(async node => [node, await node.podCIDRs()] as const)))
    const running = nodes.filter(node => node.machine.running)
    await Promise.all(running.map(node => bridgeNode(node, cidrs)))
  },
}

const family = (address: string) => (address.includes(':') ? 'v6' : 'v4')

async function bridgeNode(
  node: KubernetesNode,
  podCIDRs: ReadonlyMap<KubernetesNode, readonly string[]>,
): Promise<void> {
  const routes = [...podCIDRs]
    .filter(([other]) => other !== node)
    .flatMap(([{ layout }, cidrs]) =>
      cidrs.map(cidr => `ip route replace ${cidr} via ${layout[family(cidr)]}`),
    )
  await node.machine.script([...routes, FORWARDING].join('\n'))
  await node.machine.must(['nft', '-f', '-'], { input: masquerade() })
  writeFileSync(node.machine.path(CONFLIST), JSON.stringify(conflist(podCIDRs.get(node)!), null, 2))
}

const FORWARDING = `
echo 1 >/proc/sys/net/ipv4/ip_forward
echo 1 >/proc/sys/net/ipv6/conf/all/forwarding
`

/** Pods talk to pods as themselves, to the rest as their node. The plugin's own ipMasq would hide them from other nodes. */
function masquerade(): string {
  const rules = (['v4', 'v6'] as const).map(each => {
    const [word, { cidr }] = [each === 'v4' ? 'ip' : 'ip6', NODE_RANGES[each]]
    return `    ${word} saddr ${cidr} ${word} daddr != ${cidr} masquerade`
  })
  return `table inet rig-bridge { }
delete table inet rig-bridge
table inet rig-bridge {
  chain postrouting {
    type nat hook postrouting priority 100;
${rules.join('\n')}
  }
}
`
}

function conflist(podCIDRs: readonly string[]): object {
  const ranges = podCIDRs.map(subnet => [{ subnet }])
  const routes = [{ dst: '0.0.0.0/0' }, { dst: '::/0' }]
  return {
    cniVersion: '1.0.0',
    name: 'bridge',
    plugins: [
      {
        type: 'bridge',
        bridge: 'cni0',
        isGateway: true,
        hairpinMode: true,
        ipam: { type: 'host-local', ranges, routes },
      },
      { type: 'portmap', capabilities: { portMappings: true }, snat: true },
    ],
  }
}
