/** Where the facts of an audit come from, and what a source that cannot be asked is told as. */
import { test } from 'uvu'
import * as assert from 'uvu/assert'
import { endpointSpec } from '../../../../daemon/attach/endpoint.ts'
import { type CollectModules, collectFacts } from '../../../../daemon/audit/collect.ts'
import type { Attachment, Lease } from '../../../../daemon/journal/records.ts'
import { MemoryCluster } from '../../../../datastore/memory/cluster.ts'
import { MemoryStore } from '../../../../datastore/memory/store.ts'
import { FakeKernel } from '../../../../kernel/fake/kernel.ts'
import { TwillError } from '../../../../lib/errors.ts'
import { silentLog } from '../../../../lib/log.ts'
import { ManualClock } from '../../../fixtures/manual-clock.ts'
import { ADDRESS, LEASE, POD, SANDBOX } from './facts.ts'

const NODE = 'uid-1'
const LEDGER = `ledgers/p/10.244.0.0-26/${NODE}`
const view = { routeSource: () => null, podMtu: () => 1450, gatewayOnHostEnd: false }
const entry = (holder: string) => ({
  holder,
  kind: 'pod',
  network: 'twill',
  containerId: 'c1',
  ifName: 'eth0',
  pod: null,
  since: 0,
  boot: 'boot:1',
})

/** A node with one pod in its kernel, its journal and its ledger. */
async function bed(changes: Partial<CollectModules> = {}) {
  const clock = new ManualClock()
  const cluster = new MemoryCluster()
  const store = new MemoryStore({}, { cluster, clock })
  const kernel = new FakeKernel()
  const pod = { ...POD, netns: kernel.addNamespace(POD.netns.path), netnsCookie: null }
  const { netnsCookie } = await kernel.attachPod(endpointSpec(pod, view), [])
  const attachments: Attachment[] = [{ ...pod, netnsCookie }]
  const leases: Lease[] = []
  const value = {
    v: 1,
    owner: NODE,
    generations: { 3: { [ADDRESS]: entry('a1') }, 2: { '10.244.0.9': entry('old') } },
    recent: [],
  }
  cluster.commit({ key: LEDGER, expected: 0, value: JSON.stringify(value) })
  const part = { poolUid: 'p', slot: '10.244.0.0/26', cidr: '10.244.0.0/26', generation: 3 }
  const modules: CollectModules = {
    registry: { all: () => [...attachments] },
    attachments: { busy: () => new Set() },
    leases: { all: () => [...leases], busy: () => new Set() },
    ipam: { holders: () => [], ownParts: () => [{ ...part, free: 63, held: 1, usable: true }] },
    kernel,
    isInhabited: async () => false,
    store,
    runtime: () => null,
    pools: () => ['10.244.0.0/16'],
    clock,
    log: silentLog,
    ...changes,
  }
  const collect = async () => (await collectFacts(NODE, modules)).facts
  return { collect, modules, kernel, store, cluster, attachments, leases }
}

test('the pod as journal, namespace, kernel and ledger have it; what an older generation says does not count', async () => {
  const { collect, attachments } = await bed()
  const facts = await collect()
  assert.equal(facts.attachments, attachments)
  const inside = facts.namespaces.get('a1')
  assert.ok(inside?.is === 'same' && inside.pod?.addresses.some(({ address }) => address === ADDRESS))
  assert.equal([...(facts.ledger ?? [])], [[ADDRESS, 'a1']])
  assert.ok(facts.links.some(({ name }) => name === POD.hostInterface))
  assert.ok(facts.routes.some(({ dst }) => dst === `${ADDRESS}/32`))
  assert.ok(facts.neighbours.some(({ address }) => address === ADDRESS))
  assert.equal([[...facts.busy], facts.runtime], [[], null])
})

test('a namespace is gone when it is not there or is another, and unknown when it cannot be looked into', async () => {
  const { collect, kernel, attachments } = await bed()
  const is = async () => (await collect()).namespaces.get('a1')?.is
  kernel.failNext('inspectPod', new TwillError('kernel.failed', 'no'))
  assert.is(await is(), 'unknown')
  assert.is(await is(), 'same')
  attachments[0] = { ...(attachments[0] as Attachment), netnsCookie: 'of another' }
  assert.is(await is(), 'gone')
  kernel.removeNamespace(POD.netns.path)
  assert.is(await is(), 'gone')
  attachments[0] = { ...POD, netns: { path: '', dev: null, ino: null }, netnsCookie: null }
  assert.is(await is(), undefined, 'nobody knows where an adopted pod is')
  attachments[0] = { ...POD, state: 'detaching' }
  assert.is(await is(), undefined, 'what is being taken down is not asked after')
})

