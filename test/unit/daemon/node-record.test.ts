/** What a node publishes of itself, and what it tells of its attachments. */
import { test } from 'uvu'
import * as assert from 'uvu/assert'
import { Registry } from '../../../daemon/attach/registry.ts'
import type { Attachment } from '../../../daemon/journal/records.ts'
import { NodeFacts, type NodeFactsModules } from '../../../daemon/node/facts.ts'
import { recordParser } from '../../../datastore/record.ts'
import { nodeRecord } from '../../../datastore/records/node.ts'
import { pool } from './cluster-facts.ts'

const tunnel: ReturnType<NodeFactsModules['tunnel']> = {
  byFamily: () => ({ 4: '10.244.0.1' }),
  beside: () => [],
}

const modulesOf = (cluster: string | null) =>
  ({
    ...{ tunnel: () => tunnel, kubernetesCluster: () => cluster },
    ...{ vitals: () => [], cluster: { covering: () => [] } },
  }) as unknown as NodeFactsModules

function options(labels: Record<string, string>, kubernetes: boolean) {
  const observation = {
    underlay: [
      { family: 4 as const, address: '192.0.2.1', device: 'eth0', mtu: 1500, reason: 'default route' },
    ],
    hostAddresses: ['198.51.100.1'],
    arpIgnore: 0,
  }
  const identity = { name: 'n1', uid: 'u1', labels, kubernetes, incarnation: 'b1' }
  return { ...identity, vxlan: { vni: 84, port: 4789 }, observation: observation as never }
}

const published = (labels: Record<string, string>, kubernetes = false, cluster: string | null = null) =>
  new NodeFacts(options(labels, kubernetes), modulesOf(cluster)).record()

test('the labels of its configuration stand in its record, which every daemon can read', () => {
  const record = published({ zone: 'a' })
  assert.equal(record?.labels, { zone: 'a' })
  assert.equal(recordParser(nodeRecord)(JSON.stringify(record), 'nodes/n1'), record)
})

test('without labels the record is what it was: it is not written again for nothing', () => {
  assert.not.ok('labels' in (published({}) as object))
})

test('an address on the overlay from a pool that covers what this node lives by is told to nobody', () => {
  const modules = { ...modulesOf(null), cluster: { covering: () => [pool('old', '10.244.0.0/24')] } }
  const told = new NodeFacts(options({}, false), modules as unknown as NodeFactsModules)
  assert.equal([told.tunnel, told.record()?.tunnel], [{}, {}])
  assert.equal(published({})?.tunnel, { 4: '10.244.0.1' })
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

test('of an attachment that is as it was the same facts are told, and others once it is not', async () => {
  const busy = new Set<string>()
  const attachments = new Map([attachmentOf('one'), attachmentOf('two')].map(each => [each.id, each]))
  const registry = new Registry({ attachments }, { journal: { append: async () => undefined } })
  const known = { known: true, complete: true, slots: () => new Map() }
  const cluster = { ...known, nodes: () => [], pools: () => [], covering: () => [] }
  const all = { ...modulesOf(null), registry, cluster, busy: () => busy } as unknown as NodeFactsModules
  const told = new NodeFacts(options({}, false), all)
  const [one, two] = told.facts().attachments
  assert.is(told.facts().attachments[0], one)
  busy.add('one')
  await registry.attached('two', { podMac: '02:00:00:00:00:22', netnsCookie: '7' })
  const [laterOne, laterTwo] = told.facts().attachments
  assert.equal(laterOne, { ...one, busy: true })
  assert.equal(laterTwo, { ...two, podMac: '02:00:00:00:00:22', state: 'attached' })
  busy.clear()
  assert.equal(told.facts().attachments[0], one)
})

function attachmentOf(id: string): Attachment {
  return {
    ...{ id, network: 'twill', containerId: id, ifName: 'eth0', pod: null, boot: 'b1' },
    ...{ netns: { path: `/run/netns/${id}`, dev: null, ino: null }, netnsCookie: null },
    ...{ hostInterface: `twl${id}`, podMac: null, mtu: 1450, addresses: [] },
    ...{ begunBoottimeMs: 1, since: 1, state: 'attaching' },
  }
}

test.run()
