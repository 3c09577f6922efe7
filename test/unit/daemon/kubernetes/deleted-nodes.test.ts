/** Nodes whose Node object was deleted: what cannot be read keeps nobody else from being removed, and who belongs elsewhere stays. */
import { test } from 'uvu'
import * as assert from 'uvu/assert'
import { DeletedNodes } from '../../../../daemon/kubernetes/deleted-nodes.ts'
import { livenessKey, nodeKey, slotKey } from '../../../../datastore/keys.ts'
import { MemoryCluster } from '../../../../datastore/memory/cluster.ts'
import { MemoryStore } from '../../../../datastore/memory/store.ts'
import type { NodeRecord } from '../../../../datastore/records/node.ts'
import type { SlotRecord } from '../../../../datastore/records/slot.ts'
import { parseCidr } from '../../../../lib/address.ts'
import { TwillError } from '../../../../lib/errors.ts'
import { silentLog } from '../../../../lib/log.ts'
import { liveness, nodeRecord, part, slot } from '../../../fixtures/cluster-records.ts'
import { object, page } from '../../../fixtures/kubernetes/scripted-client.ts'
import { ManualClock, SeededRandom } from '../../../fixtures/manual-clock.ts'

const EVERY_MS = 1_000
const DAMAGED = '{"v":1,"par'
const slotOf = (name: string) => slotKey('uid-pool', parseCidr(`10.0.${name.slice(1)}.0/28`))

/** n1, which looks, and others without Node object, each with a slot. */
function setUp(...others: string[]) {
  return setUpRefusing('no node', ...others)
}

/** @param refusedNode after whose Node object nobody may ask */
function setUpRefusing(refusedNode: string, ...others: string[]) {
  const clock = new ManualClock()
  const cluster = new MemoryCluster()
  const store = new MemoryStore({}, { cluster, clock })
  const write = (key: string, value: string) =>
    assert.ok(cluster.commit({ key, expected: cluster.get(key)?.modRevision ?? 0, value }).committed)
  const nodes = ['n1', ...others].map(
    (name): NodeRecord => ({
      ...nodeRecord(name, Number(name.slice(1))),
      ...(name === 'n9' ? {} : { kubernetes: true, kubernetesCluster: 'a' }),
    }),
  )
  for (const node of nodes) {
    const { name } = node
    write(nodeKey(name), JSON.stringify(node))
    write(livenessKey(node.uid), JSON.stringify(liveness(name)))
    write(slotOf(name), JSON.stringify(slot([part(`10.0.${name.slice(1)}.0/28`, node.uid, 1)])))
  }
  const kubernetesNodes = { entries: new Map([['n1', {}]]), isConnected: true }
  /** Of what the watch shows, and of what the API server answers now. */
  const clusterUid = { watched: 'a' as string | null, asked: 'a' }
  const client = {
    request: async (_method: string, path: string) => {
      if (path === '/api/v1/namespaces') return page(9, [object('kube-system', 1, { uid: clusterUid.asked })])
      if (path.endsWith(refusedNode)) throw new TwillError('kubernetes.forbidden', 'no')
      throw new TwillError('kubernetes.not-found', 'no such Node', { reason: 'NotFound' })
    },
  } as never
  const deleted = new DeletedNodes(
    { nodeName: 'n1', sweepEveryMs: EVERY_MS },
    {
      ...{ client, store, clock, kubernetesNodes, clusterUid: () => clusterUid.watched },
      random: new SeededRandom(1),
      log: silentLog,
      nodes: () => nodes.filter(({ name }) => cluster.get(nodeKey(name)) !== null),
    },
  )
  deleted.start()
  const registered = () => cluster.list('nodes/').map(({ key }) => key)
  const fenced = (name: string) =>
    (JSON.parse(cluster.get(slotOf(name))?.value ?? '') as SlotRecord).parts[0]?.fence != null
  return { clock, cluster, deleted, write, registered, fenced, clusterUid }
}