test('whether anybody is left is asked of namespaces that are gone, of leases only; who cannot be asked is left out', async () => {
  const asked: string[] = []
  const { collect, kernel, leases } = await bed({
    async isInhabited(inode) {
      asked.push(inode)
      if (inode === '9') throw new Error('EACCES')
      return inode === LEASE.netns.ino
    },
  })
  const lent = (id: string, netns: Lease['netns']) => leases.push({ ...LEASE, id, netns, netnsCookie: null })
  lent('gone', LEASE.netns)
  lent('living', kernel.addNamespace('/run/netns/living'))
  lent('mute', { ...LEASE.netns, ino: '9' })
  lent('nowhere', { path: '/run/netns/x', dev: null, ino: null })
  kernel.removeNamespace(POD.netns.path)
  const { inhabited } = await collect()
  assert.equal([[...inhabited], asked], [[['gone', true]], ['8', '9']])
})

test('nobody is taken for gone where the processes of the node are not seen', async () => {
  const { collect, leases } = await bed({ isInhabited: null })
  leases.push({ ...LEASE, netnsCookie: null })
  const { namespaces, inhabited } = await collect()
  assert.equal([namespaces.get(LEASE.id)?.is, [...inhabited]], ['gone', []])
})

test('a ledger that cannot be had or read proves nothing', async () => {
  const { collect, store, cluster } = await bed()
  store.setUnavailable(true)
  assert.is((await collect()).ledger, null)
  store.setUnavailable(false)
  const expected = cluster.get(LEDGER)?.modRevision ?? 0
  cluster.commit({ key: LEDGER, expected, value: '{"v":99}' })
  assert.is((await collect()).ledger, null)
})

test('who came, went or changed while the sources were read is busy, beside those that were', async () => {
  const { modules, kernel, attachments, leases } = await bed()
  attachments.push({ ...POD, id: 'goes' }, { ...POD, id: 'changes' }, { ...POD, id: 'works' })
  leases.push(LEASE)
  let looks = 0
  const changing: CollectModules['kernel'] = {
    inspectPod: (netns, ifName) => kernel.inspectPod(netns, ifName),
    readRoutes: filter => kernel.readRoutes(filter),
    readNeighbours: () => kernel.readNeighbours(),
    async readLinks() {
      const change = attachments.findIndex(({ id }) => id === 'changes')
      attachments[change] = { ...POD, id: 'changes', state: 'detaching' }
      attachments.splice(1, 1)
      attachments.push({ ...POD, id: 'comes' })
      leases.push({ ...LEASE, id: 'lent' })
      looks++
      return kernel.readLinks()
    },
  }
  const busy = () => new Set(looks === 0 ? ['works'] : ['begins'])
  const { facts } = await collectFacts(NODE, { ...modules, kernel: changing, attachments: { busy } })
  assert.equal([...facts.busy].sort(), ['begins', 'changes', 'comes', 'goes', 'lent', 'works'])
})

test('the runtime: addresses are asked of sandboxes that are ready and in no record; a silent one is told as such', async () => {
  const asked: string[] = []
  let closed = 0
  const sandbox = (id: string, ready = true) => ({ ...SANDBOX, id, ready })
  const connection = {
    sandboxes: async () => [sandbox('c1'), sandbox('c7'), sandbox('c8', false), sandbox('c9')],
    async addressesOf(id: string) {
      asked.push(id)
      if (id === 'c9') throw new Error('gone meanwhile')
      return ['10.244.0.7']
    },
    close: () => closed++,
  }
  const runtime = () => ({ socket: '/run/cri.sock', connect: () => connection })
  const { modules } = await bed({ runtime })
  const { facts, runtime: said } = await collectFacts(NODE, modules)
  const seen = facts.runtime
  assert.ok(seen !== null && seen !== 'silent')
  assert.equal(
    [...seen.addresses],
    [
      ['c7', ['10.244.0.7']],
      ['c9', []],
    ],
  )
  assert.equal([asked, said, closed, seen.sandboxes.length], [['c7', 'c9'], '/run/cri.sock', 1, 4])
  connection.sandboxes = () => Promise.reject(new Error('no answer'))
  const silent = await collectFacts(NODE, modules)
  assert.equal([silent.facts.runtime, silent.runtime], ['silent', '/run/cri.sock does not answer: no answer'])
  assert.is(closed, 2)
})

test.run()
