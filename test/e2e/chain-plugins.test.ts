/**
 * Twill in front of Debian's portmap, bandwidth and tuning, called as libcni calls a chain: forward on ADD and CHECK,
 * backward on DEL. Every test ends with the node as it was, iptables and traffic control included.
 */
import { randomBytes } from 'node:crypto'
import { chmodSync, writeFileSync } from 'node:fs'
import { suite } from 'uvu'
import * as assert from 'uvu/assert'
import { Cluster } from '../../hack/rig/cluster.ts'
import {
  type CniCall,
  type CniResult,
  type ConfList,
  cniAdd,
  cniCheck,
  cniDel,
} from '../../hack/rig/cni-client.ts'
import { nodeLayout } from '../../hack/rig/layout.ts'
import { until } from '../../hack/rig/processes.ts'
import { found } from '../fixtures/cni/found.ts'
import { settledState, untilState } from '../fixtures/node-state.ts'

const rig = new Cluster(`tws-chain-${process.pid}`)
const test = suite('chains')
/** node2 drops by default, as Docker and firewalls leave a machine. */
const NODES = ['node1', 'node2'] as const
type Node = (typeof NODES)[number]
const other = (node: Node): Node => (node === 'node1' ? 'node2' : 'node1')

const PORTMAP = { type: 'portmap', snat: true, capabilities: { portMappings: true } }
const BANDWIDTH = { type: 'bandwidth', capabilities: { bandwidth: true } }
const TUNING = { type: 'tuning', capabilities: { mac: true } }
const MAC = '02:00:5e:00:53:07'

const clean = new Map<Node, string>()
const cleanOthers = new Map<Node, string>()
const peers = new Map<Node, string[]>()

