/**
 * Every way of a pod's packet that must work, through real daemons: who reaches whom, and as whom. node2 drops
 * FORWARD and INPUT by default; the underlay drops, and counts, whatever carries a pod's address outside VXLAN.
 */
import { suite } from 'uvu'
import * as assert from 'uvu/assert'
import { Cluster } from '../../hack/rig/cluster.ts'
import { nodeLayout, UNDERLAY } from '../../hack/rig/layout.ts'
import { readStatus } from '../fixtures/node-state.ts'
import { isSilent, leakCount, NO_LEAK, PORT, pings, serve, talks, v4, v6 } from '../fixtures/talk.ts'

const rig = new Cluster(`twq-paths-${process.pid}`)
const test = suite('overlay paths')

const NODES = ['node1', 'node2', 'node3']
/** Pod → its node. */
const PODS = { a: 'node1', b: 'node1', c: 'node2', d: 'node3' } as const
const MEBIBYTE = 1 << 20

/** Of pods and nodes; nodes' are those of the underlay. */
const addresses = new Map<string, readonly string[]>()
/** Nodes' addresses on the overlay. */
const tunnels = new Map<string, readonly string[]>()

const FAMILIES = [
  { family: 'IPv4', of: v4 },
  { family: 'IPv6', of: v6 },
] as const
type Of = (typeof FAMILIES)[number]['of']

const address = (of: Of, where: string) => of(addresses.get(where) as readonly string[])
const tunnel = (of: Of, node: string) => of(tunnels.get(node) as readonly string[])

test.before(async () => {
  await rig.up({
    nodes: 3,
    config: {
      firstPools: [
        { name: 'first-v4', spec: { cidr: '10.244.0.0/17' } },
        { name: 'first-v6', spec: { cidr: 'fd00:10:244::/113' } },
      ],
    },
  })
  for (const [pod, node] of Object.entries(PODS)) addresses.set(pod, (await rig.addPod(node, pod)).addresses)
  for (const node of NODES) {
    const { v4, v6 } = nodeLayout(node)
    addresses.set(node, [v4, v6])
    tunnels.set(node, (await readStatus(rig, node)).overlay.tunnel)
  }
  for (const pod of Object.keys(PODS)) await serve(rig, pod)
  // As a program in the host's network that listens on the uplink only.
  for (const node of ['node1', 'node3']) await serve(rig, node, PORT, [...(addresses.get(node) ?? [])])
  // Bound, so that answers bear the address that was asked.
  await serve(rig, 'underlay', PORT, Object.values(UNDERLAY.outside))
})
test.after(async () => {
  await rig.down()
})

const PAIRS = [
  ['a', 'b', 'on one node'],
  ['a', 'd', 'across nodes'],
  ['a', 'c', 'to a node that drops by default'],
  ['c', 'd', 'from a node that drops by default'],
] as const

