/** A node's record, and that of before it was renamed. */
import { test } from 'uvu'
import * as assert from 'uvu/assert'
import { Registration } from '../../../daemon/node/registration.ts'
import { nodeKey } from '../../../datastore/keys.ts'
import { MemoryCluster } from '../../../datastore/memory/cluster.ts'
import { MemoryStore } from '../../../datastore/memory/store.ts'
import type { NodeRecord } from '../../../datastore/records/node.ts'
import { Watched } from '../../../ipam/watched.ts'
import { silentLog } from '../../../lib/log.ts'
import { nodeRecord } from '../../fixtures/cluster-records.ts'
import { ManualClock, settle } from '../../fixtures/manual-clock.ts'

const OWN: NodeRecord = { ...nodeRecord('new', 1), uid: 'uid-own' }

async function started(...others: NodeRecord[]) {
  const clock = new ManualClock()
  const memory = new MemoryCluster()
  for (const record of others)
    memory.commit({ key: nodeKey(record.name), expected: 0, value: JSON.stringify(record) })
  const store = new MemoryStore({}, { cluster: memory, clock })
  const watched = new Watched({}, { store, log: silentLog })
  const wanted = { record: null as NodeRecord | null }
  const registration = new Registration({
    ...{ store, clock, log: silentLog },
    wanted: () => wanted.record,
    nodes: () => [...watched.nodes.entries.values()].map(({ value }) => value),
    nameLost: error => {
      throw error
    },
  })
  await settle()
  watched.nodes.subscribe(() => registration.check())
  return {
    ...{ wanted, store, clock },
    check: async () => {
      registration.check()
      await settle()
    },
    names: () => memory.list('nodes/').map(({ key }) => key.slice('nodes/'.length)),
    async stop() {
      registration.stop()
      await watched.close()
    },
  }
}

test('the record under an earlier name goes once the one under the new name stands, and no other', async () => {
  const before = { ...OWN, name: 'old' }
  const { wanted, store, clock, check, names, stop } = await started(before, nodeRecord('other', 2))
  await check()
  assert.equal(names(), ['old', 'other'])
  wanted.record = OWN
  store.setUnavailable(true)
  await check()
  assert.equal(names(), ['old', 'other'])
  store.setUnavailable(false)
  await clock.advance(2_000)
  assert.equal(names(), ['new', 'other'])
  await stop()
})

test.run()
