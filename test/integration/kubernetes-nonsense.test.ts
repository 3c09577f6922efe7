/**
 * Objects that a real API server takes and that are nonsense, or at the limit of what it takes: each is known for what it
 * is, what is wrong with it is told, and nothing else suffers.
 */
import { readFile } from 'node:fs/promises'
import { suite } from 'uvu'
import * as assert from 'uvu/assert'
import { NodeLife } from '../../daemon/kubernetes/node-life.ts'
import { STARTUP_TAINT } from '../../daemon/kubernetes/own-node.ts'
import { ResourceStatus } from '../../daemon/kubernetes/resource-status.ts'
import { connectKubernetes, type KubernetesClient } from '../../datastore/kubernetes/client.ts'
import { KubernetesFacts } from '../../datastore/kubernetes/facts.ts'
import { RoutedStore, resourceStore } from '../../datastore/kubernetes/routed.ts'
import { MemoryCluster } from '../../datastore/memory/cluster.ts'
import { MemoryStore } from '../../datastore/memory/store.ts'
import { until } from '../../hack/rig/processes.ts'
import { replay } from '../../ipam/journal-records.ts'
import { createIpam, type NodeIpam } from '../../ipam/node-ipam.ts'
import { nodeRangesOf } from '../../ipam/pod-cidrs.ts'
import { formatCidr, parseCidr } from '../../lib/address.ts'
import { systemClock } from '../../lib/clock.ts'
import { type Log, silentLog } from '../../lib/log.ts'
import { systemRandom } from '../../lib/random.ts'
import { type ApiRequests, apiRequests } from '../fixtures/kubernetes/api-request.ts'
import { startApiServer, type TestApiServer } from '../fixtures/kubernetes/api-server.ts'
import { applyDefinitions } from '../fixtures/kubernetes/definitions.ts'

const test = suite('nonsense that an API server takes')
const PATIENCE_MS = 60_000
const NODE = 'n1'
const PODS = '/api/v1/namespaces/default/pods'
const RESOURCES = '/apis/twill.network/v1alpha1'
const MERGE = 'application/merge-patch+json'

let api: TestApiServer
let admin: ApiRequests
let client: KubernetesClient
let facts: KubernetesFacts
const ends: (() => unknown)[] = []
const modules = { clock: systemClock, random: systemRandom, log: silentLog }

test.before(async () => {
  api = await startApiServer()
  admin = apiRequests(api)
  await applyDefinitions(api, admin)
  await api.kubectl(['create', 'serviceaccount', 'default'])
  client = await connectKubernetes(
    { kubeconfig: api.kubeconfig },
    { ...modules, readFile: path => readFile(path), environment: {} },
  )
  ends.push(() => client.close())
  facts = new KubernetesFacts({ nodeName: NODE }, { ...modules, client })
  ends.push(() => facts.close())
  await facts.synced()
})

test.after(async () => {
  for (const end of ends.reverse()) await end()
  admin?.close()
  await api?.stop()
})

async function create(path: string, object: object): Promise<void> {
  const { code, body } = await admin.send('POST', path, object)
  assert.is(code, 201, body.message)
}

const pod = (name: string, spec: object = {}, metadata: object = {}) => ({
  apiVersion: 'v1',
  kind: 'Pod',
  metadata: { name, ...metadata },
  spec: { nodeName: NODE, containers: [{ name: 'c', image: 'i' }], ...spec },
})

const known = (name: string) => facts.ownPods.entries.get(`default/${name}`)

async function untilKnown<T>(what: string, look: () => T | undefined): Promise<T> {
  await until(
    () => look() !== undefined,
    PATIENCE_MS,
    () => `${what}: ${JSON.stringify(facts.status())}`,
  )
  return look() as T
}

/** @returns whether the server took it */
async function setStatus(name: string, status: object): Promise<boolean> {
  const { code, body } = await admin.send('PATCH', `${PODS}/${name}/status`, { status }, MERGE)
  assert.ok([200, 422].includes(code), `${code}: ${body.message}`)
  return code === 200
}

const ips = (...texts: string[]) => ({
  phase: 'Running',
  podIP: texts[0],
  podIPs: texts.map(ip => ({ ip })),
})

test('addresses of pods: none, of others, of nobody, and in forms that are not ours', async () => {
  for (const name of ['none', 'first', 'same', 'elsewhere', 'odd']) await create(PODS, pod(name))
  assert.ok(await setStatus('none', { phase: 'Running' }))
  for (const name of ['first', 'same']) assert.ok(await setStatus(name, ips('10.1.0.7')))
  assert.ok(await setStatus('elsewhere', ips('203.0.113.9', 'ff02::1')))
  await untilKnown('elsewhere', () => known('elsewhere')?.addresses[0])
  assert.equal(known('none')?.addresses, [])
  assert.is(known('none')?.state, 'running')
  assert.equal(known('first')?.addresses, known('same')?.addresses)
  const forms = [
    '::ffff:10.1.0.8',
    '010.001.000.008',
    'FD00:0:0::8',
    'not an address',
    '10.1.0.8/24',
    '10.1.0.256',
  ]
  let taken = 0
  for (const text of forms)
    if (await setStatus('odd', ips(text))) {
      taken++
      const marked = String(taken)
      await admin.send('PATCH', `${PODS}/odd`, { metadata: { labels: { marked } } }, MERGE)
      const { addresses } = await untilKnown(text, () =>
        known('odd')?.labels.marked === marked ? known('odd') : undefined,
      )
      for (const each of addresses) assert.match(each, /^(10\.1\.0\.8|fd00::8)$/, text)
    }
  assert.ok(taken > 0, 'the server takes none of them: this tries nothing')
})

