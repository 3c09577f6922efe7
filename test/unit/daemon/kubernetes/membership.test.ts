/** Which Kubernetes cluster a node is of is said as soon as it is known, and again when it is another. */
import { test } from 'uvu'
import * as assert from 'uvu/assert'
import { Membership } from '../../../../daemon/kubernetes/membership.ts'
import type { FactsListener, KubernetesFacts } from '../../../../datastore/kubernetes/facts.ts'
import { MemoryCluster } from '../../../../datastore/memory/cluster.ts'
import { MemoryStore } from '../../../../datastore/memory/store.ts'
import { silentLog } from '../../../../lib/log.ts'
import { ScriptedClient } from '../../../fixtures/kubernetes/scripted-client.ts'
import { ManualClock, SeededRandom } from '../../../fixtures/manual-clock.ts'

function setUp() {
  const clock = new ManualClock()
  const namespaces = new Map<string, { uid: string }>()
  const listeners = new Set<FactsListener>()
  const facts = {
    namespaces: { entries: namespaces },
    nodes: { entries: new Map(), isConnected: true },
    subscribe(listener: FactsListener) {
      listeners.add(listener)
      return () => listeners.delete(listener)
    },
  } as unknown as KubernetesFacts
  const state = { changes: 0 }
  const membership = Membership.of(
    'n1',
    { client: new ScriptedClient(), facts },
    {
      ...{ clock, random: new SeededRandom(1), log: silentLog },
      store: new MemoryStore({}, { cluster: new MemoryCluster(), clock }),
      ...{ nodes: () => [], announced: () => false, trouble: () => null },
      changed: () => state.changes++,
    },
  )
  assert.ok(membership)
  const see = (name: string, uid: string) => {
    namespaces.set(name, { uid })
    for (const listener of listeners) listener.namespaces?.([])
  }
  return { membership, state, see, listeners }
}

test('the record is made anew when kube-system is seen, and for no other Namespace', async () => {
  const { membership, state, see, listeners } = setUp()
  membership.start()
  assert.is(membership.clusterUid(), null)
  see('default', 'd')
  assert.is(state.changes, 0)
  see('kube-system', 'a')
  see('other', 'o')
  assert.equal([membership.clusterUid(), state.changes], ['a', 1])
  see('kube-system', 'b')
  assert.equal([membership.clusterUid(), state.changes], ['b', 2])
  await membership.stop()
  assert.is(listeners.size, 0)
})

test.run()
