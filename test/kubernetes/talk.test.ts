/** Two nodes of a real Kubernetes: pods, nodes and pods on their nodes' own network reach each other, by both families, and by names. */
import * as assert from 'uvu/assert'
import { nodeLayout } from '../../hack/rig/layout.ts'
import { until } from '../../hack/rig/processes.ts'
import { KubernetesLab, type LabPod } from '../fixtures/kubernetes/lab.ts'
import { askHttp, askUdp } from '../fixtures/kubernetes/netexec.ts'
import { daemonSet, deployment, service } from '../fixtures/kubernetes/objects.ts'
import { ping, serve, talks, v4, v6 } from '../fixtures/talk.ts'

const lab = new KubernetesLab('talk')
const test = lab.suite('talk', { nodes: 2 })

const FAMILIES = [v4, v6]

let pods: LabPod[]
let hosts: LabPod[]

const elsewhere = (pod: LabPod): LabPod => pods.find(({ node }) => node !== pod.node) as LabPod
const addressesOf = (node: string): string[] => [nodeLayout(node).v4, nodeLayout(node).v6]

test('pods of a Deployment start on both nodes, with an address of each family', async () => {
  await lab.apply(
    deployment('web', 4),
    daemonSet('host', { hostNetwork: true }),
    service('web', 'web', { clusterIP: 'None' }),
  )
  pods = await lab.ready('app=web', 4)
  hosts = await lab.ready('app=host', 2)
  assert.equal(pods.map(({ node }) => node).sort(), ['node1', 'node1', 'node2', 'node2'])
  for (const { name, addresses } of pods)
    assert.equal(
      [...addresses].sort(),
      [v4(addresses), v6(addresses)].sort(),
      `${name} has one of each family: ${addresses}`,
    )
  const all = pods.flatMap(({ addresses }) => addresses)
  assert.is(new Set(all).size, 8, all.join(' '))
})

test('every pod answers pings of every other one', async () => {
  for (const from of pods)
    for (const to of pods)
      for (const address of to.addresses) {
        const { answered, text } = await ping(lab, from.name, address)
        assert.ok(answered, `${from.name} on ${from.node} to ${to.name} on ${to.node}: ${text}`)
      }
})

test('pods see each other under their own addresses, by TCP and UDP', async () => {
  for (const from of pods)
    for (const to of pods.filter(pod => pod !== from))
      for (const family of FAMILIES) {
        const [own, other] = [family(from.addresses), family(to.addresses)]
        assert.is(await askHttp(lab, from.name, other), own, `TCP, ${from.name} to ${to.name}`)
        assert.is(await askUdp(lab, from.name, other), own, `UDP, ${from.name} to ${to.name}`)
      }
})

test('a megabyte from node to node arrives as it was sent', async () => {
  const [from] = pods as [LabPod]
  const to = elsewhere(from)
  await serve(lab, to.name)
  for (const family of FAMILIES)
    await talks(lab, from.name, family(to.addresses), family(from.addresses), { bytes: 1_000_000 })
})

test('pods reach their own node as themselves, and other nodes as their node', async () => {
  for (const { name, node, addresses } of [pods[0] as LabPod, elsewhere(pods[0] as LabPod)])
    for (const target of lab.nodes)
      for (const [index, family] of FAMILIES.entries()) {
        const address = addressesOf(target)[index] as string
        const as = target === node ? family(addresses) : addressesOf(node)[index]
        assert.is(await askHttp(lab, name, address), as, `${name} on ${node} to ${target} ${address}`)
        assert.ok((await ping(lab, name, address)).answered, `${name} on ${node} pings ${target}`)
      }
})

test('nodes reach every pod, on any node', async () => {
  for (const node of lab.nodes)
    for (const { name, addresses } of pods)
      for (const address of addresses) {
        assert.ok(await askHttp(lab, node, address), `TCP, ${node} to ${name} ${address}`)
        assert.ok(await askUdp(lab, node, address), `UDP, ${node} to ${name} ${address}`)
        assert.ok((await ping(lab, node, address)).answered, `${node} pings ${name} ${address}`)
      }
})

test('pods on the network of their node are reached from pods, and reach them', async () => {
  for (const host of hosts)
    for (const pod of pods) {
      assert.ok(await askHttp(lab, pod.name, v4(host.addresses)), `${pod.name} to ${host.name}`)
      const asked = ['curl', '-gsSf', '--max-time', '15', `http://${v4(pod.addresses)}:8080/hostname`]
      const { stdout, stderr } = await lab.inside(host.name, asked)
      assert.is(stdout, pod.name, `${host.name} to ${pod.name}: ${stderr}${stdout}`)
    }
})

test('names are answered to pods of either node, by UDP and TCP', async () => {
  const answers = async (from: LabPod, words: string[]) => {
    const { stdout } = await lab.inside(from.name, ['dig', '+short', '+search', ...words])
    return stdout.trim().split('\n').sort()
  }
  for (const from of [pods[0] as LabPod, elsewhere(pods[0] as LabPod)])
    for (const transport of ['+notcp', '+tcp'])
      for (const [type, family] of [
        ['A', v4],
        ['AAAA', v6],
      ] as const) {
        const expected = pods.map(({ addresses }) => family(addresses)).sort()
        let got: string[] = []
        await until(
          async () => {
            got = await answers(from, [transport, 'web', type])
            return got.join() === expected.join()
          },
          60_000,
          () =>
            `${from.name}, dig ${transport} web ${type}: ${got.join(' ')}, expected ${expected.join(' ')}`,
          500,
        )
      }
})

test.run()
