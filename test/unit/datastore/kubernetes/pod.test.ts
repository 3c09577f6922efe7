/** What is kept of pods, namespaces and nodes, by the numbers of the network policy requirements. */
import { test } from 'uvu'
import * as assert from 'uvu/assert'
import { kubernetesNode, namespaceRecord } from '../../../../datastore/kubernetes/cluster-objects.ts'
import { isPod, ownPod, podRecord } from '../../../../datastore/kubernetes/pod.ts'
import { object } from '../../../fixtures/kubernetes/scripted-client.ts'

const pod = ({ metadata, ...fields }: { spec?: object; status?: object; metadata?: object }) => {
  const made = object('web', 7, { namespace: 'shop', labels: { app: 'web' }, ...fields })
  return { ...made, metadata: { ...made.metadata, ...metadata } }
}
const running = { phase: 'Running', podIP: '10.244.0.5', podIPs: [{ ip: '10.244.0.5' }, { ip: 'fd00:0::5' }] }

test('NP-092 a dual-stack pod has both its addresses, canonical; labels are the object’s', () => {
  const record = podRecord(pod({ spec: { nodeName: 'n1' }, status: running }))
  assert.equal(record, {
    namespace: 'shop',
    name: 'web',
    uid: 'uid-of-web',
    node: 'n1',
    labels: { app: 'web' },
    addresses: ['10.244.0.5', 'fd00::5'],
    hostNetwork: false,
    state: 'running',
    ports: [],
  })
})

test('NP-085 a terminating pod keeps its addresses', () => {
  const record = podRecord(pod({ status: running, metadata: { deletionTimestamp: '2026-01-01T00:00:00Z' } }))
  assert.is(record.state, 'terminating')
  assert.equal(record.addresses, ['10.244.0.5', 'fd00::5'])
})

test('NP-086 a completed pod has none, whether it succeeded or failed, terminating or not', () => {
  for (const phase of ['Succeeded', 'Failed'])
    for (const metadata of [{}, { deletionTimestamp: '2026-01-01T00:00:00Z' }]) {
      const record = podRecord(pod({ status: { ...running, phase }, metadata }))
      assert.is(record.state, 'ended')
      assert.equal(record.addresses, [])
    }
})

test("NP-036 NP-037 a hostNetwork pod is known as such and bears none of its node's addresses", () => {
  const record = podRecord(pod({ spec: { hostNetwork: true }, status: running }))
  assert.is(record.hostNetwork, true)
  assert.equal(record.addresses, [])
})

test('NP-088 no address yet, or one that is none: the pod is known all the same, and its others stay', () => {
  assert.equal(podRecord(pod({})).addresses, [])
  assert.is(podRecord(pod({})).state, 'pending')
  const podIPs = [{ ip: '010.1.1.1' }, { ip: '' }, {}, { ip: 'fd00::7' }]
  assert.equal(podRecord(pod({ status: { phase: 'Running', podIPs } })).addresses, ['fd00::7'])
  assert.equal(podRecord(pod({ status: { phase: 'Running', podIP: '10.0.0.1' } })).addresses, ['10.0.0.1'])
})

test('NP-042 NP-045 named ports: of containers and sidecars, not of other init containers; one name twice', () => {
  const web = { ports: [{ name: 'http', containerPort: 80 }, { containerPort: 81 }] }
  const other = { ports: [{ name: 'http', protocol: 'UDP', containerPort: 8080 }] }
  const sidecar = { restartPolicy: 'Always', ports: [{ name: 'metrics', containerPort: 9090 }] }
  const init = { ports: [{ name: 'setup', containerPort: 1 }] }
  const record = podRecord(pod({ spec: { containers: [web, other], initContainers: [init, sidecar] } }))
  assert.equal(record.ports, [
    { name: 'http', protocol: 'TCP', port: 80 },
    { name: 'http', protocol: 'UDP', port: 8080 },
    { name: 'metrics', protocol: 'TCP', port: 9090 },
  ])
})

test('a pod of this node: of its annotations our own; a static pod by either of its UIDs', () => {
  const annotations = {
    'kubernetes.io/config.hash': 'abc',
    'kubectl.kubernetes.io/last-applied-configuration': '{}',
    'twill.network/ipv4-pool': 'p',
  }
  const own = ownPod(pod({ metadata: { annotations } }))
  assert.equal(Object.keys(own.annotations), ['twill.network/ipv4-pool'])
  assert.equal(
    ['abc', 'uid-of-web', '', 'other'].map(uid => isPod(own, uid)),
    [true, true, true, false],
  )
  assert.is(isPod(ownPod(pod({})), 'abc'), false)
})

test('NP-032 a namespace has its name as a label, also from a server that does not say it, whatever else stands there', () => {
  const { labels } = namespaceRecord(
    object('shop', 1, { labels: { 'kubernetes.io/metadata.name': 'else', a: 'b' } }),
  )
  assert.equal(labels, { 'kubernetes.io/metadata.name': 'shop', a: 'b' })
  assert.equal(namespaceRecord(object('shop', 1)).labels, { 'kubernetes.io/metadata.name': 'shop' })
})

test('of the annotations of a namespace only our own are kept', () => {
  const annotations = {
    'twill.network/ipv4-pool': 'p',
    'kubectl.kubernetes.io/last-applied-configuration': '{}',
  }
  const { metadata } = object('shop', 1)
  const kept = namespaceRecord({ metadata: { ...metadata, annotations } }).annotations
  assert.equal(kept, { 'twill.network/ipv4-pool': 'p' })
})

test('NP-054 a node: all its addresses, no names', () => {
  const addresses = [
    { type: 'InternalIP', address: '192.168.1.1' },
    { type: 'ExternalIP', address: '203.0.113.1' },
    { type: 'Hostname', address: 'n1' },
    { type: 'InternalDNS', address: 'n1.local' },
    { type: 'InternalIP', address: 'fd00:0::1' },
    { type: 'ExternalIP', address: '192.168.1.1' },
    // The API server takes any text for an address of a Node.
    { type: 'InternalIP', address: 'n1' },
    { type: 'ExternalIP', address: '' },
    { type: 'InternalIP', address: '192.168.1.1; reboot' },
  ]
  const node = kubernetesNode(object('n1', 1, { spec: { podCIDR: '10.1.0.0/24' }, status: { addresses } }))
  assert.equal(node.addresses, ['192.168.1.1', '203.0.113.1', 'fd00::1'])
  assert.equal(node.podCidrs, ['10.1.0.0/24'])
  assert.equal(kubernetesNode(object('n2', 1)).podCidrs, [])
})

test.run()
