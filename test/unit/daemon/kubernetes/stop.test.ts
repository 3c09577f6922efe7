/** A daemon that is told to stop does not wait for an API server that is silent. */
import { test } from 'uvu'
import * as assert from 'uvu/assert'
import { DeletedNodes } from '../../../../daemon/kubernetes/deleted-nodes.ts'
import { NodeLife } from '../../../../daemon/kubernetes/node-life.ts'
import { ResourceStatus } from '../../../../daemon/kubernetes/resource-status.ts'
import { MemoryCluster } from '../../../../datastore/memory/cluster.ts'
import { MemoryStore } from '../../../../datastore/memory/store.ts'
import type { NodeRecord } from '../../../../datastore/records/node.ts'
import { silentLog } from '../../../../lib/log.ts'
import { nodeRecord } from '../../../fixtures/cluster-records.ts'
import { object, page, ScriptedClient } from '../../../fixtures/kubernetes/scripted-client.ts'
import { ManualClock, settle } from '../../../fixtures/manual-clock.ts'

const EVERY_MS = 1_000

function setUp() {
  const clock = new ManualClock()
  const client = new ScriptedClient()
  const store = new MemoryStore({}, { cluster: new MemoryCluster(), clock })
  const random = { fraction: () => 0, hex: () => '', uuid: () => '' }
  return { client, clock, modules: { client, clock, store, random, log: silentLog } }
}

const judged = (name: string): NodeRecord => ({
  ...nodeRecord(name, Number(name.slice(1))),
  kubernetes: true,
  kubernetesCluster: 'cluster',
})

test('the look for deleted Node objects', async () => {
  const { client, clock, modules } = setUp()
  const deleted = new DeletedNodes(
    { nodeName: 'n1', sweepEveryMs: EVERY_MS },
    {
      ...modules,
      nodes: () => [judged('n1'), judged('n2')],
      kubernetesNodes: { entries: new Map([['n1', {}]]), isConnected: true },
      clusterUid: () => 'cluster',
    },
  )
  deleted.start()
  await clock.advance(EVERY_MS)
  assert.equal(client.asked, ['GET /api/v1/nodes/n2'])
  await deleted.stop()
})

test('the conditions of resources', async () => {
  const { client, clock, modules } = setUp()
  const telling = new ResourceStatus({ everyMs: EVERY_MS }, { ...modules, vitals: () => [], nodes: () => [] })
  telling.start()
  await clock.advance(EVERY_MS)
  assert.is(client.asked.length, 1)
  await telling.stop()
  assert.is(client.asked.length, 1)
})

test('the conditions of one resource', async () => {
  const { client, clock, modules } = setUp()
  const telling = new ResourceStatus({ everyMs: EVERY_MS }, { ...modules, vitals: () => [], nodes: () => [] })
  telling.start()
  await clock.advance(EVERY_MS)
  client.answer(page(10, [object('a', 5, { spec: {} }), object('b', 6, { spec: {} })]))
  await settle()
  assert.match(client.asked[1] as string, /^PATCH .*\/a\/status/)
  await telling.stop()
  assert.is(client.asked.length, 2, 'nothing of the next')
})

test('its own Node object', async () => {
  const { client, clock, modules } = setUp()
  const life = new NodeLife(
    { name: 'n1', everyMs: EVERY_MS },
    { ...modules, announced: () => true, trouble: () => null, changed: () => {} },
  )
  life.start()
  await settle()
  client.answer(page(10, [object('n1', 5, { spec: {}, status: {} })]))
  await clock.advance(10)
  assert.ok(client.asked.includes('PATCH /api/v1/nodes/n1/status'), client.asked.join())
  await life.stop()
})

test.run()
