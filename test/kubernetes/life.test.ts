/**
 * What happens to a node, with a containerd that asks for STATUS: its daemon is killed and replaced under load, its
 * data path breaks, its power fails.
 */
import * as assert from 'uvu/assert'
import { DAEMON_POD, NAMESPACE } from '../../hack/rig/kubernetes/daemonset.ts'
import { until } from '../../hack/rig/processes.ts'
import { untilAllAnswer } from '../fixtures/kubernetes/answers.ts'
import { readySince, untilCondition } from '../fixtures/kubernetes/conditions.ts'
import { KubernetesLab, type LabPod } from '../fixtures/kubernetes/lab.ts'
import { askHttp } from '../fixtures/kubernetes/netexec.ts'
import { daemonSet, deployment } from '../fixtures/kubernetes/objects.ts'
import { readStatus } from '../fixtures/node-state.ts'
import { startTraffic } from '../fixtures/traffic.ts'

const lab = new KubernetesLab('life')
const test = lab.suite('life', { nodes: 2, install: 'daemonset', containerd: '2.4' })

const [NODE, OTHER] = ['node1', 'node2'] as const
const WAVES = ['wave-0', 'wave-1']

let web: LabPod[]
const webOf = (node: string): LabPod => web.find(pod => pod.node === node) as LabPod

interface Conflist {
  cniVersions: string[]
  plugins: { type: string }[]
}

test('the network of a node that Twill serves is available', async () => {
  await lab.apply(daemonSet('web'))
  web = await lab.ready('app=web', 2)
  for (const node of lab.nodes) await untilCondition(lab, `node/${node}`, 'NetworkUnavailable', 'False')
})

test('a chain that speaks CNI 1.1.0 is offered to the runtime as such', async () => {
  for (const node of lab.nodes) {
    const { stdout } = await lab.exec(node, ['cat', '/etc/cni/net.d/10-twill.conflist'])
    const { cniVersions, plugins } = JSON.parse(stdout) as Conflist
    assert.ok(cniVersions.includes('1.1.0'), `${node} offers ${cniVersions}`)
    assert.equal(
      plugins.map(({ type }) => type),
      ['twill', 'portmap', 'bandwidth'],
    )
  }
})

test('daemons are killed, and all replaced at once: no packet is lost, pods start, no node turns NotReady', async () => {
  const since = await readySince(lab)
  const traffic = await startTraffic(lab, webOf(NODE).name, webOf(OTHER).name)
  for (const [round, wave] of WAVES.entries()) {
    await lab.apply(deployment(wave, 4))
    if (round === 0) await Promise.all(lab.nodes.map(node => lab.cluster.killDaemon(node)))
    else await lab.kubectl('-n', NAMESPACE, 'delete', 'pods', '-l', DAEMON_POD)
    await Promise.all(lab.nodes.map(node => lab.cluster.awaitDaemon(node)))
    await untilAllAnswer(lab, web, await lab.ready(`app=${wave}`, 4))
  }
  await traffic.stop()
  assert.equal(await readySince(lab), since)
  await lab.kubectl('delete', 'deployment', ...WAVES)
})

test('a broken data path turns the node NotReady, which says why, and it recovers by itself', async () => {
  // Another device has its VNI and port: it cannot be made anew.
  await lab.node(OTHER).script('ip link set twill-vx4 down; ip link set twill-vx4 name foreign0')
  const { message } = await untilCondition(lab, `node/${OTHER}`, 'Ready', 'False')
  assert.match(message, /twill-vx4/)
  await lab.node(OTHER).must(['ip', 'link', 'del', 'foreign0'])
  await untilCondition(lab, `node/${OTHER}`, 'Ready', 'True')
  await untilAllAnswer(lab, web)
})

test('a node whose power failed comes back as the same node, and its pods talk again', async () => {
  const uid = async () => (await readStatus(lab.cluster.rig, OTHER)).node.uid
  const before = await uid()
  await lab.cluster.stopNode(OTHER)
  await lab.cluster.startNode(OTHER)
  assert.is(await uid(), before, `UID of ${OTHER} after its power failed`)
  await until(
    async () => {
      web = await lab.ready('app=web', 2).catch(() => [])
      const pod = web.find(({ node }) => node === OTHER)
      return (
        pod !== undefined && (await askHttp(lab, NODE, pod.addresses[0] as string, { patienceS: 5 })) !== null
      )
    },
    150_000,
    () => `the pod of ${OTHER} is not reached`,
    500,
  )
  await untilAllAnswer(lab, web)
})

test.run()
