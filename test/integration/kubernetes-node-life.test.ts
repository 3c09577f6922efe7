/**
 * A node's life at a real API server: startup taint, NetworkUnavailable, and the deletion of Node objects, which is
 * their nodes' removal, with the records in memory.
 */
import { readFile } from 'node:fs/promises'
import { suite } from 'uvu'
import * as assert from 'uvu/assert'
import { DeletedNodes, type DeletedNodesModules } from '../../daemon/kubernetes/deleted-nodes.ts'
import { NodeLife, type NodeLifeModules } from '../../daemon/kubernetes/node-life.ts'
import { ownNodeOf, STARTUP_TAINT } from '../../daemon/kubernetes/own-node.ts'
import { livenessKey, nodeKey, slotKey } from '../../datastore/keys.ts'
import { connectKubernetes, type KubernetesClient } from '../../datastore/kubernetes/client.ts'
import { kubernetesNode } from '../../datastore/kubernetes/cluster-objects.ts'
import { Reflector } from '../../datastore/kubernetes/reflector.ts'
import { MemoryCluster } from '../../datastore/memory/cluster.ts'
import { MemoryStore } from '../../datastore/memory/store.ts'
import type { LivenessRecord } from '../../datastore/records/liveness.ts'
import type { NodeRecord } from '../../datastore/records/node.ts'
import type { SlotRecord } from '../../datastore/records/slot.ts'
import { until } from '../../hack/rig/processes.ts'
import { Heartbeat } from '../../ipam/heartbeat.ts'
import { parseCidr } from '../../lib/address.ts'
import { systemClock } from '../../lib/clock.ts'
import { silentLog } from '../../lib/log.ts'
import { systemRandom } from '../../lib/random.ts'
import { startApiServer, type TestApiServer } from '../fixtures/kubernetes/api-server.ts'

const test = suite("a node's life in Kubernetes")
const EVERY_MS = 200
const KUBE_SYSTEM_UID = 'jsonpath={.items[?(@.metadata.name=="kube-system")].metadata.uid}'
const PATIENCE_MS = 60_000

let api: TestApiServer
let clusterUid: string
const closing: (() => Promise<void> | void)[] = []

test.before(async () => {
  api = await startApiServer()
  await until(
    async () => {
      clusterUid = await api.kubectl(['get', 'namespaces', '-o', KUBE_SYSTEM_UID])
      return clusterUid !== ''
    },
    PATIENCE_MS,
    () => 'no kube-system',
  )
})
test.after.each(async () => {
  for (const close of closing.splice(0).reverse()) await close()
  await api.kubectl(['delete', 'nodes', '--all', '--wait=false'])
})
test.after(() => api.stop())

const modules = { clock: systemClock, random: systemRandom, log: silentLog }

async function connect(kubeconfig = api.kubeconfig): Promise<KubernetesClient> {
  const client = await connectKubernetes({ kubeconfig }, { ...modules, readFile, environment: {} })
  closing.push(() => client.close())
  return client
}

/** The same client, with something that happens around its requests. */
function around(
  client: KubernetesClient,
  happen: (send: () => Promise<unknown>, method: string, path: string) => Promise<unknown>,
): KubernetesClient {
  return {
    request: (method, path, options) =>
      happen(() => client.request(method, path, options), method, path) as never,
    watch: (...args) => client.watch(...args),
    status: () => client.status(),
    close: () => client.close(),
  }
}

const FOREIGN = { key: 'example.com/mine', effect: 'NoSchedule', value: 'x' }
const STARTUP = { key: STARTUP_TAINT, effect: 'NoExecute' }

const createNode = (name: string, taints: object[] = [STARTUP, FOREIGN]) =>
  api.kubectl(
    ['create', '-f', '-'],
    JSON.stringify({ apiVersion: 'v1', kind: 'Node', metadata: { name }, spec: { taints } }),
  )
const deleteNode = (name: string) => api.kubectl(['delete', 'node', name])

async function nodeObject(name: string) {
  const node = ownNodeOf(JSON.parse(await api.kubectl(['get', 'node', name, '-o', 'json'])))
  // The node controller's work is done by nobody here; the admission plugin adds a taint of its own to new nodes.
  const keys = node.taints.map(({ key }) => key).filter(key => !key.startsWith('node.kubernetes.io/'))
  return { keys, condition: node.networkUnavailable }
}

