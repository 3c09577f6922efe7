/** What the daemon watches of the cluster: nodes and slots come over the wire once, for addresses and routes together. */
import { test } from 'uvu'
import * as assert from 'uvu/assert'
import { Cluster } from '../../../daemon/node/cluster.ts'
import { PREFIX } from '../../../datastore/keys.ts'
import { MemoryStore } from '../../../datastore/memory/store.ts'
import { replay } from '../../../ipam/journal-records.ts'
import { createIpam } from '../../../ipam/node-ipam.ts'
import { silentLog } from '../../../lib/log.ts'
import { settle } from '../../fixtures/manual-clock.ts'
import { Rig } from '../ipam/rig.ts'

const options = { nodeUid: 'uid-a', nodeName: 'a', boot: 'b', journaled: replay([]), journalIntact: true }

async function started() {
  const rig = new Rig()
  await rig.createPool('default', '10.0.0.0/24', 28)
  const node = rig.node('a')
  rig.node('b')
  const store = new MemoryStore({}, { cluster: rig.cluster, clock: rig.clock })
  const watched: string[] = []
  const watch = store.watch.bind(store)
  store.watch = (prefix, listener) => {
    watched.push(prefix)
    return watch(prefix, listener)
  }
  const modules = { clock: rig.clock, random: rig.random, store, log: silentLog }
  const ipam = createIpam(
    { ...options, nodeUid: node.uid },
    { ...modules, journal: { append: async () => undefined } },
  )
  let changes = 0
  const cluster = new Cluster({
    store,
    log: silentLog,
    watched: ipam.watched,
    changed: () => void changes++,
    vitals: () => [],
    remembered: Promise.resolve(),
  })
  ipam.start()
  await ipam.ready()
  await settle()
  return { rig, ipam, cluster, watched, changes: () => changes }
}

test('nodes and slots are watched once, and both addresses and routes know them', async () => {
  const { rig, ipam, cluster, watched } = await started()
  for (const prefix of [PREFIX.nodes, PREFIX.slots])
    assert.is(watched.filter(each => each === prefix).length, 1, prefix)
  await rig.clock.advance(1_000)
  const [part] = ipam.ownParts()
  assert.equal(
    [...cluster.slots().values()].flatMap(({ parts }) => parts.map(({ cidr, owner }) => [cidr, owner])),
    [[part?.cidr, 'uid-a']],
  )
  assert.equal(
    cluster.nodes().map(({ name }) => name),
    ['a', 'b'],
  )
  await ipam.stop()
})

test('who routes hears of each change until it is closed', async () => {
  const { rig, ipam, cluster, changes } = await started()
  const before = changes()
  rig.put('nodes/b', null)
  await settle()
  assert.ok(changes() > before)
  assert.equal(
    cluster.nodes().map(({ name }) => name),
    ['a'],
  )
  await cluster.close()
  const closed = changes()
  rig.put('nodes/a', null)
  await settle()
  assert.is(changes(), closed)
  await ipam.stop()
})

test.run()