test('a liveness record that cannot be read stops the removal of its node alone, which a condition names', async () => {
  const { clock, cluster, deleted, write, registered, fenced } = setUp('n2', 'n3')
  write('liveness/uid-n2', DAMAGED)
  write('liveness/uid-gone', DAMAGED)
  await clock.advance(2 * EVERY_MS)
  assert.equal(registered(), ['nodes/n1', 'nodes/n2'])
  assert.equal([fenced('n2'), fenced('n3')], [false, true])
  const [condition, ...more] = deleted.conditions()
  assert.equal([condition?.type, more], ['DamagedRecord', []])
  assert.match(condition?.message ?? '', /^Node n2 was deleted in Kubernetes.*liveness\/uid-n2.*damaged/)
  assert.is(cluster.get('liveness/uid-n2')?.value, DAMAGED)

  write('liveness/uid-n2', JSON.stringify(liveness('n2')))
  await clock.advance(2 * EVERY_MS)
  assert.equal([registered(), fenced('n2'), deleted.conditions()], [['nodes/n1'], true, []])
  await deleted.stop()
})

test('what a condition says of a node goes when another daemon has removed it', async () => {
  const { clock, cluster, deleted, write } = setUp('n2')
  write('liveness/uid-n2', DAMAGED)
  await clock.advance(2 * EVERY_MS)
  assert.is(deleted.conditions().length, 1)
  const { modRevision = 0 } = cluster.get('nodes/n2') ?? {}
  cluster.commit({ key: 'nodes/n2', expected: modRevision, value: null })
  await clock.advance(2 * EVERY_MS)
  assert.equal(deleted.conditions(), [])
  await deleted.stop()
})

test('a node after which nobody may ask keeps no other from being removed', async () => {
  const { clock, deleted, registered, fenced } = setUpRefusing('n2', 'n2', 'n3')
  await clock.advance(2 * EVERY_MS)
  assert.equal([registered(), fenced('n3')], [['nodes/n1', 'nodes/n2'], true])
  await deleted.stop()
})

test('a slot that cannot be read stops no removal, and the mark for it stays', async () => {
  const { clock, cluster, deleted, write, registered, fenced } = setUp('n2', 'n3')
  write(slotOf('n2'), DAMAGED)
  await clock.advance(2 * EVERY_MS)
  assert.equal([registered(), fenced('n3')], [['nodes/n1'], true])
  assert.is(cluster.get(slotOf('n2'))?.value, DAMAGED)
  assert.match(cluster.get('liveness/uid-n2')?.value ?? '', /deletion of Node n2/)
  await deleted.stop()
})

for (const [where, others] of Object.entries({ elsewhere: 'b', 'not known yet': null }))
  test(`a kubeconfig of a cluster that is ${where}, with a Node of our name, removes nobody`, async () => {
    const { clock, deleted, registered, clusterUid } = setUp('n2', 'n3', 'n9')
    clusterUid.watched = others
    await clock.advance(3 * EVERY_MS)
    assert.equal(registered(), ['nodes/n1', 'nodes/n2', 'nodes/n3', 'nodes/n9'])
    const said = deleted.conditions().map(({ type, message }) => `${type}: ${message}`)
    if (others === null) assert.equal(said, [])
    else
      assert.match(
        said.join(),
        /^ForeignKubernetes: nodes n1, n2, n3 are of another .*\(kube-system a\).*\(kube-system b\)/,
      )
    clusterUid.watched = 'a'
    await clock.advance(2 * EVERY_MS)
    assert.equal([registered(), deleted.conditions()], [['nodes/n1', 'nodes/n9'], []])
    await deleted.stop()
  })

test('a watch that still shows the old cluster while the API server is another removes nobody', async () => {
  const { clock, deleted, registered, clusterUid } = setUp('n2')
  clusterUid.asked = 'b'
  await clock.advance(3 * EVERY_MS)
  assert.equal(registered(), ['nodes/n1', 'nodes/n2'])
  await deleted.stop()
})

test.run()