async function life(changes: Partial<NodeLifeModules> = {}): Promise<NodeLife> {
  const client = changes.client ?? (await connect())
  const node = new NodeLife(
    { name: 'n1', everyMs: EVERY_MS },
    { announced: () => true, trouble: () => null, changed: () => undefined, ...modules, ...changes, client },
  )
  closing.push(() => node.stop())
  node.start()
  return node
}

async function untilNode(
  is: (node: Awaited<ReturnType<typeof nodeObject>>) => boolean,
  what: string,
): Promise<void> {
  let last: unknown
  await until(
    async () => {
      const node = await nodeObject('n1')
      last = node
      return is(node)
    },
    PATIENCE_MS,
    () => `${what}: ${JSON.stringify(last)}`,
  )
}

test('the taint goes and the network is there once runtimes are told, and what others put there stays', async () => {
  await createNode('n1')
  let announced = false
  const node = await life({ announced: () => announced })
  await until(
    () => node.node !== null,
    PATIENCE_MS,
    () => 'the node is not seen',
  )
  await systemClock.sleep(3 * EVERY_MS)
  assert.equal(await nodeObject('n1'), { keys: [STARTUP_TAINT, FOREIGN.key], condition: null })
  announced = true
  node.check()
  await untilNode(({ keys }) => keys.join() === FOREIGN.key, 'the startup taint stays')
  const { condition } = await nodeObject('n1')
  assert.equal([condition?.status, condition?.reason], ['False', 'TwillIsUp'])
  assert.equal(node.conditions(), [])
})

test('both are put right again whoever changes them, and nothing is written while they stand', async () => {
  await createNode('n1')
  const client = await connect()
  let patches = 0
  const counted = around(client, (send, method) => {
    if (method === 'PATCH') patches++
    return send()
  })
  await life({ client: counted })
  await untilNode(({ keys, condition }) => keys.length === 1 && condition !== null, 'not served')
  const before = patches
  await systemClock.sleep(10 * EVERY_MS)
  assert.is(patches, before)
  await api.kubectl(['taint', 'node', 'n1', `${STARTUP_TAINT}=:NoExecute`])
  const status = { conditions: [{ type: 'NetworkUnavailable', status: 'True', reason: 'NoRouteCreated' }] }
  await api.kubectl(['patch', 'node', 'n1', '--subresource=status', '-p', JSON.stringify({ status })])
  await untilNode(
    ({ keys, condition }) => keys.join() === FOREIGN.key && condition?.reason === 'TwillIsUp',
    'not put right',
  )
})

test('a taint that comes in the same instant is not taken along', async () => {
  await createNode('n1')
  const client = await connect()
  let late = false
  const racing = around(client, async (send, method, path) => {
    if (method === 'PATCH' && path.endsWith('/n1') && !late) {
      late = true
      await api.kubectl(['taint', 'node', 'n1', 'example.com/late=:NoSchedule'])
    }
    return send()
  })
  await life({ client: racing })
  await untilNode(({ keys }) => !keys.includes(STARTUP_TAINT), 'the startup taint stays')
  assert.equal((await nodeObject('n1')).keys.sort(), ['example.com/late', FOREIGN.key])
  assert.ok(late)
})

test('a broken data path makes the network unavailable, and available again', async () => {
  await createNode('n1')
  let trouble: string | null = null
  await life({ trouble: () => trouble })
  await untilNode(({ condition }) => condition?.status === 'False', 'not served')
  trouble = 'link twill-vx4: no'
  await untilNode(({ condition }) => condition?.reason === 'TwillDataPathBroken', 'not told')
  assert.is((await nodeObject('n1')).condition?.status, 'True')
  trouble = null
  await untilNode(({ condition }) => condition?.status === 'False', 'not taken back')
})

test('rights that are missing are named, and it goes on when they are given', async () => {
  await createNode('n1')
  const rule = (name: string, verbs: string, resource: string) =>
    api.kubectl(['create', 'clusterrole', name, `--verb=${verbs}`, `--resource=${resource}`])
  const bind = (role: string) =>
    api.kubectl(['create', 'clusterrolebinding', role, `--clusterrole=${role}`, '--user=daemon'])
  await rule('reader', 'get,list,watch', 'nodes')
  await rule('writer', 'patch', 'nodes,nodes/status')
  await bind('reader')
  const node = await life({ client: await connect(api.kubeconfigFor('daemon')) })
  const message = () => node.conditions()[0]?.message ?? ''
  await until(
    () => /PATCH \S*nodes\/n1\/status .*403 .*cannot patch resource "nodes\/status"/.test(message()),
    PATIENCE_MS,
    message,
  )
  await bind('writer')
  await untilNode(({ keys, condition }) => keys.length === 1 && condition !== null, 'not served')
  await until(() => node.conditions().length === 0, PATIENCE_MS, message)
})

