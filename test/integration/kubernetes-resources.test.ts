/**
 * Pools, reservations, Namespaces and Nodes at a real API server: what kubectl writes the address management uses, what
 * twillctl writes kubectl shows. Twill's own records are in a store in memory.
 */
import { readFile } from 'node:fs/promises'
import { setTimeout as sleep } from 'node:timers/promises'
import { test } from 'uvu'
import * as assert from 'uvu/assert'
import { run } from '../../cli/run.ts'
import { ResourceStatus } from '../../daemon/kubernetes/resource-status.ts'
import { connectKubernetes } from '../../datastore/kubernetes/client.ts'
import { RoutedStore, resourceStore } from '../../datastore/kubernetes/routed.ts'
import { MemoryCluster } from '../../datastore/memory/cluster.ts'
import { MemoryStore } from '../../datastore/memory/store.ts'
import type { Store } from '../../datastore/store.ts'
import { readSpace } from '../../ipam/address-space.ts'
import { changeRecord } from '../../ipam/change-record.ts'
import { vitalOf } from '../../ipam/covered.ts'
import { type IpamJournalRecord, replay } from '../../ipam/journal-records.ts'
import { createIpam, type NodeIpam } from '../../ipam/node-ipam.ts'
import { systemClock } from '../../lib/clock.ts'
import { isTwillError, messageOf } from '../../lib/errors.ts'
import { silentLog } from '../../lib/log.ts'
import { systemRandom } from '../../lib/random.ts'
import { apiRequests } from '../fixtures/kubernetes/api-request.ts'
import { startApiServer } from '../fixtures/kubernetes/api-server.ts'
import { applyDefinitions } from '../fixtures/kubernetes/definitions.ts'

const API = '/apis/twill.network/v1alpha1'
const NODE = 'node1'

const server = await startApiServer()
const requests = apiRequests(server)
const modules = { clock: systemClock, random: systemRandom, log: silentLog }
const cluster = new MemoryCluster()
const opened: Store[] = []
const nodes: NodeIpam[] = []

const connect = () =>
  connectKubernetes(
    { kubeconfig: server.kubeconfig },
    { ...modules, readFile: path => readFile(path), environment: {} },
  )

async function open(): Promise<Store> {
  const client = await connect()
  const records = new MemoryStore({}, { cluster, clock: systemClock })
  const resources = resourceStore({ ...modules, client })
  const store = new RoutedStore({ records, resources, onClosed: () => client.close() })
  opened.push(store)
  return store
}

let telling: ResourceStatus | null = null

/** As a daemon of a cluster of one node does. */
async function tell(): Promise<ResourceStatus> {
  const client = await connect()
  const status = new ResourceStatus(
    { everyMs: 200 },
    {
      ...{ ...modules, client, store: await open() },
      nodes: () => [{ uid: `uid-${NODE}`, name: NODE }],
      vitals: () => vitalOf('10.77.0.11', 'the address of node node1'),
    },
  )
  status.start()
  return status
}

test.after(async () => {
  await telling?.stop()
  for (const node of nodes) await node.stop()
  for (const store of opened) await store.close()
  requests.close()
  await server.stop()
})

/** twillctl on that datastore. */
async function twillctl(argv: string, stdin = '') {
  const [out, err]: [string[], string[]] = [[], []]
  const never = () => assert.unreachable() as never
  const code = await run(argv.split(' '), {
    ...modules,
    openStore: async () => new MemoryStore({}, { cluster, clock: systemClock }),
    openKubernetes: () => open(),
    openEmbedded: never,
    readStatus: never,
    readAudit: never,
    repairNode: never,
    readFile: async path => {
      if (path !== '-') throw Object.assign(new Error('none'), { code: 'ENOENT' })
      return stdin
    },
    stdout: { write: text => out.push(text) },
    stderr: { write: text => err.push(text) },
    env: {
      TWILL_DATASTORE_ENDPOINTS: 'http://unused:2379',
      TWILL_KUBERNETES_ENABLED: 'true',
      TWILL_KUBERNETES_KUBECONFIG: server.kubeconfig,
    },
  })
  return { code, out: out.join(''), err: err.join('') }
}

