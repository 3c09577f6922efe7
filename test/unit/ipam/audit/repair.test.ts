/** Repair of the datastore: twice seen, a grace period apart, and never what was written in between. */
import { test } from 'uvu'
import * as assert from 'uvu/assert'
import { repairDatastore } from '../../../../ipam/audit/repair.ts'
import { TwillError } from '../../../../lib/errors.ts'
import { healthyRecords, LEDGER1, put, SLOT, storeOf } from '../../../fixtures/audited-cluster.ts'
import { ledger, part, slot } from '../../../fixtures/cluster-records.ts'

const ORPHAN = LEDGER1.replace('node1', 'old')
const orphaned = () => storeOf({ ...healthyRecords(), [ORPHAN]: ledger('uid-old', { '2': ['10.244.0.9'] }) })
type Store = Awaited<ReturnType<typeof orphaned>>

async function repair(store: Store, during: () => Promise<void> = async () => {}, dryRun = false) {
  const waits: number[] = []
  const mended = await repairDatastore(
    { graceMs: 60_000, dryRun },
    {
      store,
      waiting: () => undefined,
      clock: {
        async sleep(ms) {
          waits.push(ms)
          await during()
        },
      },
    },
  )
  const there = (await store.get(ORPHAN)).entry !== null
  return { mended: mended.map(({ finding, failure }) => [finding.kind, failure]), waits, there }
}

test('what stands for the grace period goes, and nothing else does', async () => {
  const store = await orphaned()
  const before = (await store.list('')).entries.length
  assert.equal(await repair(store), {
    mended: [['ledger.of-nobody', null]],
    waits: [60_000],
    there: false,
  })
  assert.is((await store.list('')).entries.length, before - 1)
})

test('a dry run says what it would do, waits for nothing, writes nothing', async () => {
  assert.equal(await repair(await orphaned(), undefined, true), {
    mended: [['ledger.of-nobody', null]],
    waits: [],
    there: true,
  })
})

test('nothing to mend: nothing is waited for', async () => {
  assert.equal((await repair(await storeOf(healthyRecords()))).waits, [])
})

test('written in between, with the very same text: somebody lives, left', async () => {
  const store = await orphaned()
  const { mended, there } = await repair(store, () =>
    put(store, ORPHAN, ledger('uid-old', { '2': ['10.244.0.9'] })),
  )
  assert.equal([mended, there], [[], true])
})

test('agrees again after the grace period: left', async () => {
  const store = await orphaned()
  const parts = [part('10.244.0.0/27', 'uid-old', 5), part('10.244.0.32/27', 'uid-node2', 4)]
  const { mended, there } = await repair(store, () => put(store, SLOT, slot(parts)))
  assert.equal([mended.filter(([kind]) => kind === 'ledger.of-nobody' && !there), there], [[], true])
})

test('written between the second look and the deletion: left, and said', async () => {
  const store = await orphaned()
  const { commit } = store
  store.commit = async each => {
    if (each.value === null)
      await put(
        { ...store, get: store.get.bind(store), commit: commit.bind(store) } as never,
        ORPHAN,
        ledger('uid-old', {}),
      )
    return commit.call(store, each)
  }
  const { mended, there } = await repair(store)
  assert.equal([mended, there], [[['ledger.of-nobody', 'it was written meanwhile, and is left']], true])
})

test('a store that goes away at the deletion is told with the finding', async () => {
  const store = await orphaned()
  store.commit = async () => {
    throw new TwillError('store.unavailable', 'away')
  }
  assert.equal((await repair(store)).mended, [['ledger.of-nobody', 'away']])
})

test.run()
