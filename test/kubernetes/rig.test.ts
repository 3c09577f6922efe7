/** hack/kubernetes: a real Kubernetes comes up with every node Ready, survives its nodes' power failures, and leaves nothing. */
import { spawnSync } from 'node:child_process'
import { join } from 'node:path'
import { suite } from 'uvu'
import * as assert from 'uvu/assert'
import { KubernetesCluster } from '../../hack/rig/kubernetes/cluster.ts'
import { IMAGES } from '../../hack/rig/kubernetes/images.ts'
import { ROOT } from '../../hack/rig/layout.ts'

const rig = new KubernetesCluster(`twk-${process.pid}`)
const test = suite('rig of Kubernetes')

function hack(words: string[], input = '') {
  const env = { ...process.env, TWILL_CLUSTER: rig.name }
  return spawnSync(join(ROOT, 'hack/kubernetes'), words, { env, encoding: 'utf8', input })
}

const kubectl = async (words: string[], input = ''): Promise<string> =>
  (await rig.mustKubectl(words, input)).trim()

interface PodFacts {
  metadata: { name: string }
  spec: { nodeName: string }
  status: { podIPs: { ip: string }[]; containerStatuses: { restartCount: number }[] }
}

const webPods = async (): Promise<PodFacts[]> =>
  (JSON.parse(await kubectl(['get', 'pods', '-l', 'app=web', '-o', 'json'])) as { items: PodFacts[] }).items

const WEB = `
apiVersion: apps/v1
kind: DaemonSet
metadata: {name: web}
spec:
  selector: {matchLabels: {app: web}}
  template:
    metadata: {labels: {app: web}}
    spec:
      terminationGracePeriodSeconds: 0
      containers:
        - name: main
          image: ${IMAGES.agnhost}
          imagePullPolicy: Never
          command: [sh, -c, 'hostname >/tmp/index.html; echo serving; exec httpd -f -p 80 -h /tmp']
---
apiVersion: v1
kind: Service
metadata: {name: web}
spec: {selector: {app: web}, clusterIP: 10.96.7.7, ports: [{port: 80}]}
`

/** From the first pod; curl fails where there is no answer. */
async function ask(url: string): Promise<string> {
  const [first] = await webPods()
  return kubectl(['exec', first!.metadata.name, '--', 'curl', '-gsS', url])
}

test.before(() => {
  const { status, stderr } = hack(['up', '--nodes', '2', '--cni', 'twill', '--proxy', 'nftables'])
  // What a hook throws is not shown.
  if (status !== 0) console.log(stderr)
  assert.is(status, 0)
})
test.after(async () => {
  await rig.down()
})

test('every node is Ready, of both families, with its part of the pods', async () => {
  const read = (path: string) => kubectl(['get', 'nodes', '-o', `jsonpath=${path}`])
  assert.is(await read('{.items[*].status.conditions[?(@.type=="Ready")].status}'), 'True True')
  const addresses = await read('{.items[*].status.addresses[?(@.type=="InternalIP")].address}')
  assert.is(addresses, '192.168.77.11 fd77::11 192.168.77.12 fd77::12')
  const ranges = await read('{.items[*].spec.podCIDRs[*]}')
  assert.is(new Set(ranges.split(' ')).size, 4, ranges)
})

test('pods on two nodes talk, under their own addresses and through a Service', async () => {
  const applied = hack(['kubectl', 'apply', '-f', '-'], WEB)
  assert.is(applied.status, 0, applied.stderr)
  await kubectl(['rollout', 'status', 'daemonset/web', '--timeout=120s'])
  const pods = await webPods()
  assert.equal(pods.map(pod => pod.spec.nodeName).sort(), ['node1', 'node2'])
  for (const pod of pods)
    for (const { ip } of pod.status.podIPs)
      assert.is(await ask(`http://${ip.includes(':') ? `[${ip}]` : ip}/`), pod.metadata.name)
  const heard = new Set<string>()
  for (let i = 0; i < 60 && heard.size < 2; i++) heard.add(await ask('http://10.96.7.7/'))
  assert.equal([...heard].sort(), pods.map(pod => pod.metadata.name).sort())
})

test('pods find Services by their names', async () => {
  const [first] = await webPods()
  const answer = await ask('http://web.default.svc/')
  assert.ok(
    (await webPods()).some(pod => pod.metadata.name === answer),
    answer,
  )
  const dig = ['dig', '+short', '+search', 'web']
  assert.is(await kubectl(['exec', first!.metadata.name, '--', ...dig]), '10.96.7.7')
})

test('the API server reaches pods, and kubelet gives their logs', async () => {
  for (const { metadata } of await webPods()) {
    const proxied = `/api/v1/namespaces/default/pods/${metadata.name}/proxy/`
    assert.is(await kubectl(['get', '--raw', proxied]), metadata.name)
    assert.is(await kubectl(['logs', metadata.name]), 'serving')
  }
})

test('no pod is seen on the underlay under its own address', async () => {
  const leaks = await rig.rig.leaks()
  assert.ok(leaks.length > 0)
  assert.equal(
    leaks.filter(({ packets }) => packets > 0),
    [],
  )
})

test('up again changes nothing; up as something else is refused', () => {
  const before = rig.nodes.map(name => rig.node(name).servicePid('kubelet'))
  assert.is(hack(['up']).status, 0)
  assert.equal(
    rig.nodes.map(name => rig.node(name).servicePid('kubelet')),
    before,
  )
  const { status, stderr } = hack(['up', '--proxy', 'iptables'])
  assert.is(status, 1)
  assert.match(stderr, 'proxy nftables')
})

test('a node whose power fails comes back as the same node, and its pods with it', async () => {
  const uid = () => kubectl(['get', 'node', 'node2', '-o', 'jsonpath={.metadata.uid}'])
  const podOfNode2 = async () => (await webPods()).find(pod => pod.spec.nodeName === 'node2')!
  const [node, pod] = [await uid(), await podOfNode2()]
  assert.is(hack(['node', 'stop', 'node2']).status, 0)
  assert.not.ok(rig.node('node2').running)
  const started = hack(['node', 'start', 'node2'])
  assert.is(started.status, 0, started.stderr)
  assert.is(await uid(), node)
  const restarts = pod.status.containerStatuses[0]!.restartCount + 1
  const name = `pod/${pod.metadata.name}`
  const wait = ['wait', name, '--timeout=120s']
  await kubectl([...wait, `--for=jsonpath={.status.containerStatuses[0].restartCount}=${restarts}`])
  await kubectl([...wait, '--for=condition=Ready'])
  const again = await podOfNode2()
  assert.is(again.metadata.name, pod.metadata.name)
  assert.is(await ask(`http://${again.status.podIPs[0]!.ip}/`), pod.metadata.name)
})

test('wrong words: status 2, the word, and how it is used', () => {
  for (const words of [['up', '--cni', 'flannel'], ['node', 'kick', 'node1'], ['exec', 'node1'], []]) {
    const { status, stderr } = hack(words)
    assert.is(status, 2, words.join(' '))
    assert.match(stderr, 'usage: hack/kubernetes')
  }
})

test('down leaves nothing of two running nodes with pods, and says so again', () => {
  const first = hack(['down'])
  assert.is(first.status, 0, first.stdout + first.stderr)
  assert.match(first.stdout, 'removed node1: its processes, interfaces and mounts')
  assert.equal(rig.leftovers(), [])
  const second = hack(['down'])
  assert.is(second.status, 0)
  assert.match(second.stdout, 'nothing to remove')
})

test.run()
