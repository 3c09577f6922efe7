/**
 * Twill as it is installed anywhere, by its image and manifests: from the startup taint of a node to the deletion of its
 * Node object.
 */
import { readFileSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import * as assert from 'uvu/assert'
import { EXECUTABLES } from '../../daemon/cni/executables.ts'
import { STARTUP_TAINT } from '../../daemon/kubernetes/own-node.ts'
import { DEFINITIONS } from '../../hack/rig/kubernetes/cluster.ts'
import { DAEMON_POD, NAMESPACE } from '../../hack/rig/kubernetes/daemonset.ts'
import { ETCD_URL } from '../../hack/rig/layout.ts'
import { until } from '../../hack/rig/processes.ts'
import { untilAllAnswer } from '../fixtures/kubernetes/answers.ts'
import { readySince, untilCondition } from '../fixtures/kubernetes/conditions.ts'
import { KubernetesLab, type LabPod } from '../fixtures/kubernetes/lab.ts'
import { askHttp } from '../fixtures/kubernetes/netexec.ts'
import { daemonSet, onNode, pod, service } from '../fixtures/kubernetes/objects.ts'
import { nodeLeftovers } from '../fixtures/node-leftovers.ts'
import { readStatus } from '../fixtures/node-state.ts'
import { v4 } from '../fixtures/talk.ts'
import { startTraffic } from '../fixtures/traffic.ts'

const lab = new KubernetesLab('manifest')
const test = lab.suite('manifest', { nodes: 2, install: 'daemonset', containerd: '2.4' })

const [NODE, OTHER] = ['node1', 'node2'] as const
const CONFLIST = '/etc/cni/net.d/10-twill.conflist'

let web: LabPod[]
/** UID of the node whose Node object was deleted. */
let removed: string
const webOf = (node: string): LabPod => web.find(pod => pod.node === node) as LabPod

async function untaintedNode(name: string): Promise<void> {
  let taints: { key: string }[] = []
  await until(
    async () => {
      const { spec } = await lab.json<{ spec: { taints?: { key: string }[] } }>('get', 'node', name)
      taints = spec.taints ?? []
      return taints.length === 0
    },
    120_000,
    () => `${name} keeps ${taints.map(({ key }) => key).join(', ')}`,
    500,
  )
}

async function daemonLog(node: string): Promise<string> {
  const [daemon] = (await lab.podFacts(DAEMON_POD)).filter(({ spec }) => spec.nodeName === node)
  return lab.kubectl('-n', NAMESPACE, 'logs', daemon?.metadata.name ?? `there is none on ${node}`)
}

const servesNode = async (name: string) => {
  const { reason } = await untilCondition(lab, `node/${name}`, 'NetworkUnavailable', 'False')
  assert.is(reason, 'TwillIsUp')
  await untaintedNode(name)
  assert.match(await daemonLog(name), /the startup taint is removed/)
}

const pool = (name: string, cidr: string): object => ({
  apiVersion: 'twill.network/v1alpha1',
  kind: 'IPPool',
  metadata: { name },
  spec: { cidr },
})

test('a node begins with the startup taint, and the daemon takes it away once the network is there', async () => {
  for (const node of lab.nodes) {
    assert.match(await lab.node(node).must(['cat', '/etc/kubernetes/kubelet.yaml']), STARTUP_TAINT)
    await servesNode(node)
  }
})

test('the daemon has put executables and network configuration on the node', async () => {
  for (const node of lab.nodes)
    for (const path of [...EXECUTABLES.map(name => `/opt/cni/bin/${name}`), CONFLIST])
      await lab.node(node).must(['find', path, '-type', 'f', '-size', '+0'])
})

test('the service account lacks no right', async () => {
  for (const node of lab.nodes) {
    const { kubernetes } = await readStatus(lab.cluster.rig, node)
    assert.is(kubernetes?.connected, true)
    assert.equal(kubernetes?.missingRights, [])
  }
})

test('pods on two nodes talk, and reach a Service', async () => {
  await lab.apply(daemonSet('web'), service('web', 'web'))
  web = await lab.ready('app=web', 2)
  await untilAllAnswer(lab, web)
  const { spec } = await lab.json<{ spec: { clusterIPs: string[] } }>('get', 'service', 'web')
  for (const { name } of web)
    for (const address of spec.clusterIPs) {
      let answer: string | null = null
      await until(
        async () => {
          answer = await askHttp(lab, name, address, { path: 'hostname', patienceS: 5 })
          return web.some(each => each.name === answer)
        },
        60_000,
        () => `${name} to the Service at ${address}: ${answer}`,
      )
    }
})

test('twillctl in the container needs to be told nothing', async () => {
  for (const node of lab.nodes) {
    assert.match(await lab.twillctl(node, ['status']), new RegExp(`\\b${node}\\b`))
    assert.match(await lab.twillctl(node, ['get', 'nodes']), /^node1 .*\nnode2 /m)
    await until(
      async () => (await lab.cluster.twillctl(node, ['ipam', 'check'])).status === 0,
      60_000,
      () => `${node}: twillctl ipam check does not agree`,
      500,
    )
  }
})

test('kubectl applies a pool, which is accepted; one that overlaps it is not, and says why', async () => {
  await lab.apply(pool('shop', '10.77.0.0/24'))
  assert.is((await untilCondition(lab, 'ippool/shop', 'Accepted', 'True')).reason, 'Entered')
  const inForce = '{.status.inForce.blockSize} {.status.inForce.encapsulation}'
  assert.is(await lab.kubectl('get', 'ippool/shop', '-o', `jsonpath=${inForce}`), '26 Always', inForce)
  await lab.apply(pool('stall', '10.77.0.128/25'))
  const { reason, message } = await untilCondition(lab, 'ippool/stall', 'Accepted', 'False')
  assert.is(reason, 'Overlap')
  assert.match(message, /10\.77\.0\.128\/25.*10\.77\.0\.0\/24/)
  await lab.kubectl('delete', 'ippool', 'stall', '--timeout=60s')
})

test('a pool that kubectl deletes stays until its last pod is gone', async () => {
  const shopper = pod('shopper', onNode(OTHER), { annotations: { 'twill.network/ipv4-pool': 'shop' } })
  await lab.apply(shopper)
  const pods = await lab.ready('app=shopper', 1)
  assert.match(v4(pods[0]?.addresses ?? []), /^10\.77\.0\./)
  await lab.kubectl('delete', 'ippool', 'shop', '--wait=false')
  const { reason, message } = await untilCondition(lab, 'ippool/shop', 'Draining', 'True')
  assert.is(reason, 'InUse')
  assert.match(message, OTHER)
  await untilAllAnswer(lab, web, pods)
  await lab.remove(shopper)
  await lab.kubectl('wait', '--for=delete', 'ippool/shop', '--timeout=120s')
})

test('a runtime that asks for STATUS is offered CNI 1.1.0 with the whole chain in place', async () => {
  for (const node of lab.nodes)
    await until(
      async () => {
        const { stdout } = await lab.exec(node, ['cat', CONFLIST])
        return ['"1.1.0"', '"portmap"', '"bandwidth"'].every(each => stdout.includes(each))
      },
      150_000,
      () => `${node}: the network configuration does not offer CNI 1.1.0`,
      500,
    )
})

test('daemons are replaced one by one: no packet is lost, and no node turns NotReady', async () => {
  const daemons = async () => (await lab.podFacts(DAEMON_POD)).map(({ metadata }) => metadata.uid)
  const [before, since] = [await daemons(), await readySince(lab)]
  const traffic = await startTraffic(lab, webOf(NODE).name, webOf(OTHER).name)
  await lab.kubectl('-n', NAMESPACE, 'rollout', 'restart', 'daemonset/twilld')
  await lab.kubectl('-n', NAMESPACE, 'rollout', 'status', 'daemonset/twilld', '--timeout=300s')
  await traffic.stop()
  assert.equal(
    (await daemons()).filter(uid => before.includes(uid)),
    [],
  )
  assert.equal(await readySince(lab), since)
})

test('a wrong endpoint stops at the first node, which goes on serving pods; set right, the rollout goes on', async () => {
  const { install } = lab.cluster.kustomizations
  const file = join(install, 'twilld.yaml')
  const config = readFileSync(file, 'utf8')
  const roll = async (text: string) => {
    writeFileSync(file, text)
    await lab.kubectl('apply', '-k', install)
  }
  const rolled = async () => {
    const { status } = await lab.json<{ status: Record<string, number> }>(
      ...['-n', NAMESPACE, 'get', 'daemonset', 'twilld'],
    )
    return [status.updatedNumberScheduled, status.numberReady]
  }
  const answers = (path: string) =>
    Promise.all(
      lab.nodes.map(node =>
        lab.cluster.rig.api(node, path).catch(({ message }) => ({ status: 0, body: message })),
      ),
    )
  const since = await readySince(lab)
  await roll(config.replace(ETCD_URL, 'http://127.0.0.1:1'))
  let said: { status: number; body: string }[] = []
  let serving: typeof said = []
  const misled = () =>
    said.findIndex(({ status, body }) => status === 503 && body.includes('http://127.0.0.1:1'))
  await until(
    async () => {
      said = await answers('/v1/ready?datastore')
      serving = await answers('/v1/ready')
      return misled() >= 0 && serving.every(({ status }) => status === 200)
    },
    120_000,
    () => JSON.stringify({ said, serving }),
    500,
  )
  const at = lab.nodes[misled()] as string
  const meanwhile = pod('meanwhile', onNode(at))
  await lab.apply(meanwhile)
  await untilAllAnswer(lab, web, await lab.ready('app=meanwhile', 1))
  assert.equal(await rolled(), [1, 1])
  await roll(config)
  await lab.kubectl('-n', NAMESPACE, 'rollout', 'status', 'daemonset/twilld', '--timeout=300s')
  assert.equal(await rolled(), [2, 2])
  assert.equal(await readySince(lab), since)
  await lab.remove(meanwhile)
})

test('a node whose Node object is deleted is removed', async () => {
  removed = (await readStatus(lab.cluster.rig, OTHER)).node.uid
  await lab.cluster.stopNode(OTHER)
  await lab.kubectl('delete', 'node', OTHER)
  let names: string[] = []
  await until(
    async () => {
      names = (await readStatus(lab.cluster.rig, NODE)).nodes.map(({ name }) => name)
      return names.join() === NODE
    },
    150_000,
    () => `there are ${names.join(', ')}`,
    1_000,
  )
})

test('with a Node object anew its machine is a node again, the one it was, and its pods talk', async () => {
  await lab.cluster.startNode(OTHER)
  await servesNode(OTHER)
  assert.is((await readStatus(lab.cluster.rig, OTHER)).node.uid, removed)
  web = await lab.ready('app=web', 2)
  await untilAllAnswer(lab, web)
})

test('Twill goes off drained nodes: nothing of it is left there, and nothing keeps its definitions', async () => {
  const { install, uninstall } = lab.cluster.kustomizations
  await lab.remove(daemonSet('web'), service('web', 'web'))
  await lab.kubectl('drain', ...lab.nodes, '--ignore-daemonsets', '--timeout=120s')
  await lab.kubectl('apply', '-k', uninstall)
  await lab.kubectl('-n', NAMESPACE, 'rollout', 'status', 'daemonset/twilld', '--timeout=300s')
  const logs = await lab.kubectl('-n', NAMESPACE, 'logs', '-l', DAEMON_POD, '-c', 'uninstall', '--tail=-1')
  for (const node of lab.nodes) {
    assert.match(logs, new RegExp(`^Twill is off node ${node}$`, 'm'))
    assert.equal(await nodeLeftovers(lab.cluster.rig, node), [])
    const { reason } = await untilCondition(lab, `node/${node}`, 'NetworkUnavailable', 'True')
    assert.is(reason, 'TwillIsUninstalled')
  }
  assert.is(logs.match(/this was the last node: pools .*pods-v4/g)?.length, 1, logs)
  await lab.kubectl('delete', '-k', install, '--timeout=120s')
  await lab.kubectl('delete', '-f', DEFINITIONS, '--timeout=60s')
})

test.run()