for (const { family, of } of FAMILIES) {
  for (const [from, to, where] of PAIRS)
    test(`${family}: pod to pod ${where}: ping, UDP, and 16 MiB of TCP arrive whole and as the pod`, async () => {
      const [source, destination] = [address(of, from), address(of, to)]
      await pings(rig, from, destination)
      await talks(rig, from, destination, source, { protocol: 'udp', bytes: 1300 })
      // In fragments: reassembled on the way, where the connection table looks at it.
      await talks(rig, from, destination, source, { protocol: 'udp', bytes: 6000 })
      await talks(rig, from, destination, source, { bytes: 16 * MEBIBYTE })
    })

  test(`${family}: a node reaches its own pods as its underlay address`, async () => {
    for (const [node, pod] of [
      ['node1', 'a'],
      ['node2', 'c'],
    ] as const) {
      await talks(rig, node, address(of, pod), address(of, node))
      await talks(rig, node, address(of, pod), address(of, node), { protocol: 'udp' })
    }
  })

  test(`${family}: a node reaches other nodes' pods as its tunnel address, whatever its socket is bound to`, async () => {
    for (const [node, pod] of [
      ['node1', 'c'],
      ['node2', 'd'],
      ['node3', 'a'],
    ] as const) {
      await talks(rig, node, address(of, pod), tunnel(of, node))
      const source = address(of, node)
      await talks(rig, node, address(of, pod), tunnel(of, node), { source, bytes: MEBIBYTE })
      await talks(rig, node, address(of, pod), tunnel(of, node), { source, protocol: 'udp' })
    }
  })

  test(`${family}: a pod reaches its own node as itself, a remote node as its own node`, async () => {
    await talks(rig, 'a', address(of, 'node1'), address(of, 'a'))
    await talks(rig, 'a', address(of, 'node1'), address(of, 'a'), { protocol: 'udp' })
    for (const [pod, node, own] of [
      ['a', 'node3', 'node1'],
      ['c', 'node1', 'node2'],
      ['d', 'node1', 'node3'],
    ] as const) {
      await talks(rig, pod, address(of, node), address(of, own), { bytes: MEBIBYTE })
      await talks(rig, pod, address(of, node), address(of, own), { protocol: 'udp' })
      await pings(rig, pod, address(of, node))
    }
  })

  test(`${family}: a pod pings tunnel addresses, its own node's and another's`, async () => {
    await pings(rig, 'a', tunnel(of, 'node1'))
    await pings(rig, 'a', tunnel(of, 'node2'))
  })

  test(`${family}: a pod reaches the outside as its node (natOutgoing)`, async () => {
    for (const [pod, node] of [
      ['a', 'node1'],
      ['c', 'node2'],
    ] as const) {
      await talks(rig, pod, of(Object.values(UNDERLAY.outside)), address(of, node), { bytes: MEBIBYTE })
      await talks(rig, pod, of(Object.values(UNDERLAY.outside)), address(of, node), { protocol: 'udp' })
      await pings(rig, pod, of(Object.values(UNDERLAY.outside)))
    }
  })

  test(`${family}: a packet of a pod's full MTU passes unfragmented, one more byte does not`, async () => {
    const headers = family === 'IPv4' ? 20 + 8 : 40 + 8
    const mtu = (await readStatus(rig, 'node1')).overlay.podMtu
    assert.is(mtu, 1450)
    for (const host of [address(of, 'b'), address(of, 'd')]) {
      await pings(rig, 'a', host, ['-M', 'do', '-s', String(mtu - headers)])
      const larger = await rig.exec('a', [
        ...['ping', '-n', '-c1', '-W2', '-M', 'do'],
        ...['-s', String(mtu - headers + 1), host],
      ])
      assert.is.not(larger.status, 0)
      assert.match(larger.stdout + larger.stderr, /message too long|too big/i)
    }
  })
}

test('pods have the MTU of the overlay', async () => {
  for (const pod of Object.keys(PODS)) {
    const { stdout } = await rig.exec(pod, ['cat', '/sys/class/net/eth0/mtu'])
    assert.is(stdout.trim(), '1450')
  }
})

test('outer packets are not tracked; flows of pods are', async () => {
  await talks(rig, 'a', address(v4, 'd'), address(v4, 'a'))
  for (const node of ['node1', 'node3']) {
    const flows = (await rig.node(node).must(['conntrack', '-L'])).split('\n')
    assert.ok(flows.some(flow => flow.includes(`dport=${PORT}`)))
    assert.equal(
      flows.filter(flow => /\bs?d?port=4789\b/.test(flow)),
      [],
    )
  }
})

test('a container of Docker on node2 is still dropped where its FORWARD drops', async () => {
  const outside = UNDERLAY.outside.v4
  await rig.node('node2').script(`
ip netns add foreign
ip link add foreign0 type veth peer name eth0 netns foreign
ip link set foreign0 master docker0 up
ip -n foreign addr add 172.17.0.2/16 dev eth0
ip -n foreign link set eth0 up
ip -n foreign route add default via 172.17.0.1
iptables -t nat -A POSTROUTING -s 172.17.0.0/16 ! -o docker0 -j MASQUERADE`)
  const foreign = ['ip', 'netns', 'exec', 'foreign', 'ping', '-n', '-c1', '-W3']
  assert.is.not((await rig.exec('node2', [...foreign, outside])).status, 0)
  // It is not for want of a way: once FORWARD lets it pass, it does.
  await rig.node('node2').script(`
iptables -A FORWARD -i docker0 -j ACCEPT
iptables -A FORWARD -m conntrack --ctstate ESTABLISHED -j ACCEPT`)
  assert.is((await rig.exec('node2', [...foreign, outside])).status, 0)
})

