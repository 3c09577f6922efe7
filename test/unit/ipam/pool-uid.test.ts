/** A pool whose document lost the uid under which it stands in the address space: it is the same. */
import { test } from 'uvu'
import * as assert from 'uvu/assert'
import { MemoryStore } from '../../../datastore/memory/store.ts'
import type { AddressSpaceRecord } from '../../../datastore/records/address-space.ts'
import type { IPPool } from '../../../datastore/resources/ippool.ts'
import { deletePool } from '../../../ipam/pool-removal.ts'
import { TwillError } from '../../../lib/errors.ts'
import { settle } from '../../fixtures/manual-clock.ts'
import { Rig, withPod } from './rig.ts'

const KEY = 'resources/ippools/one'

async function started() {
  const rig = new Rig()
  return { rig, node: await withPod(rig) }
}

const uidOf = (rig: Rig) => rig.read<IPPool>(KEY)?.metadata.uid

/** As `kubectl replace` writes it, which takes annotation and finalizer away. */
async function withoutUid(rig: Rig): Promise<string | undefined> {
  const { metadata, ...rest } = rig.read<IPPool>(KEY) as IPPool
  const { uid, ...kept } = metadata
  rig.put(KEY, { ...rest, metadata: kept })
  await settle()
  return uid
}

test('until it has it again its addresses go on', async () => {
  const { rig, node } = await started()
  const { store } = node
  const commit = store.commit.bind(store)
  store.commit = async () => {
    throw new TwillError('store.unavailable', 'no commit yet', {}, { retryable: true })
  }
  const uid = await withoutUid(rig)
  assert.is(uidOf(rig), undefined)
  assert.match((await node.add('p2'))[0]?.address ?? '', /^10\.0\.0\./)
  store.commit = commit
  await rig.clock.advance(5000)
  assert.is(uidOf(rig), uid)
})

test('while it is drained it is still the one that goes', async () => {
  const { rig, node } = await started()
  const client = { store: new MemoryStore({}, { cluster: rig.cluster, clock: rig.clock }), clock: rig.clock }
  const entries = () => rig.read<AddressSpaceRecord>('address-space')?.pools.length
  assert.is((await deletePool('one', { drain: true, waitMs: 0 }, client)).removed, false)
  const uid = await withoutUid(rig)
  await rig.clock.advance(5000)
  assert.equal(node.ipam?.conditions(), [])
  assert.equal([uidOf(rig), entries()], [uid, 1])
  node.del('p1')
  await rig.clock.advance(120_000)
  await Promise.all([deletePool('one', { drain: true }, client), rig.clock.advance(60_000)])
  assert.equal([rig.read(KEY), entries()], [null, 0])
})

test.run()
