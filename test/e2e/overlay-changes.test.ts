/**
 * What changes under a running overlay, and that traffic follows: a pod's MAC, its neighbour entries, a node's link,
 * address and interface, nodes that join.
 */
import { suite } from 'uvu'
import * as assert from 'uvu/assert'
import { Cluster } from '../../hack/rig/cluster.ts'
import { nodeLayout, UNDERLAY } from '../../hack/rig/layout.ts'
import { until } from '../../hack/rig/processes.ts'
import { HOST_MAC, VXLAN_LINK } from '../../kernel/ownership.ts'
import { ETHERTYPE, ethernet, ip, udp } from '../fixtures/frames.ts'
import { readStatus } from '../fixtures/node-state.ts'
import {
  isSilent,
  leakCount,
  macOf,
  NO_LEAK,
  PORT,
  pings,
  serve,
  talks,
  untilPings,
  v4,
  v6,
  wireOf,
} from '../fixtures/talk.ts'

const rig = new Cluster(`twq-changes-${process.pid}`)
const test = suite('overlay changes')

const LEARN_MS = 20_000
const pods = new Map<string, readonly string[]>()
const addressesOf = (pod: string) => pods.get(pod) as readonly string[]

async function addPod(node: string, pod: string): Promise<void> {
  pods.set(pod, (await rig.addPod(node, pod)).addresses)
  await serve(rig, pod)
}

/** Both ways, both families, TCP and UDP, each seen as itself. */
async function podsTalk(one: string, other: string): Promise<void> {
  for (const of of [v4, v6])
    for (const [from, to] of [
      [one, other],
      [other, one],
    ] as const) {
      await untilPings(rig, from, of(addressesOf(to)))
      await talks(rig, from, of(addressesOf(to)), of(addressesOf(from)), { bytes: 100_000 })
      await talks(rig, from, of(addressesOf(to)), of(addressesOf(from)), { protocol: 'udp' })
    }
}

test.before(async () => {
  await rig.up({ nodes: 2, config: { heartbeatInterval: '1s' } })
  await addPod('node1', 'a')
  await addPod('node2', 'c')
})
test.after(async () => {
  await rig.down()
})

// ---------------------------------------------------------------- in a pod

async function learnedMac(node: string, pod: string): Promise<string | null | undefined> {
  return (await readStatus(rig, node)).pods.find(each => each.pod?.name === pod)?.mac
}

/** Elements of anti-spoofing that name this MAC. */
async function admitted(node: string, mac: string): Promise<number> {
  const sets = await rig.node(node).must(['nft', 'list', 'table', 'inet', 'twill'])
  return sets.split(mac).length - 1
}

test('a pod changes its MAC: it is learned, traffic goes on, the old one is not admitted any more', async () => {
  const [before, after] = [await macOf(rig, 'a'), '02:11:22:33:44:55']
  await rig.node('node1').must(['ip', '-n', 'a', 'link', 'set', 'eth0', 'address', after])
  await until(
    async () => (await learnedMac('node1', 'a')) === after,
    LEARN_MS,
    () => 'the new MAC is not learned',
  )
  await podsTalk('a', 'c')
  for (const of of [v4, v6]) {
    await pings(rig, 'node1', of(addressesOf('a')))
    const { stdout } = await rig.exec('node1', ['ip', 'neigh', 'show', of(addressesOf('a'))])
    assert.match(stdout, new RegExp(`${after} PERMANENT`))
  }
  assert.is(await admitted('node1', before), 0)
  assert.is(await admitted('node1', after), 2)
  const [at, pod] = [wireOf(rig, 'c'), wireOf(rig, 'a')]
  const send = (mac: string, mark: string) => {
    const packet = ip(v4(addressesOf('a')), v4(addressesOf('c')), udp(5000, 5001, Buffer.from(mark)))
    pod.send(ethernet(mac, HOST_MAC, ETHERTYPE.ipv4, packet))
  }
  send(before, 'twq-old-mac')
  send(after, 'twq-new-mac')
  let old = false
  const seen = at.receive(Buffer.from('twq-'), LEARN_MS, frame => {
    old ||= frame.includes('twq-old-mac')
    return frame.includes('twq-new-mac')
  })
  assert.ok(seen !== null)
  assert.not.ok(old, 'a frame from the MAC that was given up passed')
})

test('a pod changes its MAC while its link is down', async () => {
  await addPod('node1', 'fallen')
  const after = '02:11:22:33:44:66'
  // A link that was down has lost its routes, and its IPv6 address: whoever takes it down restores them.
  await rig.node('node1').must(['ip', 'netns', 'exec', 'fallen', 'sh', '-eu'], {
    input: `
ip link set eth0 down
ip link set eth0 address ${after}
ip link set eth0 up
ip route replace 169.254.1.1 dev eth0 scope link
ip route replace default via 169.254.1.1 dev eth0
ip addr replace ${v6(addressesOf('fallen'))}/128 dev eth0 nodad
ip -6 route replace default via fe80::1 dev eth0`,
  })
  await until(
    async () => (await learnedMac('node1', 'fallen')) === after,
    LEARN_MS,
    () => 'the new MAC is not learned',
  )
  await podsTalk('fallen', 'c')
})