const kubectlApply = (...documents: object[]) =>
  server.kubectl(['apply', '-f', '-'], documents.map(each => JSON.stringify(each)).join('\n---\n'))

const document = (kind: string, name: string, spec: object, metadata: object = {}) => ({
  apiVersion: 'twill.network/v1alpha1',
  kind,
  metadata: { name, ...metadata },
  spec,
})
const pool = (name: string, cidr: string, more: object = {}) => document('IPPool', name, { cidr, ...more })

async function until<T>(what: string, ask: () => Promise<T | null | false | undefined>): Promise<T> {
  for (let waited = 0; waited < 60_000; waited += 50) {
    const answer = await ask()
    if (answer) return answer
    await sleep(50)
  }
  throw new Error(`not within a minute: ${what}`)
}

async function node(name = NODE): Promise<NodeIpam> {
  const records: IpamJournalRecord[] = []
  const ipam = createIpam(
    {
      nodeUid: `uid-${name}`,
      nodeName: name,
      boot: 'b',
      journaled: replay(records),
      journalIntact: true,
      retryMs: 50,
      vitals: () => vitalOf('10.77.0.11', 'the address of node node1'),
    },
    { ...modules, store: await open(), journal: { append: async record => void records.push(record) } },
  )
  nodes.push(ipam)
  ipam.start()
  await ipam.ready()
  return ipam
}

const holder = (id: string, namespace: string | null = null) => ({
  id,
  kind: 'pod' as const,
  network: 'twill',
  containerId: id,
  ifName: 'eth0',
  pod: namespace === null ? null : { namespace, name: id, uid: id },
  since: 1,
})

const ANY = { use: 'pod' as const, families: [], pools: [] }

/** An address of the first pool that has one for it, as text. */
async function allocate(ipam: NodeIpam, id: string, namespace: string | null = null): Promise<string> {
  const [held] = await ipam.allocate({ holder: holder(id, namespace), families: [4], pools: [] })
  ipam.recorded(id)
  return held?.address ?? ''
}

test('the definitions missing are named, with the command that helps', async () => {
  const store = await open()
  const error = await store.list('resources/ippools/').then(
    () => null,
    reason => reason,
  )
  assert.ok(isTwillError(error, 'store.unavailable') && error.retryable)
  assert.match(messageOf(error), /kubectl apply -f deploy\/crds/)
  await applyDefinitions(server, requests)
  assert.equal((await store.list('resources/ippools/')).entries, [])
})

test('a pool of twillctl is one of kubectl, and comes back as it was', async () => {
  const text = JSON.stringify(pool('a', '10.1.0.0/24', { mode: 'direct' }))
  assert.equal(await twillctl('apply -f -', text), { code: 0, out: 'IPPool a created\n', err: '' })
  assert.equal(await twillctl('apply -f -', text), { code: 0, out: 'IPPool a unchanged\n', err: '' })
  const { body } = await requests.send('GET', `${API}/ippools/a`)
  assert.is(body.spec.encapsulation, 'Never')
  assert.equal(body.metadata.finalizers, ['twill.network/pool'])
  const { out } = await twillctl('get ippool a -o json')
  const shown = JSON.parse(out)
  const [entry] = (await readSpace(await open())).pools
  assert.equal([shown.metadata.uid, shown.metadata.annotations], [entry?.uid, undefined])
  assert.is(shown.metadata.creationTimestamp, body.metadata.creationTimestamp)
})

