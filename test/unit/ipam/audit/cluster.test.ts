/** The audit of the datastore: each disagreement by itself, as records that a store holds; what must not be said of it. */
import { test } from 'uvu'
import * as assert from 'uvu/assert'
import { auditDatastore } from '../../../../ipam/audit/read.ts'
import {
  healthyRecords,
  LEDGER1,
  LEDGER2,
  type Records,
  SLOT,
  storeOf,
} from '../../../fixtures/audited-cluster.ts'
import { ledger, liveness, part, slot } from '../../../fixtures/cluster-records.ts'

async function audit(changes: Records) {
  return auditDatastore(await storeOf({ ...healthyRecords(), ...changes }))
}

test('all agrees: nothing is found, and what was looked at is counted', async () => {
  assert.equal(await audit({}), { findings: [], slots: 1, ledgers: 2, addresses: 3 })
})

test('an empty store has no disagreement', async () => {
  assert.equal((await auditDatastore(await storeOf({}))).findings, [])
})

const removed = { removed: { fence: 'f', by: 'ops', endsWith: 'return' as const } }
const SPACE = healthyRecords()['address-space'] as object
const FREE = slot([part('10.244.0.0/26', null, 3)])
const inOtherPool = {
  ...SPACE,
  pools: [{ uid: 'pool-x', name: 'x', cidr: '10.9.0.0/16', state: 'open' }],
}
const shrunk = {
  apiVersion: 'twill.network/v1alpha1',
  kind: 'IPPool',
  metadata: { name: 'default', uid: 'pool-default' },
  spec: { cidr: '10.244.128.0/20' },
}
const SPACE_SHRUNK = {
  v: 1,
  pools: [{ uid: 'pool-default', name: 'default', cidr: '10.244.128.0/20', state: 'open' }],
  restored: null,
}
const FENCED = { ...part('10.244.0.0/27', 'uid-gone', 3), fence: { id: 'f', allowanceMs: 1 } }