test('a pod on the network of its node has no addresses, whatever its status says', async () => {
  await create(PODS, pod('host', { hostNetwork: true }))
  assert.ok(
    await setStatus('host', { ...ips('192.0.2.1'), hostIP: '192.0.2.1', hostIPs: [{ ip: '192.0.2.1' }] }),
  )
  const found = await untilKnown('host', () =>
    known('host')?.state === 'running' ? known('host') : undefined,
  )
  assert.equal([found.hostNetwork, found.addresses], [true, []])
})

test('the longest names, the longest labels, as many annotations as an object can have', async () => {
  const long = `${'a'.repeat(63)}.${'b'.repeat(63)}.${'c'.repeat(63)}.${'d'.repeat(61)}`
  assert.is(long.length, 253)
  const key = `${long}/${'k'.repeat(63)}`
  const labels = {
    [key]: 'v'.repeat(63),
    ...Object.fromEntries(Array.from({ length: 500 }, (_, i) => [`l${i}`, ''])),
  }
  const annotations = { large: 'x'.repeat(250 * 1024) }
  const ports = Array.from({ length: 100 }, (_, i) => ({ name: `p${i}`, containerPort: i + 1 }))
  const container = (name: string) => ({ name, image: 'i', ports })
  const spec = { containers: [container('one'), container('two')], hostname: 'h' }
  await create(PODS, pod(long, spec, { labels, annotations }))
  const found = await untilKnown('the pod', () => known(long))
  assert.equal(found.labels, labels)
  assert.equal(found.annotations, {})
  assert.is(found.ports.length, 200)

  await create('/api/v1/namespaces', { metadata: { name: 'n'.repeat(63), labels, annotations } })
  const namespace = await untilKnown('the namespace', () => facts.namespaces.entries.get('n'.repeat(63)))
  assert.is(namespace.labels[key], 'v'.repeat(63))
  await create('/api/v1/nodes', { metadata: { name: long, labels } })
  assert.is((await untilKnown('the node', () => facts.nodes.entries.get(long))).labels[key], 'v'.repeat(63))
  assert.ok(facts.status().every(({ problem }) => problem === null))
})

test('a namespace whose labels somebody takes away has its name all the same', async () => {
  await create('/api/v1/namespaces', { metadata: { name: 'bare' } })
  await admin.send('PATCH', '/api/v1/namespaces/bare', { metadata: { labels: null } }, MERGE)
  const { labels } = await untilKnown('bare', () => facts.namespaces.entries.get('bare'))
  assert.equal(labels, { 'kubernetes.io/metadata.name': 'bare' })
})

test('Nodes: addresses that are none, one podCIDR twice, one around others, one of the wrong family', async () => {
  const given: readonly (readonly [name: string, podCIDRs: string[]])[] = [
    ['one', ['10.7.0.0/24']],
    ['other', ['10.7.0.0/24']],
    ['around', ['10.7.0.0/16']],
    ['six', ['fd00:7::/64']],
  ]
  const pool = { cidr: parseCidr('10.7.0.0/16'), slotPrefix: 26 }
  const ranges: Record<string, string> = {}
  for (const [name, podCIDRs] of given) {
    await create('/api/v1/nodes', { metadata: { name }, spec: { podCIDR: podCIDRs[0], podCIDRs } })
    const { podCidrs } = await untilKnown(name, () => facts.nodes.entries.get(name))
    const { cidrs, problem } = nodeRangesOf(pool, podCidrs, name, null)
    ranges[name] = problem ?? cidrs.map(formatCidr).join()
  }
  assert.equal(ranges, {
    one: '10.7.0.0/24',
    other: '10.7.0.0/24',
    around: '10.7.0.0/16',
    six: 'has none of the podCIDRs fd00:7::/64 of Node six in it',
  })
  const addresses = ['192.0.2.4', 'localhost', '192.0.2.4/24', '$(reboot)', 'fd00::0004'].map(address => ({
    type: 'InternalIP',
    address,
  }))
  const { code, body } = await admin.send(
    'PATCH',
    '/api/v1/nodes/one/status',
    { status: { addresses } },
    MERGE,
  )
  assert.is(code, 200, body.message)
  await until(
    () => (facts.nodes.entries.get('one')?.addresses.length ?? 0) > 0,
    PATIENCE_MS,
    () => 'the addresses are not known',
  )
  assert.equal(facts.nodes.entries.get('one')?.addresses, ['192.0.2.4', 'fd00::4'])
})