test('an update keeps what is not ours, and replaces what is', async () => {
  await server.kubectl(['annotate', 'ippool', 'a', 'backup.example.com/done=yes'])
  await server.kubectl([
    'patch',
    'ippool',
    'a',
    '--type=merge',
    '-p',
    '{"metadata":{"ownerReferences":[{"apiVersion":"v1","kind":"Namespace","name":"default","uid":"u"}]}}',
  ])
  const shown = JSON.parse((await twillctl('get ippool a -o json')).out)
  const wanted = {
    ...shown,
    status: undefined,
    metadata: { ...shown.metadata, labels: { zone: 'a' } },
    spec: { ...shown.spec, disabled: true },
  }
  assert.equal(await twillctl('apply -f -', JSON.stringify(wanted)), {
    code: 0,
    out: 'IPPool a configured\n',
    err: '',
  })
  const { body } = await requests.send('GET', `${API}/ippools/a`)
  assert.equal(body.metadata.labels, { zone: 'a' })
  assert.is(body.metadata.annotations['backup.example.com/done'], 'yes')
  assert.is(body.metadata.ownerReferences[0].kind, 'Namespace')
  assert.ok(body.spec.disabled)
})

test('what the definition refuses is told as a mistake, and nothing is written', async () => {
  const { code, err } = await twillctl('apply -f -', JSON.stringify(pool('a', '10.2.0.0/24')))
  assert.is(code, 1)
  assert.match(err, /spec\.cidr: "10\.2\.0\.0\/24": expected "10\.1\.0\.0\/24": immutable/)
})

test('a change from an older state is refused; the same once more is a change', async () => {
  const store = await open()
  const key = 'resources/ippools/a'
  const { entry } = await store.get(key)
  const { value, modRevision } = entry!
  const again = await store.commit({ key, expected: modRevision, value })
  assert.ok(again.committed && again.revision > modRevision)
  const stale = await store.commit({ key, expected: modRevision, value })
  assert.ok(!stale.committed && stale.current?.modRevision === again.revision)
  assert.is(stale.committed || stale.current?.value, value)
  const created = await store.commit({ key, expected: 0, value })
  assert.not(created.committed)
})

test('a pool of kubectl is entered by the first node that sees it, and used', async () => {
  await server.kubectl(['delete', 'ippool', 'a', '--wait=false'])
  assert.equal(await twillctl('delete ippool a'), { code: 0, out: 'IPPool a deleted\n', err: '' })
  const ipam = await node()
  await kubectlApply(pool('b', '10.3.0.0/24'))
  await until('room', async () => ipam.room(ANY).ok)
  assert.match(await allocate(ipam, 'pod-1'), /^10\.3\.0\./)
  const { body } = await requests.send('GET', `${API}/ippools/b`)
  const [entry] = (await readSpace(await open())).pools
  assert.is(body.metadata.annotations['twill.network/entered-as'], `${entry?.uid}/${body.metadata.uid}`)
})

test('of two pools that overlap the second is not used, and says why', async () => {
  await kubectlApply(pool('c', '10.3.0.0/25'))
  const [condition] = await until('a condition', async () => {
    const found = nodes[0]!.conditions()
    return found.length > 0 ? found : null
  })
  assert.is(condition?.reason, 'IPPool c (10.3.0.0/25) collides with IPPool b (10.3.0.0/24)')
  assert.match((await twillctl('get ippools')).out, /c +10\.3\.0\.0\/25 .*Conflict/)
  assert.equal(await twillctl('delete ippool c'), { code: 0, out: 'IPPool c deleted\n', err: '' })
  assert.is((await requests.send('GET', `${API}/ippools/c`)).code, 404)
})

test('a copy of a document, and one that was deleted and applied again, are other pools', async () => {
  const { body } = await requests.send('GET', `${API}/ippools/b`)
  const copy = { ...body, metadata: { name: 'copy', annotations: body.metadata.annotations } }
  copy.spec = { ...body.spec, cidr: '10.4.0.0/24' }
  await requests.send('POST', `${API}/ippools`, copy)
  const entries = await until('its entry', async () => {
    const { pools } = await readSpace(await open())
    return pools.length === 2 ? pools : null
  })
  assert.is(new Set(entries.map(({ uid }) => uid)).size, 2)
  assert.is((await twillctl('delete ippool copy')).code, 0)
})

