/** The control that Twill is compared with, on the other choices that a rig has: containerd 2, kube-proxy with iptables. */
import { suite } from 'uvu'
import * as assert from 'uvu/assert'
import { KubernetesCluster } from '../../hack/rig/kubernetes/cluster.ts'
import { IMAGES } from '../../hack/rig/kubernetes/images.ts'

const rig = new KubernetesCluster(`twk-${process.pid}`)
const test = suite('rig of Kubernetes with the reference plugins')

test.before(() => rig.up({ nodes: 2, cni: 'bridge', proxy: 'iptables', containerd: '2.4' }))
test.after(async () => {
  await rig.down()
})

const pod = (name: string, node: string) => `
apiVersion: v1
kind: Pod
metadata: {name: ${name}, labels: {name: ${name}}}
spec:
  nodeName: ${node}
  terminationGracePeriodSeconds: 0
  containers: [{name: main, image: "${IMAGES.agnhost}", args: [netexec, --http-port=80]}]
---
apiVersion: v1
kind: Service
metadata: {name: ${name}}
spec: {selector: {name: ${name}}, ipFamilyPolicy: RequireDualStack, ports: [{port: 80}]}
---
`

test('it is what was asked for', async () => {
  const runtime = '{.items[*].status.nodeInfo.containerRuntimeVersion}'
  assert.match(
    await rig.mustKubectl(['get', 'nodes', '-o', `jsonpath=${runtime}`]),
    /^(containerd:\/\/2\.4\.\d+ ?){2}$/,
  )
  assert.match(await rig.node('node1').must(['iptables-save', '-t', 'nat']), 'KUBE-SERVICES')
})

test('pods on two nodes reach each other by name, of both families, and see who asked', async () => {
  await rig.mustKubectl(['apply', '-f', '-'], pod('one', 'node1') + pod('two', 'node2'))
  await rig.mustKubectl(['wait', '--for=condition=Ready', 'pod/one', 'pod/two', '--timeout=120s'])
  const addresses = (
    await rig.mustKubectl(['get', 'pod', 'one', '-o', 'jsonpath={.status.podIPs[*].ip}'])
  ).split(' ')
  const seen = async (family: string) =>
    rig.mustKubectl([
      'exec',
      'one',
      '--',
      'curl',
      '-sS',
      family,
      '--retry',
      '20',
      '--retry-all-errors',
      'http://two/clientip',
    ])
  assert.is((await seen('-4')).replace(/:\d+$/, ''), addresses[0])
  assert.is((await seen('-6')).replace(/^\[(.*)\]:\d+$/, '$1'), addresses[1])
})

test.run()