test('a deleted Node object is noticed, and one that is there again; a server that is away deletes nothing', async () => {
  await createNode('n1')
  let changes = 0
  const node = await life({ changed: () => changes++ })
  await untilNode(({ keys }) => keys.length === 1, 'not served')
  await api.kill()
  await until(
    () => node.conditions().length > 0,
    PATIENCE_MS,
    () => 'no word of it',
  )
  assert.is(node.isDeleted, false)
  await api.start()
  await until(
    () => node.conditions().length === 0,
    PATIENCE_MS,
    () => JSON.stringify(node.conditions()),
  )
  assert.is(node.isDeleted, false)
  const before = changes
  await deleteNode('n1')
  await until(
    () => node.isDeleted,
    PATIENCE_MS,
    () => 'the deletion is not noticed',
  )
  assert.ok(changes > before)
  assert.match(
    node
      .conditions()
      .map(({ message }) => message)
      .join(),
    /Kubernetes has no Node n1/,
  )
  await createNode('n1')
  await until(
    () => !node.isDeleted,
    PATIENCE_MS,
    () => 'the new one is not noticed',
  )
  await untilNode(({ keys }) => keys.join() === FOREIGN.key, 'the new one keeps its taint')
})

// ---------------------------------------------------------------- deletion is removal

interface World {
  readonly store: MemoryStore
  put(key: string, value: object): Promise<void>
  read<T>(key: string): Promise<T | null>
  nodes(): readonly NodeRecord[]
}

const SLOT = slotKey('uid-pool', parseCidr('10.0.0.0/26'))

/** n1 to n3, of which n3 is no node of Kubernetes; n2 owns a slot. */
async function world(): Promise<World> {
  const store = new MemoryStore({}, { cluster: new MemoryCluster(), clock: systemClock })
  closing.push(() => store.close())
  const put = async (key: string, value: object) => {
    const { entry } = await store.get(key)
    await store.commit({ key, expected: entry?.modRevision ?? 0, value: JSON.stringify(value) })
  }
  const read = async <T>(key: string) => {
    const { entry } = await store.get(key)
    return entry === null ? null : (JSON.parse(entry.value) as T)
  }
  const records: NodeRecord[] = ['n1', 'n2', 'n3'].map(name => ({
    ...{
      v: 1,
      name,
      uid: `uid-${name}`,
      incarnation: 'b',
      underlay: {},
      hostAddresses: [],
      vteps: [],
      tunnel: {},
    },
    ...(name === 'n3' ? {} : { kubernetes: true as const, kubernetesCluster: clusterUid }),
  }))
  for (const record of records) {
    await put(nodeKey(record.name), record)
    await put(livenessKey(record.uid), liveness(record.name))
  }
  const part = {
    ...{ cidr: '10.0.0.0/26', owner: 'uid-n2', generation: 1, claim: null, fence: null },
    cooling: {},
  }
  const slot: SlotRecord = { v: 1, generation: 1, parts: [part], requests: [] }
  await put(SLOT, slot)
  return { store, put, read, nodes: () => records }
}

const liveness = (name: string): LivenessRecord => ({
  ...{ v: 1, uid: `uid-${name}`, name, hardware: `hw-${name}`, heartbeat: 7, heartbeatMs: 50 },
  ...{ allowanceMs: 60_000, removed: null },
})

async function sweeping({ store, nodes }: World, changes: Partial<DeletedNodesModules> = {}): Promise<void> {
  const client = await connect()
  const kubernetesNodes = new Reflector(
    { path: '/api/v1/nodes', slim: kubernetesNode },
    { ...modules, client },
  )
  closing.push(() => kubernetesNodes.close())
  const deleted = new DeletedNodes(
    { nodeName: 'n1', sweepEveryMs: 50 },
    { ...modules, client, store, nodes, kubernetesNodes, clusterUid: () => clusterUid, ...changes },
  )
  closing.push(() => deleted.stop())
  deleted.start()
}

const removedOf = async (at: World, name: string) =>
  (await at.read<LivenessRecord>(livenessKey(`uid-${name}`)))?.removed ?? null

