/** Pools that are for some nodes only. */
import { test } from 'uvu'
import * as assert from 'uvu/assert'
import type { SlotRecord } from '../../../datastore/records/slot.ts'
import { selects } from '../../../datastore/resources/selector.ts'
import { isTwillError } from '../../../lib/errors.ts'
import { settle } from '../../fixtures/manual-clock.ts'
import { Rig, type RigNode } from './rig.ts'

const POOL = 'resources/ippools/default'

async function started(nodeSelector?: object) {
  const rig = new Rig()
  await rig.createPool('default', '10.0.0.0/28', 29)
  if (nodeSelector !== undefined) select(rig, nodeSelector)
  const [a, b] = [rig.node('a'), rig.node('b')]
  for (const node of [a, b]) node.start({ lowWater: 1 })
  await settle()
  return { rig, a, b }
}

function select(rig: Rig, nodeSelector: object | undefined) {
  const pool = rig.read<{ spec: object }>(POOL)
  rig.put(POOL, { ...pool, spec: { ...pool?.spec, nodeSelector } })
}

function label(rig: Rig, name: string, labels: Record<string, string>) {
  const metadata = { name, labels }
  rig.put(`resources/nodes/${name}`, {
    apiVersion: 'twill.network/v1alpha1',
    kind: 'Node',
    metadata,
    spec: {},
  })
}

const refusal = async (node: RigNode, named: string[] = []) => {
  const error = await node.add('refused', [4], [], named).catch(each => each)
  assert.ok(isTwillError(error), 'granted')
  return error
}

const owners = (rig: Rig) => [
  ...new Set(rig.under<SlotRecord>('slots/').flatMap(([, { parts }]) => parts.map(({ owner }) => owner))),
]

test('only nodes that are meant take from a pool, or claim of it ahead of need', async () => {
  const { rig, a, b } = await started({ matchLabels: { 'kubernetes.io/hostname': 'a' } })
  await a.add('p1')
  assert.is((await refusal(b)).code, 'ipam.no-pool')
  assert.match((await refusal(b, ['10.0.0.1'])).message, /IPPool default is not for this node: nodeSelector/)
  assert.not.ok(owners(rig).includes('uid-b'))
})

test('labels that the operator writes count as soon as they are seen', async () => {
  const { rig, b } = await started({ matchExpressions: [{ key: 'zone', operator: 'In', values: ['x'] }] })
  assert.is((await refusal(b)).code, 'ipam.no-pool')
  label(rig, 'bb', { zone: 'x' })
  await settle()
  assert.is((await refusal(b)).code, 'ipam.no-pool', 'another whose name begins alike')
  label(rig, 'b', { zone: 'x' })
  await settle()
  assert.is((await b.add('p1')).length, 1)
})

test("labels of the daemon's own configuration; what the operator says of the same label counts more", async () => {
  const rig = new Rig()
  await rig.createPool('default', '10.0.0.0/28', 29)
  select(rig, { matchLabels: { zone: 'x' } })
  const node = rig.node('a', { nodeLabels: { zone: 'x' } })
  node.start()
  await settle()
  assert.is((await node.add('p1')).length, 1)
  label(rig, 'a', { rack: 'r1' })
  await settle()
  assert.is((await node.add('p2')).length, 1)
  label(rig, 'a', { zone: 'y' })
  await settle()
  assert.is((await refusal(node)).code, 'ipam.no-pool')
})

test('a pool that is no longer for a node: pods keep theirs, the rest is given back, nothing new goes out', async () => {
  const { rig, a } = await started()
  const [held] = await a.add('p1')
  select(rig, { matchLabels: { zone: 'x' } })
  await rig.clock.advance(2000)
  assert.equal(a.ipam?.heldBy('p1'), [held])
  assert.is((await refusal(a)).code, 'ipam.no-pool')
  a.del('p1')
  await rig.clock.advance(2000)
  assert.not.ok(owners(rig).includes('uid-a'))
})

test('a node that is restarted without the store remembers whether a pool is for it', async () => {
  const { rig, a } = await started()
  await a.add('p1')
  select(rig, { matchLabels: { zone: 'x' } })
  await rig.clock.advance(2000)
  a.setUnavailable(true)
  a.kill()
  a.start()
  await settle()
  assert.is((await refusal(a)).code, 'ipam.no-pool')
})

test('a Node that cannot be read is told; what it said before counts', async () => {
  const { rig, a } = await started({ matchLabels: { zone: 'x' } })
  label(rig, 'a', { zone: 'x' })
  await settle()
  for (const name of ['a', 'aa']) rig.put(`resources/nodes/${name}`, { kind: 'Node' })
  await settle()
  assert.is((await a.add('p1')).length, 1)
  const problems = a.ipam?.resourceProblems() ?? []
  assert.equal(
    problems.map(({ type }) => type),
    ['DamagedRecord'],
  )
  assert.match(problems[0]?.message ?? '', /resources\/nodes\/a is damaged/)
})

test('selectors: every requirement, also of labels that are not there', () => {
  const labels = { zone: 'a', gpu: '' }
  const of = (operator: 'In' | 'NotIn' | 'Exists' | 'DoesNotExist', key: string, ...values: string[]) =>
    selects({ matchExpressions: [{ key, operator, ...(values.length > 0 ? { values } : {}) }] }, labels)
  assert.ok(selects(undefined, {}) && selects({}, labels) && selects({ matchLabels: { zone: 'a' } }, labels))
  assert.not.ok(selects({ matchLabels: { zone: 'a', rack: '1' } }, labels))
  assert.not.ok(selects({ matchLabels: { constructor: 'x' } }, labels))
  assert.equal(
    [of('In', 'zone', 'b', 'a'), of('In', 'zone', 'b'), of('In', 'rack', 'b')],
    [true, false, false],
  )
  assert.equal(
    [of('NotIn', 'zone', 'a'), of('NotIn', 'zone', 'b'), of('NotIn', 'rack', 'b')],
    [false, true, true],
  )
  assert.equal([of('Exists', 'gpu'), of('Exists', 'rack')], [true, false])
  assert.equal([of('DoesNotExist', 'gpu'), of('DoesNotExist', 'rack')], [false, true])
})

test.run()
