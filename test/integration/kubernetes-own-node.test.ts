/**
 * The policy of deploy/manifests on a real API server: a daemon writes the Node of its own pod's node, of that what it needs,
 * and nobody else's; the code that does so is not in its way.
 */
import { join } from 'node:path'
import { suite } from 'uvu'
import * as assert from 'uvu/assert'
import { NodeLife } from '../../daemon/kubernetes/node-life.ts'
import { ownNodeOf, STARTUP_TAINT } from '../../daemon/kubernetes/own-node.ts'
import { sayUnavailable } from '../../daemon/uninstall/node-object.ts'
import { nodeKey } from '../../datastore/keys.ts'
import type { KubernetesClient } from '../../datastore/kubernetes/client.ts'
import { RECORD_KINDS, Records } from '../../datastore/kubernetes/records.ts'
import { kubernetesStore } from '../../datastore/kubernetes/store.ts'
import type { Store } from '../../datastore/store.ts'
import { ROOT } from '../../hack/rig/layout.ts'
import { until } from '../../hack/rig/processes.ts'
import { systemClock } from '../../lib/clock.ts'
import { TwillError } from '../../lib/errors.ts'
import { silentLog } from '../../lib/log.ts'
import { systemRandom } from '../../lib/random.ts'
import { type ApiRequests, apiRequests } from '../fixtures/kubernetes/api-request.ts'
import { startApiServer, type TestApiServer } from '../fixtures/kubernetes/api-server.ts'
import { accountFolder, connectAs, daemonPod } from '../fixtures/kubernetes/daemon-pod.ts'
import { applyDefinitions } from '../fixtures/kubernetes/definitions.ts'

const test = suite('writes of its own node')
const PATIENCE_MS = 60_000
const MERGE = 'application/merge-patch+json'

let api: TestApiServer
let admin: ApiRequests
let daemon: KubernetesClient
let store: Store
const closing: (() => unknown)[] = []
const modules = { clock: systemClock, random: systemRandom, log: silentLog }

const FOREIGN = { key: 'example.com/mine', effect: 'NoSchedule' }
const STARTUP = { key: STARTUP_TAINT, effect: 'NoExecute' }
const NODES = '/api/v1/nodes'
const NODE_KIND = RECORD_KINDS.find(({ kind }) => kind === 'NodeRecord')!

test.before(async () => {
  api = await startApiServer()
  admin = apiRequests(api)
  await applyDefinitions(api, admin)
  await api.kubectl(['apply', '-k', join(ROOT, 'deploy/manifests/kubernetes')])
  for (const name of ['node1', 'node2']) {
    const node = { apiVersion: 'v1', kind: 'Node', metadata: { name, labels: { zone: 'a' } } }
    await admin.send('POST', NODES, { ...node, spec: { taints: [FOREIGN, STARTUP], unschedulable: true } })
    const conditions = [
      { type: 'Ready', status: 'True', reason: 'KubeletReady' },
      { type: 'PIDPressure', status: 'False', reason: 'KubeletHasSufficientPID' },
    ]
    const addresses = [{ type: 'InternalIP', address: '192.0.2.1' }]
    const status = { conditions, addresses, capacity: { cpu: '2', memory: '1024Ki' } }
    await admin.send('PATCH', `${NODES}/${name}/status`, { status }, MERGE)
  }
  daemon = await connected('node1', await daemonPod(api, 'node1'))
  store = kubernetesStore({ ...modules, client: daemon })
  closing.push(() => store.close())
  await until(
    async () => /expected a write of nodes\/node1/.test(await refusal(patch('node2', { metadata: {} }))),
    PATIENCE_MS,
    () => 'the policy is not in force',
  )
})

test.after(async () => {
  for (const close of closing.reverse()) await close()
  admin?.close()
  await api?.stop()
})

async function connected(name: string, folder: string): Promise<KubernetesClient> {
  const client = await connectAs(api, folder)
  closing.push(() => client.close())
  // A role is known to the server some time after it was written.
  await until(
    async () => (await refusal(client.request('GET', `${NODES}/${name}`))) === '',
    PATIENCE_MS,
    () => `the daemon on ${name} may not read its Node`,
  )
  return client
}

/** Why it was not allowed; '': it was. */
async function refusal(attempt: Promise<unknown>): Promise<string> {
  try {
    await attempt
    return ''
  } catch (error) {
    if (error instanceof TwillError && error.data.status === 403) return error.message
    if (error instanceof TwillError && error.code === 'store.unavailable') return error.message
    throw error
  }
}

const patch = (name: string, body: object, client = daemon) =>
  client.request('PATCH', `${NODES}/${name}`, { body, contentType: MERGE })

async function node(name: string) {
  const { body } = await admin.send('GET', `${NODES}/${name}`)
  const { taints, networkUnavailable } = ownNodeOf(body)
  const keys = taints.map(({ key }) => key).filter(key => !key.startsWith('node.kubernetes.io/'))
  return {
    keys,
    networkUnavailable: networkUnavailable?.reason,
    resourceVersion: body.metadata.resourceVersion,
  }
}

function live(name: string): NodeLife {
  const life = new NodeLife(
    { name, everyMs: 200 },
    { ...modules, client: daemon, announced: () => true, trouble: () => null, changed: () => undefined },
  )
  closing.push(() => life.stop())
  life.start()
  return life
}

test('its own startup taint goes, and its own condition is written, by the code that does so', async () => {
  const life = live('node1')
  await until(
    async () => (await node('node1')).keys.join() === FOREIGN.key,
    PATIENCE_MS,
    () => JSON.stringify(life.conditions()),
  )
  assert.is((await node('node1')).networkUnavailable, 'TwillIsUp')
  assert.equal(life.conditions(), [])
  await life.stop()
  assert.ok(await sayUnavailable('node1', { client: daemon, clock: systemClock }))
  assert.is((await node('node1')).networkUnavailable, 'TwillIsUninstalled')
})