/** What is changed → kind, object, and whether repair may delete it. */
const TABLE: readonly [name: string, changes: Records, found: readonly string[]][] = [
  ['a record of a newer version', { [LEDGER2]: { v: 2 } }, [`record.unreadable ${LEDGER2}`]],
  ['a record that is damaged', { 'nodes/node2': '{' }, ['record.unreadable nodes/node2']],
  [
    'a slot that cannot be read: its ledgers are not judged, and nobody counts as without parts',
    {
      [SLOT]: { v: 2 },
      'slots/pool-default/10.244.0.64-26': slot([part('10.244.0.64/26', null, 1)]),
      'liveness/uid-node2': liveness('node2', removed),
    },
    [`record.unreadable ${SLOT}`],
  ],
  [
    'a pool that did not get into the address space',
    {
      'resources/ippools/late': { ...shrunk, metadata: { name: 'late', uid: 'pool-late' } },
    },
    ['pool.not-entered IPPool late'],
  ],
  [
    'a pool shrunk under living pods',
    { 'resources/ippools/default': shrunk },
    ['pool.changed IPPool default'],
  ],
  [
    'and its entry too',
    { 'resources/ippools/default': shrunk, 'address-space': SPACE_SHRUNK },
    ['slot.outside-pool slot 10.244.0.0/26'],
  ],
  [
    'an entry whose pool is gone',
    { 'resources/ippools/default': undefined },
    ['pool.without-document IPPool default'],
  ],
  [
    'a slot of a pool that is gone',
    { 'resources/ippools/default': undefined, 'address-space': inOtherPool },
    ['pool.without-document IPPool x', 'slot.of-no-pool slot 10.244.0.0/26'],
  ],
  [
    'an address space that cannot be read: nothing is said of pools',
    { 'address-space': '{' },
    ['record.unreadable address-space'],
  ],
  [
    'parts that do not cover their slot',
    { [SLOT]: slot([part('10.244.0.0/27', 'uid-node1', 3)]) },
    ['slot.damaged slot 10.244.0.0/26'],
  ],
  [
    'a part whose owner has no record',
    { 'nodes/node2': undefined, 'liveness/uid-node2': undefined },
    ['part.of-nobody part 10.244.0.32/27'],
  ],
  [
    'which is fenced already',
    { [SLOT]: slot([FENCED, part('10.244.0.32/27', 'uid-node2', 4)]), [LEDGER1]: undefined },
    [],
  ],
  [
    'an owner that nobody routes to',
    { 'nodes/node2': undefined },
    ['node.not-routed node node2 (uid-node2)'],
  ],
  ['unless its record cannot be read', { 'nodes/node2': { v: 2 } }, ['record.unreadable nodes/node2']],
  [
    'a removed node that owns nothing',
    { 'liveness/uid-old': liveness('old', { uid: 'uid-old', ...removed }) },
    ['node.removed-without-parts node old (uid-old) removable'],
  ],
  [
    'a removed node that still owns something',
    { 'liveness/uid-node2': liveness('node2', removed), 'nodes/node2': undefined },
    [],
  ],
  [
    'a ledger without a part, of a node without a record',
    { [LEDGER1.replace('node1', 'old')]: ledger('uid-old', { '2': ['10.244.0.9'] }) },
    ['ledger.of-nobody ledger 10.244.0.0/26 of uid-old removable'],
  ],
  [
    'of a removed node',
    {
      [LEDGER1.replace('node1', 'old')]: ledger('uid-old', {}),
      'liveness/uid-old': liveness('old', { uid: 'uid-old', ...removed }),
    },
    [
      'node.removed-without-parts node old (uid-old) removable',
      'ledger.of-nobody ledger 10.244.0.0/26 of old removable',
    ],
  ],
  [
    'of a node that lives: not to be deleted by others',
    {
      [LEDGER1.replace('node1', 'new')]: ledger('uid-new', { '2': ['10.244.0.9'] }),
      'liveness/uid-new': liveness('new'),
    },
    ['ledger.of-nobody ledger 10.244.0.0/26 of new'],
  ],
  [
    'of a node that lives, which has given all of it back and remembers who was there',
    { [LEDGER1.replace('node1', 'new')]: ledger('uid-new', {}), 'liveness/uid-new': liveness('new') },
    [],
  ],
  [
    'slots and ledgers of a pool that is gone, whoever lives',
    { [SLOT.replace('default', 'old')]: FREE, [LEDGER1.replace('default', 'old')]: ledger('uid-node1', {}) },
    [
      'slot.of-no-pool slot 10.244.0.0/26 removable',
      'ledger.of-nobody ledger 10.244.0.0/26 of node1 removable',
    ],
  ],
  [
    'unless the store was restored: its owners may enter their parts again',
    {
      [SLOT.replace('default', 'old')]: FREE,
      [LEDGER1.replace('default', 'old')]: ledger('uid-node1', { '7': ['10.244.0.9'] }),
      'address-space': { ...SPACE, restored: { id: 'r', allowanceMs: 1 } },
    },
    ['ledger.of-nobody ledger 10.244.0.0/26 of node1'],
  ],
  [
    'nor of one whose record cannot be read',
    {
      [LEDGER1.replace('node1', 'new')]: ledger('uid-new', { '2': ['10.244.0.9'] }),
      'liveness/uid-new': '{',
    },
    ['ledger.of-nobody ledger 10.244.0.0/26 of uid-new', 'record.unreadable liveness/uid-new'],
  ],
  [
    'a ledger of a slot that has no record',
    { 'ledgers/pool-default/10.244.9.0-26/uid-old': ledger('uid-old', {}) },
    ['ledger.of-nobody ledger 10.244.9.0/26 of uid-old removable'],
  ],
  [
    'a ledger under another owner',
    { [LEDGER2]: ledger('uid-node1', {}) },
    ['ledger.foreign-owner ledger 10.244.0.0/26 of node2'],
  ],
  [
    'entries of an old generation',
    { [LEDGER1]: ledger('uid-node1', { '3': ['10.244.0.0'], '1': ['10.244.0.40'] }) },
    ['ledger.old-generation ledger 10.244.0.0/26 of node1'],
  ],
  [
    'an address outside the part',
    { [LEDGER1]: ledger('uid-node1', { '3': ['10.244.0.0', '10.244.0.40'] }) },
    ['ledger.outside-part ledger 10.244.0.0/26 of node1'],
  ],
  [
    'an address that is none',
    { [LEDGER1]: ledger('uid-node1', { '3': ['nonsense'] }) },
    ['ledger.outside-part ledger 10.244.0.0/26 of node1'],
  ],
  [
    'an address that two ledgers count',
    { [LEDGER1]: ledger('uid-node1', { '3': ['10.244.0.33'] }) },
    ['ledger.outside-part ledger 10.244.0.0/26 of node1', 'address.held-twice address 10.244.0.33'],
  ],
]

for (const [name, changes, expected] of TABLE)
  test(name, async () => {
    const { findings } = await audit(changes)
    assert.equal(
      findings.map(({ kind, object, removable }) => `${kind} ${object}${removable ? ' removable' : ''}`),
      expected,
    )
    for (const { message, mend } of findings) assert.ok(message !== '' && mend !== '')
  })

test('since: as long as the first of the entries', async () => {
  const late = ledger('uid-node1', { '1': ['10.244.0.40', '10.244.0.41'] }) as {
    generations: { '1': Record<string, { since: number }> }
  }
  const { '10.244.0.40': first, '10.244.0.41': second } = late.generations['1']
  Object.assign(first as object, { since: 7000 })
  Object.assign(second as object, { since: 5000 })
  assert.is((await audit({ [LEDGER1]: late })).findings[0]?.since, 5000)
})

test('what agrees at the second look is not told: a part changed hands between the reads', async () => {
  const store = await storeOf({ ...healthyRecords(), [SLOT]: slot([part('10.244.0.0/26', 'uid-node2', 4)]) })
  const { get } = store
  const healthy = healthyRecords()[SLOT]
  store.get = async key => {
    const found = await get.call(store, key)
    return key === SLOT && found.entry
      ? { ...found, entry: { ...found.entry, value: JSON.stringify(healthy) } }
      : found
  }
  assert.equal((await auditDatastore(store)).findings, [])
})

test.run()
