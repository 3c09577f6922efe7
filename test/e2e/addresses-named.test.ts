/** Addresses asked for by name: what reaches the container, the routes, and what a refusal leaves. */
import { suite } from 'uvu'
import * as assert from 'uvu/assert'
import { Cluster } from '../../hack/rig/cluster.ts'
import { until } from '../../hack/rig/processes.ts'
import { addressAt, formatIp, parseCidr } from '../../lib/address.ts'
import { type Changes, Container } from '../fixtures/cni/caller.ts'
import { nodeTarget } from '../fixtures/cni/node-target.ts'
import { readOwnedParts, readStatus, settledState, untilState } from '../fixtures/node-state.ts'

const rig = new Cluster(`twp-n-${process.pid}`)
const test = suite('addresses by name')
const BOUND_MS = 30_000

test.before(async () => {
  await rig.up({ nodes: 2, config: { coolDown: '60s', heartbeatInterval: '1s' } })
  await rig.addPod('node2', 'far')
})
test.after(async () => {
  await rig.down()
})

async function container(node: string, name: string): Promise<Container> {
  const machine = rig.node(node)
  const made = new Container({ name }, { machine, target: nodeTarget(() => machine, 'twill') })
  await made.make()
  return made
}

const asking = (...ips: string[]): Changes => ({ config: { runtimeConfig: { ips } } })

const addressesOf = (result: { ips?: { address: string }[] | undefined }) =>
  result.ips?.map(({ address }) => address.replace(/\/.*/, ''))

const farAway = async (from: Container) => {
  const [pod] = (await readStatus(rig, 'node2')).pods
  // Its part is new: the other node takes packets from it as soon as it has seen the slot.
  for (const address of pod?.addresses ?? [])
    await until(
      () =>
        from.inside(['ping', '-c1', '-W1', address]).then(
          () => true,
          () => false,
        ),
      BOUND_MS,
      () => `${from.name} does not reach ${address}`,
    )
}

test('CNI-206 CNI-226 a free address anywhere in the pool: claimed alone, routed by all, talked from', async () => {
  const pod = await container('node1', 'fixed')
  const result = await pod.add(asking('10.244.250.7/16'))
  assert.is(result.ips?.length, 2, 'the other family is chosen as usual')
  assert.is(addressesOf(result)?.[0], '10.244.250.7')
  const { node } = await readStatus(rig, 'node1')
  assert.ok((await readOwnedParts(rig, node.uid)).includes('10.244.250.7/32'))
  await until(
    async () =>
      (await rig.node('node2').must(['ip', 'route', 'show', 'proto', '84'])).includes('10.244.250.7 '),
    BOUND_MS,
    () => 'node2 has no route to the single address',
  )
  await farAway(pod)

  // Taken, also by the very same node; and told so by its owner on the other.
  const second = await container('node1', 'second')
  const before = await settledState(rig, 'node1')
  const taken = await second.refused('ADD', asking('10.244.250.7'))
  assert.is(taken.code, 7)
  assert.match(taken.msg, /10\.244\.250\.7 cannot be given: pod \S+ holds it/)
  await untilState(rig, 'node1', before, BOUND_MS)
  const elsewhere = await container('node2', 'elsewhere')
  const refused = await elsewhere.refused('ADD', asking('10.244.250.7'))
  assert.is(refused.code, 7)
  assert.match(refused.msg, /10\.244\.250\.7 is not free on node node1/)

  // A replaced pod keeps its address: no waiting, although the old link has only just gone and the address cools.
  await pod.quietly('DEL')
  assert.is(addressesOf(await second.add(asking('10.244.250.7')))?.[0], '10.244.250.7')
  await farAway(second)
  await second.quietly('DEL')
  await until(
    async () => (await elsewhere.call('ADD', asking('10.244.250.7'))).status === 0,
    BOUND_MS,
    () => 'node1 does not give the address, which nobody holds any more',
  )
  for (const each of [pod, second, elsewhere]) {
    await each.call('DEL')
    await each.remove()
  }
})

test('CNI-220 CNI-222 CNI-224 by args, by CNI_ARGS as podman does, both families by name', async () => {
  const pod = await container('node1', 'args')
  const { parts } = await readStatus(rig, 'node1')
  const v6 = parts.find(({ cidr, free }) => cidr.includes(':') && free > 50)?.cidr as string
  const wanted = formatIp(addressAt(parseCidr(v6), 60))
  const result = await pod.add({
    env: { CNI_ARGS: 'IgnoreUnknown=1;K8S_POD_NAME=web;IP=10.244.250.9' },
    config: { runtimeConfig: { ips: [wanted] } },
  })
  assert.equal(addressesOf(result), ['10.244.250.9', wanted])
  await farAway(pod)
  await pod.quietly('DEL')
  const args = { cni: { ips: ['10.244.250.10'] } }
  const again = await pod.add({ env: { CNI_ARGS: 'IgnoreUnknown=1;IP=10.244.250.9' }, config: { args } })
  assert.is(addressesOf(again)?.[0], '10.244.250.10')
  await pod.quietly('DEL')
  await pod.remove()
})

test.run()