test('those of another node do not, and its status says why', async () => {
  const before = await node('node2')
  const life = live('node2')
  const denied =
    /403 .*expected a write of nodes\/node1, where the pod of this token runs, found nodes\/node2/
  await until(
    () => denied.test(life.conditions()[0]?.message ?? ''),
    PATIENCE_MS,
    () => JSON.stringify(life.conditions()),
  )
  await life.stop()
  assert.equal(await node('node2'), before)
})

const DENIED: readonly (readonly [what: string, path: string, body: object])[] = [
  ['a label', '', { metadata: { labels: { 'node-role.kubernetes.io/control-plane': '' } } }],
  ['a label that goes', '', { metadata: { labels: { zone: null } } }],
  ['an annotation', '', { metadata: { annotations: { a: 'b' } } }],
  ['a finalizer', '', { metadata: { finalizers: ['example.com/stay'] } }],
  ['the taint of another', '', { spec: { taints: [] } }],
  ['a taint more', '', { spec: { taints: [FOREIGN, { key: 'example.com/more', effect: 'NoExecute' }] } }],
  ['a taint in place of another', '', { spec: { taints: [{ ...FOREIGN, effect: 'NoExecute' }] } }],
  ['a cordon that goes', '', { spec: { unschedulable: null } }],
  ['podCIDRs', '', { spec: { podCIDR: '10.9.0.0/24', podCIDRs: ['10.9.0.0/24'] } }],
  ['addresses', '/status', { status: { addresses: [{ type: 'InternalIP', address: '192.0.2.9' }] } }],
  ['capacity', '/status', { status: { capacity: { cpu: '64' } } }],
  ['what was not there', '/status', { status: { volumesInUse: ['example.com/v'] } }],
  ['what goes', '/status', { status: { addresses: null } }],
  ['conditions of others', '/status', { status: { conditions: [{ type: 'Ready', status: 'False' }] } }],
]

test('of its own Node nothing else changes', async () => {
  const before = await node('node1')
  for (const [what, path, body] of DENIED) {
    const query = { dryRun: 'All' }
    const attempt = daemon.request('PATCH', `${NODES}/node1${path}`, { body, query, contentType: MERGE })
    assert.match(await refusal(attempt), /403 .*expected (nothing|no other taint)/, what)
  }
  assert.equal(await node('node1'), before)
  // Nothing at all is no offence.
  assert.is(await refusal(patch('node1', { metadata: { name: 'node1' } })), '')
})

const record = (name: string, more: object = {}) => JSON.stringify({ v: 1, name, ...more })

test('records of nodes: its own; of others it takes away what a removal takes away', async () => {
  const other = kubernetesStore({
    ...modules,
    client: await connected('node2', await daemonPod(api, 'node2')),
  })
  closing.push(() => other.close())
  const [own, theirs] = [nodeKey('node1'), nodeKey('node2')]
  const first = await store.commit({ key: own, value: record('node1'), expected: 0 })
  assert.ok(first.committed)
  const again = { key: own, value: record('node1', { uid: 'u' }), expected: first.revision }
  assert.ok((await store.commit(again)).committed)

  const stolen = { key: theirs, value: record('node2', { underlay: 'mine' }) }
  const found = /expected a write of nodes\/node1, .* found nodes\/node2/
  assert.match(await refusal(store.commit({ ...stolen, expected: 0 })), found)
  const there = await other.commit({ key: theirs, value: record('node2'), expected: 0 })
  assert.ok(there.committed)
  assert.match(await refusal(store.commit({ ...stolen, expected: there.revision })), found)
  assert.ok((await store.commit({ key: theirs, value: null, expected: there.revision })).committed)
})

test('a record of its own node stands under its own name alone, whatever the node is called', async () => {
  const path = '/apis/records.twill.network/v1/noderecords'
  const spec = { key: nodeKey('node1'), value: record('node1'), commit: 'c' }
  const theirs = new Records(
    { kind: NODE_KIND, lastRevision: () => 0, cluster: () => null },
    { ...modules, client: daemon },
  )
  const kind = { apiVersion: 'records.twill.network/v1', kind: 'NodeRecord' }
  const body = { ...kind, metadata: { name: theirs.nameOf(nodeKey('node2')) }, spec }
  assert.match(
    await refusal(daemon.request('POST', path, { body })),
    /expected the name that belongs to the key/,
  )

  const long = [1, 2, 3].map(n => String(n).repeat(62)).join('.')
  for (const name of ['a.b--c-1.example', long]) {
    await admin.send('POST', NODES, { apiVersion: 'v1', kind: 'Node', metadata: { name } })
    const client = await connected(name, await daemonPod(api, name))
    const own = kubernetesStore({ ...modules, client })
    closing.push(() => own.close())
    const outcome = await own.commit({ key: nodeKey(name), value: record(name), expected: 0 })
    assert.ok(outcome.committed, name)
  }
})

test('a token that says no node writes none; whoever is no daemon is not meant', async () => {
  const nowhere = await connectAs(
    api,
    accountFolder(api, 'nowhere', await api.token('twill-system', 'twilld', 600)),
  )
  closing.push(() => nowhere.close())
  assert.match(
    await refusal(patch('node1', { metadata: {} }, nowhere)),
    /expected a token that says on which node its pod runs/,
  )
  const { code } = await admin.send('PATCH', `${NODES}/node2`, { metadata: { labels: { zone: 'b' } } }, MERGE)
  assert.is(code, 200)
})

test.run()