test('a document taken away by force comes back to its entry', async () => {
  const [entered] = (await readSpace(await open())).pools
  await server.kubectl(['delete', 'ippool', 'b', '--wait=false'])
  await server.kubectl([
    ...['patch', 'ippool', 'b', '--type=merge', '-p'],
    '{"metadata":{"finalizers":null}}',
  ])
  await kubectlApply(pool('b', '10.3.0.0/24'))
  const uid = await until('its uid', async () => {
    const { entry } = await (await open()).get('resources/ippools/b')
    return JSON.parse(entry!.value).metadata.uid as string | undefined
  })
  assert.is(uid, entered?.uid)
})

test('kubectl replace takes the mark of a pool away: it is the same, and has it again', async () => {
  const read = async () => {
    const { uid, finalizers, annotations } = (await requests.send('GET', `${API}/ippools/b`)).body.metadata
    return { uid, finalizers, mark: annotations?.['twill.network/entered-as'] }
  }
  const before = await read()
  await server.kubectl(['replace', '-f', '-'], JSON.stringify(pool('b', '10.3.0.0/24')))
  assert.equal(await until('its mark', async () => ((await read()).mark ? read() : null)), before)
})

test('a pool that is in use and that kubectl deletes hands out nothing more, and nobody can take that back', async () => {
  await server.kubectl(['delete', 'ippool', 'b', '--wait=false'])
  await until('no room', async () => !nodes[0]!.room(ANY).ok)
  const { err } = await twillctl('delete ippool b --cancel')
  assert.match(err, /IPPool b: Kubernetes was told to delete it, which nobody can take back/)
  const inUse = await twillctl('delete ippool b --drain')
  assert.match(inUse.err, /IPPool b: closed, and not empty yet: .*uid-node1: /)
  nodes[0]!.release('pod-1')
  await until('its end', async () => (await twillctl('delete ippool b --drain')).code === 0)
  assert.is((await requests.send('GET', `${API}/ippools/b`)).code, 404)
})

test('until a daemon has come to it a resource says so, and what kubectl shows of it can be applied', async () => {
  await kubectlApply(
    pool('waits', '10.8.0.0/24'),
    document('IPReservation', 'waits', { addresses: ['10.8.0.1'] }),
  )
  const shown = await server.kubectl(['get', 'ippools,ipreservations'])
  assert.match(shown, /\nippool\S+\/waits +10\.8\.0\.0\/24 +(Always )? +Unknown +Pending /)
  assert.match(shown, /\nipreservation\S+\/waits +\["10\.8\.0\.1"\] +Unknown +Pending /)
  for (const line of shown.split('\n')) assert.ok(line.length < 100, line)
  for (const kind of ['ippool', 'ipreservation']) {
    const { code, out } = await twillctl(
      'apply -f -',
      await server.kubectl(['get', kind, 'waits', '-o', 'yaml']),
    )
    assert.is(code, 0)
    assert.match(out, /waits (unchanged|configured)/)
  }
  await server.kubectl(['delete', 'ipreservation', 'waits'])
  await server.kubectl(['delete', 'ippool', 'waits', '--wait=false'])
  await until('its end', async () => (await twillctl('delete ippool waits --drain')).code === 0)
})