test('services of node2 that its INPUT drops stay closed, for nodes and for pods; what it opens is open', async () => {
  await serve(rig, 'node2')
  await serve(rig, 'node2', 22)
  for (const of of [v4, v6]) {
    const host = address(of, 'node2')
    await talks(rig, 'node1', host, address(of, 'node1'), { port: 22 })
    await talks(rig, 'c', host, address(of, 'c'), { port: 22 })
    await talks(rig, 'a', host, address(of, 'node1'), { port: 22 })
    for (const from of ['node1', 'a', 'c']) await isSilent(rig, from, host)
    await isSilent(rig, 'a', tunnel(of, 'node2'))
  }
})

test('nothing of all this put a pod address on the underlay', async () => {
  assert.is(await leakCount(rig), NO_LEAK)
})

const PLAIN_POOLS = `
apiVersion: twill.network/v1alpha1
kind: IPPool
metadata: { name: plain-v4 }
spec: { cidr: 10.244.128.0/17, natOutgoing: false }
---
apiVersion: twill.network/v1alpha1
kind: IPPool
metadata: { name: plain-v6 }
spec: { cidr: 'fd00:10:244::8000/113', natOutgoing: false }
---
apiVersion: twill.network/v1alpha1
kind: IPPool
metadata: { name: first-v4 }
spec: { cidr: 10.244.0.0/17, disabled: true }
---
apiVersion: twill.network/v1alpha1
kind: IPPool
metadata: { name: first-v6 }
spec: { cidr: 'fd00:10:244::/113', disabled: true }
`

test('natOutgoing: false: unmasqueraded to the outside, where the underlay drops it; all else as ever', async () => {
  await rig.node('node1').must(['sh', '-c', 'cat >/run/pools.yaml'], { input: PLAIN_POOLS })
  await rig.node('node1').must(['twillctl', 'apply', '-f', '/run/pools.yaml'])
  for (const [pod, node] of [
    ['e', 'node1'],
    ['f', 'node2'],
  ] as const) {
    const added = (await rig.addPod(node, pod)).addresses
    assert.match(v4(added), /^10\.244\.(12[89]|1[3-9]|2)/)
    addresses.set(pod, added)
  }
  await serve(rig, 'f')
  for (const { family, of } of FAMILIES) {
    await pings(rig, 'e', address(of, 'a'))
    await talks(rig, 'e', address(of, 'c'), address(of, 'e'))
    await talks(rig, 'e', address(of, 'f'), address(of, 'e'), { bytes: MEBIBYTE })
    await talks(rig, 'a', address(of, 'f'), address(of, 'a'))
    await talks(rig, 'e', address(of, 'node3'), address(of, 'node1'))
    await talks(rig, 'f', address(of, 'node1'), address(of, 'node2'))
    await talks(rig, 'node3', address(of, 'f'), tunnel(of, 'node3'))
    assert.is(
      await leakCount(rig),
      family === 'IPv4' ? NO_LEAK : NO_LEAK.replace('ip-source 0', 'ip-source 1'),
    )
    const outside = of(Object.values(UNDERLAY.outside))
    // Bare of any translation, as the underlay sees.
    await isSilent(rig, 'e', outside, { protocol: 'udp' })
    await talks(rig, 'a', outside, address(of, 'node1'))
  }
  assert.is(
    await leakCount(rig),
    NO_LEAK.replace('ip-source 0', 'ip-source 1').replace('ip6-source 0', 'ip6-source 1'),
  )
})

test.run()
