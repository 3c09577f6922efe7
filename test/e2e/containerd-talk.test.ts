/** Two nodes with Debian's containerd, called as kubelet calls it: pods of one reach pods of the other. */
import { writeFileSync } from 'node:fs'
import { suite } from 'uvu'
import * as assert from 'uvu/assert'
import { Cluster } from '../../hack/rig/cluster.ts'
import { nodeLayout, PODS } from '../../hack/rig/layout.ts'
import { until } from '../../hack/rig/processes.ts'
import type { CriClient } from '../fixtures/cri/client.ts'
import { installContainerd } from '../fixtures/cri/containerd.ts'
import { type RuntimePod, runPod } from '../fixtures/cri/pods.ts'
import { readStatus, settledState, untilState } from '../fixtures/node-state.ts'

const rig = new Cluster(`tws-ctr-${process.pid}`)
const test = suite('containerd')
const NODES = ['node1', 'node2'] as const

const clients = new Map<string, CriClient>()
const client = (node: string): CriClient => clients.get(node) as CriClient
const clean = new Map<string, string>()
let one: RuntimePod
let two: RuntimePod
/** node1 with one pod on it. */
let talking = ''

test.before(async () => {
  const firstPools = [
    { name: 'pods-v4', spec: { cidr: PODS.v4 } },
    { name: 'pods-v6', spec: { cidr: PODS.v6 } },
    { name: 'shop', spec: { cidr: '10.77.0.0/24' } },
    {
      name: 'retail',
      spec: { cidr: '10.78.0.0/24', namespaceSelector: { matchLabels: { team: 'retail' } } },
    },
  ]
  await rig.up({ nodes: 2, config: { coolDown: '1s', firstPools }, daemons: false })
  for (const node of NODES) clients.set(node, await installContainerd(rig.node(node)))
})
test.after(async () => {
  for (const each of clients.values()) each.close()
  await rig.down()
})

async function apply(document: string): Promise<void> {
  const machine = rig.node('node1')
  writeFileSync(machine.path('/run/document.yaml'), document)
  await machine.must(['twillctl', 'apply', '-f', '/run/document.yaml'])
}

const url = (address: string): string => `http://${address.includes(':') ? `[${address}]` : address}/`

async function reads(from: RuntimePod, address: string, text: string): Promise<void> {
  const got = await from.client.exec(from.container, ['wget', '-q', '-O', '-', url(address)])
  assert.equal([got.status, got.stdout], [0, text], got.stderr)
}

test('CNI-264 the network is ready for the runtime when the daemon is, and not before', async () => {
  for (const node of NODES)
    assert.match((await client(node).whyNot('NetworkReady')) ?? 'ready', /not initialized/)
  for (const node of NODES) await rig.startDaemon(node)
  for (const node of NODES)
    await until(
      async () => (await client(node).whyNot('NetworkReady')) === undefined,
      20_000,
      () => `${node}: the runtime does not see the network`,
    )
  for (const node of NODES) clean.set(node, await settledState(rig, node))
})

test('CNI-002 CNI-079 CNI-119 containers on two nodes reach each other over IPv4 and IPv6, as soon as they run', async () => {
  one = await runPod(client('node1'), 'one')
  two = await runPod(client('node2'), 'two')
  for (const address of two.addresses) await reads(one, address, 'I am two\n')
  for (const address of one.addresses) await reads(two, address, 'I am one\n')
  talking = await settledState(rig, 'node1')
})

test("the sandbox's addresses in the runtime's status are those of the pod and of Twill", async () => {
  for (const [node, pod] of [
    ['node1', one],
    ['node2', two],
  ] as const) {
    const shown = await pod.client.exec(pod.container, ['ip', '-o', 'addr', 'show', 'dev', 'eth0'])
    const inside = [...shown.stdout.matchAll(/inet6? (\S+)\/(?:32|128) /g)].map(match => match[1] as string)
    assert.equal(pod.addresses, inside)
    const known = (await readStatus(rig, node)).pods.find(each => each.containerId === pod.sandbox)
    assert.equal([...(known?.addresses ?? [])].sort(), [...inside].sort())
  }
})