test('conditions say what is made of each, and change when that does', async () => {
  telling = await tell()
  await kubectlApply(
    pool('d', '10.3.0.0/24'),
    pool('e', '10.3.0.0/25'),
    pool('under', '10.77.0.0/16'),
    document('IPReservation', 'r', { addresses: ['10.3.0.1', '10.3.0.2'] }),
    document('IPReservation', 'downwards', { addresses: ['fd00::9-fd00::5'] }),
  )
  const told = (resource: string) => async () => {
    const { body } = await requests.send('GET', `${API}/${resource}`)
    const [condition] = body.status?.conditions ?? []
    return condition?.status === 'Unknown' ? null : condition
  }
  const entered = await until('d', told('ippools/d'))
  assert.equal(
    [entered.type, entered.status, entered.reason, entered.observedGeneration],
    ['Accepted', 'True', 'Entered', 1],
  )
  assert.ok(Date.parse(entered.lastTransitionTime) > 0, 'not that of the default')
  const overlapping = await until('e', told('ippools/e'))
  assert.equal([overlapping.status, overlapping.reason], ['False', 'Overlap'])
  assert.is(overlapping.message, 'IPPool e (10.3.0.0/25) collides with IPPool d (10.3.0.0/24)')
  const covering = await until('under', told('ippools/under'))
  assert.equal([covering.status, covering.reason], ['False', 'Covers'])
  assert.is(covering.message, 'IPPool under (10.77.0.0/16) covers 10.77.0.11, the address of node node1')
  assert.match(await server.kubectl(['get', 'pools']), /\nunder +10\.77\.0\.0\/16 +Always +False/)
  const { metadata } = (await requests.send('GET', `${API}/ippools/under`)).body
  assert.equal(
    [metadata.finalizers, metadata.annotations?.['twill.network/entered-as']],
    [undefined, undefined],
  )
  await server.kubectl(['delete', 'ippool', 'under', '--timeout=60s'])
  assert.is((await until('r', told('ipreservations/r'))).reason, 'InForce')
  const invalid = await until('downwards', told('ipreservations/downwards'))
  assert.equal([invalid.status, invalid.reason], ['False', 'Invalid'])
  assert.match(invalid.message, /addresses\.0.*the lower first/)
  assert.match(await server.kubectl(['get', 'pools']), /\ne +10\.3\.0\.0\/25 +Always +False +Overlap /)
  await server.kubectl(['delete', 'ippool', 'e', '--timeout=60s'])
  await server.kubectl(['wait', 'ippool/d', '--for=condition=Accepted', '--timeout=60s'])
})

test('kubectl shows what holds where a pool says nothing, and nothing is written into its document', async () => {
  const shows = (line: RegExp) => async () => line.test(await server.kubectl(['get', 'pools', '-o', 'wide']))
  await kubectlApply(pool('short', '10.5.0.0/24'), pool('six', 'fd00:5::/112'))
  await until('defaults', shows(/\nshort +10\.5\.0\.0\/24 +26 +Always +Datastore /))
  await until('those of IPv6', shows(/\nsix +fd00:5::\/112 +122 +Always +Datastore /))
  await kubectlApply(pool('short', '10.5.0.0/24', { mode: 'bgp' }))
  await until('what a word means', shows(/\nshort +10\.5\.0\.0\/24 +26 +Never +BGP /))
  const { body } = await requests.send('GET', `${API}/ippools/short`)
  assert.equal([body.spec.mode, body.spec.encapsulation, body.spec.blockSize], ['bgp', undefined, undefined])
  await server.kubectl(['delete', 'ippools', 'short', 'six', '--timeout=60s'])
})