/** What the reference plugins leave in a node; chains that portmap makes once and keeps are none. */
async function others(node: Node): Promise<string> {
  const rules = await rig
    .node(node)
    .must(['sh', '-c', 'iptables-save -t nat; ip6tables-save -t nat; tc qdisc'])
  return rules
    .split('\n')
    .filter(line => !/^[#:]|^COMMIT|^\*/.test(line) && !/CNI-HOSTPORT-(DNAT|MASQ|SETMARK)\b/.test(line))
    .join('\n')
}

test.before(async () => {
  await rig.up({ nodes: 2, config: { coolDown: '1s' } })
  for (const node of NODES) {
    peers.set(node, (await rig.addPod(node, `peer-${node}`)).addresses)
    const failing = rig.node(node).path('/opt/cni/bin/failing')
    writeFileSync(
      failing,
      `#!/bin/sh\n[ "$CNI_COMMAND" != ADD ] || { echo '{"code":100,"msg":"no"}'; exit 1; }\n`,
    )
    chmodSync(failing, 0o755)
  }
  for (const node of NODES) {
    clean.set(node, await settledState(rig, node))
    cleanOthers.set(node, await others(node))
  }
})
test.after(async () => {
  await rig.down()
})

interface Chained {
  readonly node: Node
  readonly call: CniCall
  readonly list: ConfList
}

const listOf = (...plugins: ConfList['plugins']): ConfList => ({
  cniVersion: '1.0.0',
  name: 'twill',
  plugins: [{ type: 'twill' }, ...plugins],
})

/** Registers a test on either node with a namespace of its own; `run` owes the DEL. */
function onEachNode(name: string, list: ConfList, wishes: object, run: (chained: Chained) => Promise<void>) {
  for (const node of NODES)
    test(`${node}: ${name}`, async () => {
      const call: CniCall = {
        containerId: randomBytes(32).toString('hex'),
        netns: '/run/netns/chained',
        ifName: 'eth0',
        args: {},
        capabilityArgs: { ...wishes },
      }
      await rig.node(node).script('ip netns add chained; ip -n chained link set lo up')
      try {
        await run({ node, call, list })
      } catch (error) {
        await cniDel(rig.node(node), list, call).catch(() => undefined)
        throw error
      } finally {
        await rig.node(node).run(['ip', 'netns', 'delete', 'chained'])
      }
      await untilState(rig, node, clean.get(node) as string, 30_000)
      assert.is(await others(node), cleanOthers.get(node))
    })
}

const add = ({ node, list, call }: Chained) => cniAdd(rig.node(node), list, call)
/** Without portmap, whose CHECK in 1.1.1 looks for IPv6 rules that it never makes. */
const check = ({ node, list, call }: Chained, result: CniResult) => {
  const plugins = list.plugins.filter(({ type }) => type !== 'portmap')
  return cniCheck(rig.node(node), { ...list, plugins }, call, result)
}
const del = ({ node, list, call }: Chained, result?: CniResult) => cniDel(rig.node(node), list, call, result)

async function reachesPeer({ node }: Chained): Promise<void> {
  for (const address of peers.get(other(node)) as string[])
    await rig.node(node).must(['ip', 'netns', 'exec', 'chained', 'ping', '-c2', '-W5', address])
}

async function serve({ node }: Chained): Promise<void> {
  const serving =
    'mkdir -p /run/served; echo served >/run/served/index.html; ip netns exec chained busybox httpd'
  await rig.node(node).script(`${serving} -p 8080 -h /run/served`)
}

const stopServing = ({ node }: Chained) =>
  rig.node(node).script('for pid in $(ip netns pids chained); do kill -KILL $pid; done')

const fetch = (node: Node, url: string) =>
  rig.node(node).run(['busybox', 'timeout', '5', 'busybox', 'wget', '-q', '-O', '-', url])

onEachNode(
  'CNI-201 CNI-250 CNI-253 portmap: a port of the node, from elsewhere and from the node itself',
  listOf(PORTMAP),
  { portMappings: [{ HostPort: 18081, ContainerPort: 8080, Protocol: 'tcp', HostIP: '' }] },
  async chained => {
    const { node } = chained
    const result = await add(chained)
    assert.is(result.interfaces?.length, 2)
    await serve(chained)
    const address = `http://${nodeLayout(node).v4}:18081/`
    for (const from of [other(node), node]) {
      const got = await fetch(from, address)
      assert.equal([got.status, got.stdout], [0, 'served\n'], `${from}: ${got.stderr}`)
    }
    const local = await fetch(node, 'http://127.0.0.1:18081/')
    assert.equal([local.status, local.stdout], [0, 'served\n'], local.stderr)
    await check(chained, result)
    await stopServing(chained)
    await del(chained, result)
    await del(chained)
  },
)

onEachNode(
  'CNI-204 CNI-253 bandwidth: limits of what comes and what goes are in the kernel',
  listOf(BANDWIDTH),
  {
    bandwidth: { ingressRate: 8_000_000, ingressBurst: 800_000, egressRate: 4_000_000, egressBurst: 400_000 },
  },
  async chained => {
    const { node } = chained
    const result = await add(chained)
    const host = result.interfaces?.[0]?.name as string
    const qdiscs = await rig.node(node).must(['tc', 'qdisc'])
    assert.match(qdiscs, new RegExp(`tbf .*dev ${host} .*rate 8Mbit`))
    assert.match(qdiscs, /tbf .*rate 4Mbit/)
    assert.is(result.interfaces?.length, 3)
    assert.equal(
      result.ips?.map(each => each.interface),
      [1, 1],
    )
    await reachesPeer(chained)
    await check(chained, result)
    await del(chained, result)
    await del(chained)
  },
)

onEachNode(
  'CNI-152 CNI-251 tuning: a MAC that it changed is learned, not punished',
  listOf(TUNING),
  { mac: MAC },
  async chained => {
    const result = await add(chained)
    const real = await found(rig.node(chained.node), 'chained', 'eth0')
    assert.is(real.link.address, MAC)
    assert.is(result.interfaces?.[1]?.mac, MAC)
    await reachesPeer(chained)
    await check(chained, result)
    await until(
      async () =>
        (await rig.node(chained.node).must(['ip', 'neigh', 'show', 'dev', real.host.ifname])).includes(MAC),
      10_000,
      () => 'the neighbour entry has the old MAC',
    )
    await del(chained, result)
    await del(chained)
  },
)

onEachNode(
  'CNI-250 CNI-251 all three, CHECK after a restart of the daemon, DEL without any result',
  listOf(PORTMAP, BANDWIDTH, TUNING),
  {
    portMappings: [{ hostPort: 18081, containerPort: 8080, protocol: 'tcp' }],
    bandwidth: { ingressRate: 8_000_000, ingressBurst: 800_000 },
    mac: MAC,
  },
  async chained => {
    const result = await add(chained)
    await reachesPeer(chained)
    await rig.killDaemon(chained.node)
    await rig.startDaemon(chained.node)
    await check(chained, result)
    await reachesPeer(chained)
    await del(chained)
    await del(chained)
  },
)

onEachNode(
  "CNI-117 CNI-251 a later plugin fails: the runtime's DEL of the whole chain leaves nothing",
  listOf(PORTMAP, { type: 'failing' }, TUNING),
  { portMappings: [{ hostPort: 18081, containerPort: 8080, protocol: 'tcp' }], mac: MAC },
  async chained => {
    const refusal = await add(chained).then(
      () => '',
      error => (error as Error).message,
    )
    assert.match(refusal, /failing: no/)
    await del(chained)
  },
)

onEachNode(
  'CNI-134 CNI-135 DEL of the chain while the daemon is away',
  listOf(PORTMAP, TUNING),
  { portMappings: [{ hostPort: 18081, containerPort: 8080, protocol: 'tcp' }], mac: MAC },
  async chained => {
    const result = await add(chained)
    await rig.stopDaemon(chained.node)
    await del(chained, result)
    await rig.startDaemon(chained.node)
  },
)

test.run()