test('the neighbour entries of a pod are flushed, the permanent ones too: ARP and ND heal it', async () => {
  for (const pod of ['a', 'c']) {
    const neighbours = ['ip', '-n', pod, 'neigh']
    const node = rig.node(rig.pod(pod).node)
    await node.must([...neighbours, 'flush', 'dev', 'eth0', 'nud', 'all'])
    await node.must([...neighbours, 'flush', 'dev', 'eth0', 'nud', 'permanent'])
    assert.is((await node.must([...neighbours, 'show', 'nud', 'permanent'])).trim(), '')
  }
  await podsTalk('a', 'c')
})

test('where arp_ignore is 1, a flushed pod is healed as well: the gateway is on its host end', async () => {
  for (const scope of ['all', 'default'])
    await rig.node('node1').must(['sysctl', '-qw', `net.ipv4.conf.${scope}.arp_ignore=1`])
  await rig.stopDaemon('node1')
  await rig.startDaemon('node1')
  await addPod('node1', 'strict')
  for (const pod of ['strict', 'a']) {
    const neighbours = ['ip', '-n', pod, 'neigh']
    await rig.node('node1').must([...neighbours, 'flush', 'dev', 'eth0', 'nud', 'permanent'])
    await podsTalk(pod, 'c')
  }
  for (const scope of ['all', 'default'])
    await rig.node('node1').must(['sysctl', '-qw', `net.ipv4.conf.${scope}.arp_ignore=0`])
})

// ---------------------------------------------------------------- in a node

test("a node's link goes down and comes up: pods talk before anybody restores the default route", async () => {
  const { v6: own } = nodeLayout('node1')
  await rig.node('node1').must(['ip', 'link', 'set', 'eth0', 'down'])
  await isSilent(rig, 'a', v4(addressesOf('c')))
  await rig.node('node1').must(['ip', 'link', 'set', 'eth0', 'up'])
  await podsTalk('a', 'c')
  await rig.node('node1').script(`
ip addr add ${own}/${UNDERLAY.v6.prefix} dev eth0 nodad
ip route add default via ${UNDERLAY.v4.address}
ip -6 route add default via ${UNDERLAY.v6.address}`)
  await podsTalk('a', 'c')
  await until(
    async () => (await readStatus(rig, 'node1')).underlay.some(({ address }) => address === own),
    30_000,
    () => 'the IPv6 address of the underlay is not seen again',
  )
})

const MOVED = { v4: '192.168.77.111', v6: 'fd77::111' }

/** As DHCP does it: the old address goes, and with it the default route, then the new one comes, then its route. */
async function moveNode1(): Promise<void> {
  const { v4: old4, v6: old6 } = nodeLayout('node1')
  await rig.node('node1').script(`
ip addr del ${old4}/24 dev eth0
ip -6 addr del ${old6}/64 dev eth0
ip route flush default
sleep 1
ip addr add ${MOVED.v4}/24 dev eth0
ip addr add ${MOVED.v6}/64 dev eth0 nodad
sleep 1
ip route replace default via ${UNDERLAY.v4.address}
ip -6 route replace default via ${UNDERLAY.v6.address}`)
}

test("a node's address changes: it registers anew, peers follow, its pods keep theirs", async () => {
  await moveNode1()
  for (const node of ['node1', 'node2'])
    await until(
      async () => {
        const known = (await readStatus(rig, node)).nodes.find(({ name }) => name === 'node1')
        return known?.underlay.join() === Object.values(MOVED).join()
      },
      30_000,
      () => `${node} does not know the new address of node1`,
    )
  await podsTalk('a', 'c')
  // From its new address to its pods, and masqueraded to it.
  await talks(rig, 'node1', v4(addressesOf('a')), MOVED.v4)
  await talks(rig, 'node1', v6(addressesOf('a')), MOVED.v6)
  await serve(rig, 'underlay', PORT, Object.values(UNDERLAY.outside))
  await talks(rig, 'a', UNDERLAY.outside.v4, MOVED.v4)
  await talks(rig, 'a', UNDERLAY.outside.v6, MOVED.v6)
  const fdb = await rig.node('node2').must(['bridge', 'fdb', 'show', 'dev', VXLAN_LINK[4]])
  assert.match(fdb, MOVED.v4)
  assert.not.match(fdb, new RegExp(`${nodeLayout('node1').v4}\\b`))
})

test('a third node joins: its pods talk with those of the others, and nothing else changes for these', async () => {
  const flowing = rig.exec('a', ['ping', '-n', '-i', '0.2', '-c', '25', v4(addressesOf('c'))])
  await rig.up({ nodes: 3 })
  await addPod('node3', 'd')
  await podsTalk('d', 'a')
  await podsTalk('d', 'c')
  assert.match((await flowing).stdout, / 0% packet loss/)
})