test('each takes what the other prints, and changes nothing by it', async () => {
  await kubectlApply(
    pool('both', '10.7.0.0/24'),
    document('IPReservation', 'kept', { addresses: ['10.7.0.9'] }),
  )
  const live = async () => (await requests.send('GET', `${API}/ippools/both`)).body
  await until('its conditions', async () => (await live()).status?.conditions?.[0].status === 'True')
  const before = await live()
  const ofKubectl = await server.kubectl(['get', 'ippool', 'both', '-o', 'yaml', '--show-managed-fields'])
  assert.match(ofKubectl, /resourceVersion:[\s\S]*managedFields|managedFields:[\s\S]*resourceVersion/)
  assert.equal(await twillctl('apply -f -', ofKubectl), { code: 0, out: 'IPPool both unchanged\n', err: '' })
  const list = await server.kubectl(['get', 'ippool/both', 'ipreservation/kept', '-o', 'yaml'])
  const all = await twillctl('apply -f -', list)
  assert.is(all.code, 0, all.err)
  assert.match(all.out, /^IPPool both unchanged\nIPReservation kept unchanged\n$/)
  const changed = await twillctl('apply -f -', ofKubectl.replace('disabled: false', 'disabled: true'))
  assert.equal([changed.out, changed.err], ['IPPool both configured\n', ''])

  const ofTwillctl = (await twillctl('get ippool both -o yaml')).out
  assert.match(await server.kubectl(['apply', '-f', '-'], ofTwillctl), /both (configured|unchanged)/)
  const enabled = ofTwillctl.replace('disabled: true', 'disabled: false')
  assert.match(await server.kubectl(['apply', '-f', '-'], enabled), /both configured/)
  const reservation = (await twillctl('get ipreservation kept -o yaml')).out
  assert.match(await server.kubectl(['apply', '-f', '-'], reservation), /kept (configured|unchanged)/)
  const { metadata, spec } = await live()
  assert.equal(
    [metadata.uid, metadata.finalizers, metadata.annotations['twill.network/entered-as'], spec.disabled],
    [
      before.metadata.uid,
      ['twill.network/pool'],
      before.metadata.annotations['twill.network/entered-as'],
      false,
    ],
  )
  assert.match((await twillctl('get ippool both -o wide')).out, /10\.7\.0\.0\/24/)
  await server.kubectl(['delete', 'ippool/both', 'ipreservation/kept', '--timeout=60s'])
})

test('kubectl deletes a pool: who is in the way is told, and when that has gone, so has it', async () => {
  const ipam = nodes[0]!
  await allocate(ipam, 'last')
  await server.kubectl(['delete', 'ippool', 'd', '--wait=false'])
  const conditions = await until('who is in the way', async () => {
    const { body } = await requests.send('GET', `${API}/ippools/d`)
    return body.status.conditions.length === 2 ? body.status.conditions : null
  })
  assert.equal(
    conditions.map(({ type, status, reason }: Record<string, string>) => [type, status, reason]),
    [
      ['Accepted', 'False', 'Closing'],
      ['Draining', 'True', 'InUse'],
    ],
  )
  await until('a pod', async () => {
    const { body } = await requests.send('GET', `${API}/ippools/d`)
    return /container last/.test(body.status.conditions[1].message)
  })
  ipam.release('last')
  await until('its end', async () => (await requests.send('GET', `${API}/ippools/d`)).code === 404)
  assert.equal((await readSpace(await open())).pools, [])
  await server.kubectl(['delete', 'ipreservation', 'r', 'downwards'])
})

