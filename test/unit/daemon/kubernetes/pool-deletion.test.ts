/** What `kubectl delete ippool` brings to its end: the very pool that was meant, whatever has become of its document and its name. */
import { test } from 'uvu'
import * as assert from 'uvu/assert'
import { ResourceStatus } from '../../../../daemon/kubernetes/resource-status.ts'
import { MemoryCluster } from '../../../../datastore/memory/cluster.ts'
import { MemoryStore } from '../../../../datastore/memory/store.ts'
import type { IPPool } from '../../../../datastore/resources/ippool.ts'
import { POOL_FINALIZER } from '../../../../datastore/resources/server-fields.ts'
import { readSpace } from '../../../../ipam/address-space.ts'
import { createPool, poolKey } from '../../../../ipam/pools.ts'
import { silentLog } from '../../../../lib/log.ts'
import { object, page, ScriptedClient } from '../../../fixtures/kubernetes/scripted-client.ts'
import { ManualClock, settle } from '../../../fixtures/manual-clock.ts'

const EVERY_MS = 1_000
const PATH = '/apis/twill.network/v1alpha1/ippools'

async function setUp() {
  const clock = new ManualClock()
  const client = new ScriptedClient()
  const store = new MemoryStore({}, { cluster: new MemoryCluster(), clock })
  const random = { fraction: () => 0, hex: () => '', uuid: () => 'uid-new' }
  const modules = { client, clock, store, random, log: silentLog }
  const status = new ResourceStatus({ everyMs: EVERY_MS }, { ...modules, vitals: () => [], nodes: () => [] })
  const document = { apiVersion: 'twill.network/v1alpha1', kind: 'IPPool', metadata: { name: 'x' } } as const
  await createPool({ ...document, spec: { cidr: '10.9.0.0/16' } } as IPPool, modules)
  return {
    client,
    store,
    /** One look that finds this pool. */
    async look(listed: ReturnType<typeof object>): Promise<void> {
      status.start()
      await clock.advance(EVERY_MS)
      client.answer(page(10, [listed]))
      for (let i = 0; i < 20; i++) await settle()
    },
    async stop(): Promise<void> {
      await status.stop()
    },
    pools: async () => (await readSpace(store)).pools.map(({ uid, state }) => `${uid} ${state}`),
    isThere: async () => (await store.get(poolKey('x'))).entry !== null,
  }
}

/** As Kubernetes shows a pool that it was told to delete. @param entered under which uid, of which object */
function deleted(entered: string | null) {
  const found = object('x', 7, { uid: 'object-1', spec: { cidr: '10.9.0.0/16' } })
  const annotations: Record<string, string> = entered === null ? {} : { 'twill.network/entered-as': entered }
  const metadata = { ...found.metadata, annotations, finalizers: [POOL_FINALIZER, 'other/one'] }
  return { ...found, metadata: { ...metadata, deletionTimestamp: '2026-01-02T03:04:05Z' } }
}

test('it goes', async () => {
  const { look, stop, pools, isThere } = await setUp()
  await look(deleted('uid-new/object-1'))
  assert.equal([await pools(), await isThere()], [[], false])
  await stop()
})

test('another that has its name by now stays, and stays open', async () => {
  const { look, stop, pools, isThere } = await setUp()
  await look(deleted('uid-old/object-1'))
  assert.equal([await pools(), await isThere()], [['uid-new open'], true])
  await stop()
})

test('one whose document cannot be read goes too', async () => {
  const { store, look, stop, pools, isThere } = await setUp()
  const { entry } = await store.get(poolKey('x'))
  const value = JSON.stringify({ ...JSON.parse(entry!.value), spec: { cidr: 'ten' } })
  await store.commit({ key: poolKey('x'), expected: entry!.modRevision, value })
  await look(deleted('uid-new/object-1'))
  assert.equal([await pools(), await isThere()], [[], false])
  await stop()
})

test('a copy that came with the finalizer of its original, and was never entered, is let go', async () => {
  for (const entered of [null, 'uid-new/object-of-the-original']) {
    const { client, look, stop, pools, isThere } = await setUp()
    await look(deleted(entered))
    assert.equal(client.asked.slice(1), [`PUT ${PATH}/x`])
    assert.equal([await pools(), await isThere()], [['uid-new open'], true])
    await stop()
  }
})

test.run()
