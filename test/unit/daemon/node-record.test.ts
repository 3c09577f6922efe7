/** What a node publishes of itself. */
import { test } from 'uvu'
import * as assert from 'uvu/assert'
import { NodeFacts, type NodeFactsModules } from '../../../daemon/node/facts.ts'
import { recordParser } from '../../../datastore/record.ts'
import { nodeRecord } from '../../../datastore/records/node.ts'

const tunnel: ReturnType<NodeFactsModules['tunnel']> = {
  byFamily: () => ({ 4: '10.244.0.1' }),
  beside: () => [],
}

function published(labels: Record<string, string>, kubernetes = false, cluster: string | null = null) {
  const modules = { tunnel: () => tunnel, kubernetesCluster: () => cluster } as unknown as NodeFactsModules
  const observation = {
    underlay: [
      { family: 4 as const, address: '192.0.2.1', device: 'eth0', mtu: 1500, reason: 'default route' },
    ],
    hostAddresses: ['198.51.100.1'],
    arpIgnore: 0,
  }
  const identity = { name: 'n1', uid: 'u1', labels, kubernetes, incarnation: 'b1' }
  const facts = new NodeFacts(
    { ...identity, vxlan: { vni: 84, port: 4789 }, observation: observation as never },
    modules,
  )
  return facts.record()
}

test('the labels of its configuration stand in its record, which every daemon can read', () => {
  const record = published({ zone: 'a' })
  assert.equal(record?.labels, { zone: 'a' })
  assert.equal(recordParser(nodeRecord)(JSON.stringify(record), 'nodes/n1'), record)
})

test('without labels the record is what it was: it is not written again for nothing', () => {
  assert.not.ok('labels' in (published({}) as object))
})

test('with a Node object in Kubernetes it says so, and only then', () => {
  const record = published({}, true)
  assert.is(record?.kubernetes, true)
  assert.equal(recordParser(nodeRecord)(JSON.stringify(record), 'nodes/n1'), record)
  assert.not.ok('kubernetes' in (published({}) as object))
  assert.not.ok('kubernetesCluster' in (record as object))
})

test('the Kubernetes cluster of its Node object stands in it once it is known', () => {
  const record = published({}, true, 'uid-of-kube-system')
  assert.is(record?.kubernetesCluster, 'uid-of-kube-system')
  assert.equal(recordParser(nodeRecord)(JSON.stringify(record), 'nodes/n1'), record)
})

test.run()