test('nothing of all this put a pod address on the underlay', async () => {
  assert.is(await leakCount(rig), NO_LEAK)
})

// ---------------------------------------------------------------- which interface

async function restarted(env: Record<string, string>) {
  await rig.stopDaemon('node3')
  await rig.startDaemon('node3', { env })
  return (await readStatus(rig, 'node3')).underlay.map(({ device, address, reason }) => ({
    device,
    address,
    reason,
  }))
}

test('the interface is chosen by name, by pattern or by what it reaches, and status says why', async () => {
  // The uplink's MAC, as a bridge over it has: a node without firmware tables is known by that.
  await rig.node('node3').script(`
ip link add lan1 address ${await macOf(rig, 'node3')} type bridge
ip addr add 10.9.0.3/24 dev lan1
ip link set lan1 up`)
  const { v4: address, v6: address6 } = nodeLayout('node3')
  const onUplink = (reason: string) => [
    { device: 'eth0', address, reason },
    { device: 'eth0', address: address6, reason },
  ]
  assert.equal(await restarted({ TWILL_UNDERLAY_INTERFACE: 'eth0' }), onUplink('named in the configuration'))
  assert.equal(
    await restarted({ TWILL_UNDERLAY_INTERFACE: 'eth*' }),
    onUplink('the first of 1 that match eth*'),
  )
  assert.equal(
    await restarted({ TWILL_UNDERLAY_REACH: '192.168.77.12' }),
    onUplink('192.168.77.12 is reached by it'),
  )
  await podsTalk('d', 'c')
  assert.equal(await restarted({ TWILL_UNDERLAY_REACH: '10.9.0.1' }), [
    { device: 'lan1', address: '10.9.0.3', reason: '10.9.0.1 is reached by it' },
  ])
  const text = await rig.node('node3').must(['twillctl', 'status'])
  assert.match(text, /10\.9\.0\.3 on lan1, MTU \d+: 10\.9\.0\.1 is reached by it/)
  assert.equal(await restarted({}), onUplink('the default route leaves by it'))
  await podsTalk('d', 'c')
})

test('the default route moves to another interface: so does the choice, without a restart', async () => {
  await rig.node('node3').must(['ip', 'route', 'replace', 'default', 'via', '10.9.0.1', 'dev', 'lan1'])
  const device = async () => (await readStatus(rig, 'node3')).underlay[0]?.device
  await until(
    async () => (await device()) === 'lan1',
    30_000,
    () => 'the new default route is not followed',
  )
  await rig
    .node('node3')
    .must(['ip', 'route', 'replace', 'default', 'via', UNDERLAY.v4.address, 'dev', 'eth0'])
  await until(
    async () => (await device()) === 'eth0',
    30_000,
    () => 'the old default route is not followed',
  )
  await podsTalk('d', 'c')
})

test('where no interface fits, the daemon says what there is and waits for one', async () => {
  await rig.stopDaemon('node3')
  await rig.startDaemon('node3', { env: { TWILL_UNDERLAY_INTERFACE: 'fabric0' }, wait: false })
  await until(
    async () =>
      /expected an interface of that name.*there is .*eth0/.test((await rig.whyNotReady('node3')) ?? ''),
    30_000,
    () => 'the daemon does not say that no interface fits',
  )
  await rig.node('node3').script(`
ip link add fabric0 address ${await macOf(rig, 'node3')} type bridge
ip addr add 10.10.0.3/24 dev fabric0
ip link set fabric0 up`)
  await until(
    async () => (await rig.whyNotReady('node3')) === undefined,
    60_000,
    () => 'the daemon does not find the interface that came',
  )
  assert.is((await readStatus(rig, 'node3')).underlay[0]?.device, 'fabric0')
})

// ---------------------------------------------------------------- pools

const OTHER = `apiVersion: twill.network/v1alpha1
kind: IPPool
metadata: {name: zother}
spec: {cidr: 10.99.0.0/16}
`

test('a pool is drained: nodes take other addresses on the overlay, and no packet between pods is lost', async () => {
  const node = rig.node('node1')
  await node.must(['twillctl', 'apply', '-f', '-'], { input: OTHER })
  const pinged = rig.exec('a', ['ping', '-q', '-i', '0.05', '-c', '240', v4(addressesOf('c'))])
  const drained = await rig.exec('node1', ['twillctl', 'delete', 'ippool', 'pods-v4', '--drain'])
  assert.is(drained.status, 1)
  assert.match(drained.stderr, /node1: pods? .*default\/a/)
  const moved = async (name: string) => (await readStatus(rig, name)).overlay.tunnel[0]?.startsWith('10.99.')
  await until(
    async () => (await moved('node1')) === true && (await moved('node2')) === true,
    30_000,
    () => 'the tunnel addresses are still of the pool that is drained',
  )
  assert.match((await pinged).stdout, / 0% packet loss/)
  await podsTalk('a', 'c')
  await node.must(['twillctl', 'delete', 'ippool', 'pods-v4', '--cancel'])
})

test.run()