test('our own Node with hundreds of taints, ours among them in every effect: ours go, all others stay', async () => {
  const foreign = Array.from({ length: 300 }, (_, i) => ({ key: `example.com/t${i}`, effect: 'NoExecute' }))
  const own = ['NoSchedule', 'PreferNoSchedule', 'NoExecute'].map(effect => ({ key: STARTUP_TAINT, effect }))
  await create('/api/v1/nodes', { metadata: { name: NODE }, spec: { taints: [...foreign, ...own] } })
  const life = new NodeLife(
    { name: NODE, everyMs: 200 },
    { ...modules, client, announced: () => true, trouble: () => null, changed: () => undefined },
  )
  ends.push(() => life.stop())
  life.start()
  const keys = () => (life.node?.taints ?? []).map(({ key }) => key)
  await until(
    () => keys().length > 0 && !keys().includes(STARTUP_TAINT),
    PATIENCE_MS,
    () => JSON.stringify(life.conditions()),
  )
  assert.is(keys().filter(key => key.startsWith('example.com/')).length, 300)
})

// ---------------------------------------------------------------- resources

const resource = (kind: string, name: string, spec: object, metadata: object = {}) => ({
  apiVersion: 'twill.network/v1alpha1',
  kind,
  metadata: { name, ...metadata },
  spec,
})

async function ipam(store: RoutedStore): Promise<NodeIpam> {
  const made = createIpam(
    { nodeUid: 'uid', nodeName: NODE, boot: 'b', journaled: replay([]), journalIntact: true, retryMs: 50 },
    { ...modules, store, journal: { append: async () => undefined } },
  )
  ends.push(() => made.stop())
  made.start()
  await made.ready()
  return made
}

test('a reservation that the definitions let in and no daemon can read, a mark that is none, a status without room: told, and the pools are used', async () => {
  const store = new RoutedStore({
    records: new MemoryStore({}, { cluster: new MemoryCluster(), clock: systemClock }),
    resources: resourceStore({ ...modules, client }),
    // Others use it, too.
    onClosed: () => undefined,
  })
  const warned: string[] = []
  const log: Log = { ...silentLog, warn: (_, message) => warned.push(message) }
  const node = await ipam(store)
  const status = new ResourceStatus(
    { everyMs: 100 },
    { ...modules, log, client, store, vitals: () => [], nodes: () => [{ uid: 'uid', name: NODE }] },
  )
  ends.push(() => status.stop())
  status.start()
  const others = Array.from({ length: 16 }, (_, i) => ({
    ...{ type: `example.com/C${i}`, status: 'True', reason: 'Theirs', message: '' },
    lastTransitionTime: '2026-01-01T00:00:00Z',
  }))
  const path = (plural: string, name = '') => `${RESOURCES}/${plural}${name === '' ? '' : `/${name}`}`
  await create(path('ippools'), resource('IPPool', 'crowded', { cidr: '10.20.0.0/24' }))
  await admin.send('PATCH', `${path('ippools', 'crowded')}/status`, { status: { conditions: others } }, MERGE)
  const unread = { annotations: { 'twill.network/x': 'y' } }
  await create(path('ippools'), resource('IPPool', 'unread', { cidr: '10.21.0.0/24' }, unread))
  const entered = {
    annotations: { 'twill.network/entered-as': '/../x/' },
    finalizers: ['twill.network/pool'],
  }
  await create(path('ippools'), resource('IPPool', 'marked', { cidr: '10.22.0.0/24' }, entered))
  await create(path('ipreservations'), resource('IPReservation', 'down', { addresses: ['fd00::9-fd00::5'] }))
  await create(path('ippools'), resource('IPPool', 'good', { cidr: '10.23.0.0/24' }))

  const told = async (plural: string, name: string) => {
    let found: { status?: string; reason?: string; message?: string } | undefined
    await until(
      async () => {
        const { body } = await admin.send('GET', path(plural, name))
        found = body.status?.conditions?.find(({ type }: { type: string }) => type === 'Accepted')
        return found !== undefined && found.reason !== 'Pending'
      },
      PATIENCE_MS,
      () => `${name}: ${JSON.stringify(found)}`,
    )
    return `${found?.status} ${found?.reason} ${found?.message}`
  }
  // Nobody reads it, so nothing is wrong with it.
  assert.match(await told('ippools', 'unread'), /^True Entered/)
  assert.match(await told('ipreservations', 'down'), /^False Invalid .*the lower first/)
  assert.match(await told('ippools', 'marked'), /^True Entered/)
  assert.match(await told('ippools', 'good'), /^True Entered/)
  assert.match(
    node
      .resourceProblems()
      .map(({ message }) => message)
      .join(),
    /ipreservations\/down/,
  )
  const [held] = await node.allocate({
    holder: {
      ...{ id: 'a', kind: 'pod', network: 'twill', containerId: 'a', ifName: 'eth0', pod: null, since: 1 },
    },
    families: [4],
    pools: ['good'],
  })
  assert.match(held?.address ?? '', /^10\.23\.0\./)
  // No room for a condition of ours in that status: said once, not at every look.
  await systemClock.sleep(1_000)
  assert.equal(warned, ['status not written'])
})

test.run()
