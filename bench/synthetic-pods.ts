/**
 * Pods that no kubelet runs, in an API server: what a large cluster has besides the pods of one node. A program of its
 * own, since the API server of a rig is reached from the rig's network only.
 *
 *   node --import tsx bench/synthetic-pods.ts KUBECONFIG COUNT
 *
 * Their nodes exist, so that nobody collects the pods as those of no node.
 */
import { readFile } from 'node:fs/promises'
import { pino } from 'pino'
import { connectKubernetes } from '../datastore/kubernetes/client.ts'
import { systemClock } from '../lib/clock.ts'

const NAMESPACE = 'synthetic'
const PER_NODE = 100
const AT_ONCE = 40

const [kubeconfig, count] = [process.argv[2] ?? '', Number(process.argv[3])]
const client = await connectKubernetes(
  { kubeconfig },
  { clock: systemClock, log: pino({ level: 'warn' }), readFile, environment: process.env },
)
await client.request('POST', '/api/v1/namespaces', { body: { metadata: { name: NAMESPACE } } })
await make(Math.ceil(count / PER_NODE), addNode)
await make(count, addPod)
client.close()

async function make(wanted: number, one: (index: number) => Promise<unknown>) {
  let next = 0
  const worker = async () => {
    while (next < wanted) await one(next++)
  }
  await Promise.all(Array.from({ length: AT_ONCE }, worker))
}

function addNode(index: number) {
  const metadata = { name: `synthetic${index}`, labels: { 'kubernetes.io/os': 'linux' } }
  // Nothing of the rig's own shall be put there.
  const spec = { unschedulable: true, taints: [{ key: 'bench', effect: 'NoSchedule' }] }
  return client.request('POST', '/api/v1/nodes', { body: { metadata, spec } })
}

/** As large as pods are: labels, annotations, a container with its settings, a status with addresses. */
async function addPod(index: number) {
  const pods = `/api/v1/namespaces/${NAMESPACE}/pods`
  const name = `pod${index}`
  const metadata = {
    name,
    labels: {
      app: `app${index % 50}`,
      'pod-template-hash': '6f9695b87d',
      tier: index % 2 ? 'front' : 'back',
    },
    annotations: { 'example.com/checksum': 'f'.repeat(64), 'example.com/restarted': '2026-01-01T00:00:00Z' },
  }
  const container = {
    name: 'main',
    image: `registry.example.com/team/app${index % 50}:1.2.3`,
    env: Array.from({ length: 10 }, (_, i) => ({ name: `SETTING_${i}`, value: `value ${i} of ${name}` })),
    ports: [{ name: 'http', containerPort: 8080 }],
    resources: { requests: { cpu: '100m', memory: '128Mi' } },
    livenessProbe: { httpGet: { path: '/healthz', port: 'http' } },
  }
  const spec = { nodeName: `synthetic${Math.floor(index / PER_NODE)}`, containers: [container] }
  await client.request('POST', pods, { body: { metadata, spec } })
  const ip = `10.200.${index >> 8}.${index & 255}`
  const status = {
    phase: 'Running',
    podIP: ip,
    podIPs: [{ ip }],
    conditions: [{ type: 'Ready', status: 'True' }],
  }
  await client.request('PATCH', `${pods}/${name}/status`, {
    body: { status },
    contentType: 'application/merge-patch+json',
  })
}