test("CNI-223 the pod's Kubernetes names are known to the daemon", async () => {
  const known = (await readStatus(rig, 'node1')).pods.find(each => each.containerId === one.sandbox)
  assert.match(JSON.stringify(known), /"default/)
  assert.match(JSON.stringify(known), /one"/)
})

test('CNI-201 a port of the host, as containerd writes it, is reached from the other node', async () => {
  const ports = [{ protocol: 'TCP' as const, container_port: 80, host_port: 18080 }]
  const pod = await runPod(client('node1'), 'ports', { port_mappings: ports })
  const port = `http://${nodeLayout('node1').v4}:18080/`
  const got = await rig.node('node2').run(['busybox', 'wget', '-q', '-O', '-', port])
  assert.equal([got.status, got.stdout], [0, 'I am ports\n'], got.stderr)
  await pod.client.stopSandbox(pod.sandbox)
  await pod.client.removeSandbox(pod.sandbox)
  assert.not.match(await rig.node('node1').must(['iptables-save', '-t', 'nat']), '18080')
  await untilState(rig, 'node1', talking, 30_000)
})

test('CNI-200 a pod chooses pool and address by its annotations, and is refused in the words of the annotation', async () => {
  const fixed = '10.77.0.9'
  const annotations = {
    'twill.network/ipv4-pool': 'shop',
    'twill.network/ip-addresses': fixed,
    'twill.network/mac': '02:aa:00:00:00:09',
    'example.com/of-others': 'x'.repeat(100_000),
  }
  const pod = await runPod(client('node1'), 'chosen', { annotations })
  assert.is(pod.addresses.length, 2, 'the other family as usual')
  assert.ok(pod.addresses.includes(fixed), pod.addresses.join())
  for (const address of pod.addresses) await reads(two, address, 'I am chosen\n')
  const { pods } = await readStatus(rig, 'node1')
  assert.is(pods.find(each => each.pod?.name === 'chosen')?.mac, '02:aa:00:00:00:09')
  const misspelt = { 'twill.network/ipv4pool': 'shop' }
  const meant = await runPod(client('node1'), 'refused', { annotations: misspelt }).catch(error => error)
  assert.match(meant.message, /unknown annotation .*ipv4pool.*did you mean twill\.network\/ipv4-pool/)
  const bad = { 'twill.network/ipv4-pool': 'Shop' }
  const refused = await runPod(client('node1'), 'refused', { annotations: bad }).catch(error => error)
  assert.match(refused.message, /invalid annotation twill\.network\/ipv4-pool.*expected names of IPPools/)
  const elsewhere = { 'twill.network/ipv4-pool': 'nowhere' }
  const unknown = await runPod(client('node1'), 'refused', { annotations: elsewhere }).catch(error => error)
  assert.match(unknown.message, /annotation twill\.network\/ipv4-pool of the pod.*there is no IPPool nowhere/)
  await pod.client.stopSandbox(pod.sandbox)
  await pod.client.removeSandbox(pod.sandbox)
  await untilState(rig, 'node1', talking, 30_000)
})

test('CNI-010 CNI-011 sixteen sandboxes at once, each with addresses of its own, and gone at once', async () => {
  const names = Array.from({ length: 16 }, (_, i) => `burst${i}`)
  const pods = await Promise.all(names.map(name => runPod(client('node1'), name)))
  const addresses = pods.flatMap(pod => pod.addresses)
  assert.is(new Set(addresses).size, 32)
  for (const pod of pods.slice(0, 4))
    for (const address of pod.addresses) await reads(two, address, `I am ${pod.config.hostname}\n`)
  await Promise.all(
    pods.map(async pod => {
      await pod.client.stopSandbox(pod.sandbox)
      await pod.client.removeSandbox(pod.sandbox)
    }),
  )
  await untilState(rig, 'node1', talking, 30_000)
})

test('nothing is left when the pods are gone', async () => {
  for (const pod of [one, two]) {
    await pod.client.stopSandbox(pod.sandbox)
    await pod.client.removeSandbox(pod.sandbox)
  }
  for (const node of NODES) await untilState(rig, node, clean.get(node) as string, 30_000)
})

test('CNI-223 a pool for a namespace serves the pods of that namespace alone', async () => {
  const refused = await runPod(client('node1'), 'stranger', {
    annotations: { 'twill.network/ipv4-pool': 'retail' },
  }).catch(error => error)
  assert.match(refused.message, /IPPool retail is not for namespace default: namespaceSelector/)
  const namespace =
    'apiVersion: twill.network/v1alpha1\nkind: Namespace\nmetadata: {name: default, labels: {team: retail}}\n'
  await apply(namespace)
  await until(
    async () => {
      const pod = await runPod(client('node1'), 'retail')
      await pod.client.stopSandbox(pod.sandbox)
      await pod.client.removeSandbox(pod.sandbox)
      return pod.addresses.some(address => address.startsWith('10.78.0.'))
    },
    30_000,
    () => 'no pod of the namespace comes from its pool',
  )
})

test.run()