test('the node of a deleted Node object is removed, although it lives, and nobody else', async () => {
  await createNode('n1')
  await createNode('n2')
  const at = await world()
  await sweeping(at)
  await systemClock.sleep(500)
  assert.ok(await at.read(nodeKey('n2')))
  await deleteNode('n2')
  await until(
    async () => (await at.read(nodeKey('n2'))) === null,
    PATIENCE_MS,
    () => 'n2 stays',
  )
  const removed = await removedOf(at, 'n2')
  assert.is(removed?.endsWith, 'recreation')
  assert.match(removed?.by ?? '', /deletion of Node n2/)
  const slot = await at.read<SlotRecord>(SLOT)
  assert.equal(slot?.parts[0]?.fence, { id: removed?.fence, allowanceMs: 60_000 })
  assert.ok(await at.read(nodeKey('n1')))
  assert.ok(await at.read(nodeKey('n3')), 'of a node without Node object the deletion of none says anything')
  assert.equal([await removedOf(at, 'n1'), await removedOf(at, 'n3')], [null, null])
})

test('an API server that does not know our own node judges nobody', async () => {
  await createNode('n2')
  const at = await world()
  await deleteNode('n2')
  await sweeping(at)
  await systemClock.sleep(1_000)
  assert.ok(await at.read(nodeKey('n2')))
  await createNode('n1')
  await until(
    async () => (await at.read(nodeKey('n2'))) === null,
    PATIENCE_MS,
    () => 'n2 stays',
  )
})

test('the cluster is asked for before a node is removed: those of another stay, whatever the watch showed', async () => {
  await createNode('n1')
  const at = await world()
  const others = at.nodes().map(node => ({ ...node, kubernetesCluster: 'another' }))
  await sweeping({ ...at, nodes: () => others }, { clusterUid: () => 'another' })
  await systemClock.sleep(1_000)
  assert.ok(await at.read(nodeKey('n2')))
})

test('a watch that is behind a Node object, or cut, removes nobody', async () => {
  await createNode('n1')
  await createNode('n2')
  const at = await world()
  let looks = 0
  const behind = {
    get entries() {
      looks++
      return new Map([['n1', {}]])
    },
    isConnected: true,
  }
  await sweeping(at, { kubernetesNodes: behind })
  await until(
    () => looks > 3,
    PATIENCE_MS,
    () => 'no look',
  )
  await deleteNode('n2')
  await until(
    async () => (await at.read(nodeKey('n2'))) === null,
    PATIENCE_MS,
    () => 'n2 stays',
  )
  const cut = await world()
  await sweeping(cut, { kubernetesNodes: { ...behind, isConnected: false } })
  await systemClock.sleep(500)
  assert.ok(await cut.read(nodeKey('n2')))
})

test('a daemon that lives on takes nothing back, until its Node object is there again', async () => {
  await createNode('n1')
  const at = await world()
  const { store } = at
  const node = await life({ announced: () => false })
  await sweeping(at)
  // n2's daemon: its own client and heart.
  const client = await connect()
  const second = new NodeLife(
    { name: 'n2', everyMs: EVERY_MS },
    { announced: () => true, trouble: () => null, changed: () => undefined, ...modules, client },
  )
  closing.push(() => second.stop())
  second.start()
  const taken: Error[] = []
  const heartbeat = new Heartbeat(
    {
      ...{ uid: 'uid-n2', name: 'n2', hardware: 'hw-n2', heartbeatMs: 50, allowanceMs: 60_000 },
      onTaken: reason => taken.push(reason),
      isRecreated: () => second.standsNow(),
    },
    { ...modules, store },
  )
  closing.push(() => heartbeat.stop())
  heartbeat.start()
  await until(
    async () => (await removedOf(at, 'n2')) !== null,
    PATIENCE_MS,
    () => 'n2 stays',
  )
  const { fence } = (await removedOf(at, 'n2')) as { fence: string }
  const beats = async () => (await at.read<LivenessRecord>(livenessKey('uid-n2')))?.heartbeat ?? 0
  const since = await beats()
  await until(
    async () => (await beats()) > since + 5,
    PATIENCE_MS,
    () => 'its heart stands still',
  )
  assert.is((await removedOf(at, 'n2'))?.fence, fence)
  await createNode('n2')
  await until(
    async () => (await removedOf(at, 'n2')) === null,
    PATIENCE_MS,
    () => 'it does not come back',
  )
  assert.equal([taken, node.isDeleted], [[], false])
})

test.run()