test('reservations, labels of Namespaces and Nodes: what kubectl says counts', async () => {
  const ipam = nodes[0]!
  await requests.send('POST', '/api/v1/nodes', { metadata: { name: NODE, labels: { zone: 'east' } } })
  await server.kubectl(['create', 'namespace', 'shop'])
  await server.kubectl(['label', 'namespace', 'shop', 'team=retail'])
  await server.kubectl(['annotate', 'namespace', 'shop', 'example.com/x=y'])
  await kubectlApply(
    pool('west', '10.5.0.0/24', { nodeSelector: { matchLabels: { zone: 'west' } } }),
    pool('east', '10.6.0.0/24', {
      nodeSelector: { matchLabels: { zone: 'east' } },
      namespaceSelector: { matchLabels: { team: 'retail' } },
    }),
    document('IPReservation', 'first', { addresses: ['10.6.0.0-10.6.0.9'] }),
  )
  const address = await until('an address', () => allocate(ipam, 'shopper', 'shop').catch(() => null))
  assert.match(address, /^10\.6\.0\.\d\d/)
  const other = await allocate(ipam, 'other', 'default').catch(messageOf)
  assert.not.match(other, /^10\./)
  const refused = await twillctl(
    'apply -f -',
    JSON.stringify(document('Namespace', 'shop', {}, { labels: { team: 'x' } })),
  )
  assert.match(refused.err, /Namespace shop: it is Kubernetes' own: kubectl label namespace shop/)
  assert.match(
    (await twillctl('get namespaces')).out,
    /shop +kubernetes\.io\/metadata\.name=shop,team=retail/,
  )
})

test('an annotation that is nonsense is told; a namespace that never said anything else gets no addresses', async () => {
  const ipam = nodes[0]!
  const annotations = { 'twill.network/ipv4-pool': '$(reboot);' }
  await requests.send('POST', '/api/v1/namespaces', { metadata: { name: 'odd', annotations } })
  await until('a problem', async () =>
    ipam.resourceProblems().some(({ message }) => /namespaces\/odd .*ipv4-pool/.test(message)),
  )
  const answer = await allocate(ipam, 'second', 'odd').catch(messageOf)
  assert.match(answer, /namespaces\/odd .*ipv4-pool/)
})

test('objects that the definition would not have let in are set aside, not believed', async () => {
  const ipam = nodes[0]!
  const definition = 'ippools.twill.network'
  const { body } = await requests.send(
    'GET',
    `/apis/apiextensions.k8s.io/v1/customresourcedefinitions/${definition}`,
  )
  const loose = structuredClone(body)
  loose.spec.versions[0].schema.openAPIV3Schema.properties.spec = {
    type: 'object',
    'x-kubernetes-preserve-unknown-fields': true,
  }
  await requests.send('PUT', `/apis/apiextensions.k8s.io/v1/customresourcedefinitions/${definition}`, loose)
  await until('a pool without rules', async () => {
    const { code } = await requests.send('POST', `${API}/ippools`, pool('odd', 'ten', { newer: true }))
    return code === 201
  })
  const [condition] = await until('a condition', async () => {
    const found = ipam.conditions().filter(each => each.pool === 'odd')
    return found.length > 0 ? found : null
  })
  assert.match(condition?.reason ?? '', /resources\/ippools\/odd/)
  assert.match((await twillctl('get ippools')).err, /resources\/ippools\/odd: spec\.cidr: "ten"/)
  await server.kubectl(['delete', 'ippool', 'odd'])
  await applyDefinitions(server, requests)
})

test('a field that an older definition does not know is refused, not dropped', async () => {
  const path = '/apis/apiextensions.k8s.io/v1/customresourcedefinitions/ippools.twill.network'
  const { body: older } = await requests.send('GET', path)
  delete older.spec.versions[0].schema.openAPIV3Schema.properties.spec.properties.disabled
  assert.is((await requests.send('PUT', path, older)).code, 200)
  await until('the older one in force', async () => {
    const asked = `${API}/ippools?dryRun=All&fieldValidation=Strict`
    return (await requests.send('POST', asked, pool('f', '10.8.0.0/24', { disabled: true }))).code === 400
  })
  const { code, err } = await twillctl('apply -f -', JSON.stringify(pool('f', '10.8.0.0/24')))
  assert.is(code, 1)
  assert.match(err, /unknown field "spec\.disabled".*kubectl apply -f deploy\/crds/)
  assert.is((await requests.send('GET', `${API}/ippools/f`)).code, 404)
  await applyDefinitions(server, requests)
})

test('changes from many sides at once are all made', async () => {
  const stores = await Promise.all([open(), open(), open()])
  const key = 'resources/ipreservations/first'
  const parse = (text: string) => JSON.parse(text) as { spec: { addresses: string[] } }
  const add = (store: Store, address: string) =>
    changeRecord(store, {
      key,
      parse,
      step: current => ({ ...current!, spec: { addresses: [...current!.spec.addresses, address] } }),
    })
  const addresses = Array.from({ length: 12 }, (_, i) => `10.9.0.${i}`)
  await Promise.all(addresses.map((address, i) => add(stores[i % 3]!, address)))
  const { body } = await requests.send('GET', `${API}/${key.slice('resources/'.length)}`)
  assert.equal([...body.spec.addresses].sort(), ['10.6.0.0-10.6.0.9', ...addresses].sort())
})

test.run()
