/** Pools that are for the pods of some namespaces only, and namespaces that name pools. */
import { test } from 'uvu'
import * as assert from 'uvu/assert'
import type { SlotRecord } from '../../../datastore/records/slot.ts'
import { selectsByKnown } from '../../../datastore/resources/selector.ts'
import type { AllocationRequest } from '../../../ipam/ipam.ts'
import { parseIp } from '../../../lib/address.ts'
import { isTwillError, TwillError } from '../../../lib/errors.ts'
import { settle } from '../../fixtures/manual-clock.ts'
import { holder, Rig, type RigNode } from './rig.ts'

const RETAIL = { matchLabels: { team: 'retail' } }

/** A pool for all and one for the team retail. */
async function started(namespaceSelector: object = RETAIL, options = {}) {
  const rig = new Rig()
  await rig.createPool('common', '10.0.0.0/24', 28)
  await rig.createPool('shop', '10.1.0.0/24', 28)
  change(rig, 'shop', { namespaceSelector })
  const node = rig.node('a')
  node.start(options)
  await settle()
  return { rig, node }
}

function change(rig: Rig, pool: string, changes: object) {
  const key = `resources/ippools/${pool}`
  const resource = rig.read<{ spec: object }>(key)
  rig.put(key, { ...resource, spec: { ...resource?.spec, ...changes } })
}

async function write(rig: Rig, name: string, labels: object, annotations: object = {}) {
  rig.put(`resources/namespaces/${name}`, {
    apiVersion: 'twill.network/v1alpha1',
    kind: 'Namespace',
    metadata: { name, labels, annotations },
    spec: {},
  })
  await settle()
}

/** '10.0' or '10.1' for the pool, else the code and the message of the refusal. */
async function given(
  node: RigNode,
  id: string,
  namespace: string | null,
  changes: Partial<AllocationRequest> = {},
): Promise<string> {
  const pod = namespace === null ? null : { namespace, name: id, uid: '' }
  const request = { holder: { ...holder(id), pod }, families: [], pools: [], ...changes }
  try {
    const [held] = (await node.ipam?.allocate(request)) ?? []
    return held?.address.split('.').slice(0, 2).join('.') ?? 'none'
  } catch (error) {
    assert.ok(isTwillError(error), String(error))
    return `${error.code}: ${error.message}`
  }
}

function claimed(rig: Rig): string[] {
  const cidrs = rig.under<SlotRecord>('slots/').flatMap(([, { parts }]) => parts.map(({ cidr }) => cidr))
  return [...new Set(cidrs.map(cidr => cidr.split('.').slice(0, 2).join('.')))].sort()
}

const annotated = (name: string) => ({ podPools: { 4: [name], 6: [] } })

test('a pool for some namespaces serves their pods, before the pools for all, and no others, however they ask', async () => {
  const { rig, node } = await started()
  await write(rig, 'shop', { team: 'retail' })
  await write(rig, 'other', { team: 'wholesale' })
  assert.is(await given(node, 'p1', 'shop'), '10.1')
  for (const namespace of ['other', 'unwritten', null]) {
    const id = `q-${namespace}`
    assert.is(await given(node, id, namespace), '10.0', 'all that match')
    const reason =
      namespace === null ? /is for some namespaces, and nothing says which/ : /is not for namespace/
    for (const ask of [
      annotated('shop'),
      { pools: ['shop'] },
      { addresses: [parseIp('10.1.0.9')] },
      { addresses: [parseIp('10.1.0.9')], ...annotated('shop') },
    ])
      assert.match(await given(node, `${id}-x`, namespace, ask), reason)
    assert.equal(node.ipam?.heldBy(`${id}-x`), [])
  }
  assert.is(await given(node, 'p2', 'shop', { addresses: [parseIp('10.1.0.9')] }), '10.1')
})

test('a full pool of a namespace: its pods go to the pools for all', async () => {
  const { rig, node } = await started()
  await write(rig, 'shop', { team: 'retail' })
  for (let i = 0; i < 256; i++) assert.is(await given(node, `p${i}`, 'shop'), '10.1')
  assert.is(await given(node, 'p256', 'shop'), '10.0')
})

/** The store answers no commit of the pool's slots; how many were tried is told. */
function unanswered(rig: Rig, node: RigNode, pool: string): () => number {
  const { store } = node
  const commit = store.commit.bind(store)
  const uid = rig.read<{ metadata: { uid: string } }>(`resources/ippools/${pool}`)?.metadata.uid
  let tried = 0
  store.commit = async wanted => {
    if (!wanted.key.startsWith(`slots/${uid}/`)) return commit(wanted)
    tried++
    throw new TwillError('store.unavailable', `${wanted.key}: no answer`, {}, { retryable: true })
  }
  return () => tried
}

test('a pool that comes first and cannot be claimed from keeps nobody from the next', async () => {
  const { rig, node } = await started()
  await write(rig, 'shop', { team: 'retail' })
  unanswered(rig, node, 'shop')
  assert.is(await given(node, 'p', 'shop'), '10.0', 'claimed for it')
})

test('without a connection nobody waits for a pool that comes first while the next has an address', async () => {
  const { rig, node } = await started()
  await write(rig, 'shop', { team: 'retail' })
  assert.is(await given(node, 'q', null), '10.0')
  const tried = unanswered(rig, node, 'shop')
  node.setUnavailable(true)
  assert.is(await given(node, 'p', 'shop'), '10.0')
  assert.is(tried(), 0)
})

test('labels and pools count as soon as they are seen; pods that run keep what they have', async () => {
  const { rig, node } = await started()
  assert.is(await given(node, 'p1', 'shop'), '10.0')
  await write(rig, 'shop', { team: 'retail' })
  assert.is(await given(node, 'p2', 'shop'), '10.1')
  await write(rig, 'shop', { team: 'x' })
  assert.is(await given(node, 'p3', 'shop'), '10.0')
  assert.is(node.ipam?.heldBy('p2').length, 1)
  change(rig, 'shop', { namespaceSelector: undefined })
  await settle()
  assert.is(await given(node, 'p4', 'shop', annotated('shop')), '10.1')
})

test('the name is a label that is always there, and always the name', async () => {
  const { rig, node } = await started({ matchLabels: { 'kubernetes.io/metadata.name': 'shop' } })
  assert.is(await given(node, 'p1', 'shop'), '10.1')
  assert.is(await given(node, 'p2', 'other'), '10.0')
  await write(rig, 'other', { 'kubernetes.io/metadata.name': 'shop' })
  assert.is(await given(node, 'p3', 'other'), '10.0')
})

test('of a namespace of which nothing was written no label counts as absent', async () => {
  const { rig, node } = await started({ matchExpressions: [{ key: 'closed', operator: 'DoesNotExist' }] })
  assert.is(await given(node, 'p1', 'shop'), '10.0')
  await write(rig, 'shop', {})
  assert.is(await given(node, 'p2', 'shop'), '10.1')
  await write(rig, 'shop', { closed: '' })
  assert.is(await given(node, 'p3', 'shop'), '10.0')
  assert.ok(selectsByKnown({}, {}))
  const notIn = { matchExpressions: [{ key: 'team', operator: 'NotIn' as const, values: ['x'] }] }
  assert.not.ok(selectsByKnown(notIn, {}))
})

test('a namespace names the pools of its pods: after the pod itself, before the network, and nothing else instead', async () => {
  const { rig, node } = await started({})
  await write(rig, 'shop', {}, { 'twill.network/ipv4-pool': 'shop' })
  assert.is(await given(node, 'p1', 'shop', { pools: ['common'] }), '10.1')
  assert.is(await given(node, 'p2', 'shop', { pools: ['shop'], ...annotated('common') }), '10.0')
  assert.is(await given(node, 'p3', 'other', { pools: ['common'] }), '10.0')
  assert.is(await given(node, 'p4', 'shop', { addresses: [parseIp('10.0.0.9')] }), '10.0', 'the pod asks')
  change(rig, 'shop', { disabled: true })
  await settle()
  assert.match(
    await given(node, 'p5', 'shop'),
    /no-pool: .*annotation twill\.network\/ipv4-pool of its namespace\); IPPool shop is disabled/,
  )
})

test('a node that is restarted without the store remembers pools and namespaces, as far as they matter', async () => {
  const { rig, node } = await started()
  await write(rig, 'shop', { team: 'retail', other: 'x' })
  await write(rig, 'named', {}, { 'twill.network/ipv4-pool': 'common' })
  await write(rig, 'gone', { team: 'retail' })
  for (const namespace of ['shop', 'gone', 'named']) await given(node, namespace, namespace)
  await rig.clock.advance(2000)
  rig.put('resources/namespaces/gone', null)
  await rig.clock.advance(2000)
  node.setUnavailable(true)
  node.kill()
  node.start()
  await settle()
  assert.is(await given(node, 'p1', 'shop'), '10.1')
  assert.is(await given(node, 'p2', 'named', { pools: ['shop'] }), '10.0')
  assert.is(await given(node, 'p3', 'gone'), '10.0')
  assert.not.match(JSON.stringify(node.records), /"other"/)
})

test('killed between what the journal is told of namespaces and of pools: what it has of both goes together', async () => {
  const { rig, node } = await started({ matchExpressions: [{ key: 'closed', operator: 'DoesNotExist' }] })
  await write(rig, 'secret', { closed: '', team: 'retail' })
  await write(rig, 'shop', {})
  for (const namespace of ['shop', 'secret']) await given(node, namespace, namespace)
  await rig.clock.advance(2000)
  const push = node.records.push.bind(node.records)
  node.records.push = (...records) => {
    if (records.some(({ t }) => t === 'pools')) throw new Error('the process is dead')
    return push(...records)
  }
  change(rig, 'shop', { namespaceSelector: RETAIL })
  await settle()
  node.setUnavailable(true)
  node.kill()
  node.start()
  await settle()
  assert.is(await given(node, 'p2', 'secret', annotated('common')), '10.0')
  assert.match(await given(node, 'p3', 'secret', annotated('shop')), /is not for namespace secret/)
})

test('a Namespace that cannot be read keeps its pods from the pools of others; what it said before counts', async () => {
  const { rig, node } = await started()
  await write(rig, 'shop', { team: 'retail' })
  await rig.clock.advance(2000)
  for (const name of ['shop', 'new']) rig.put(`resources/namespaces/${name}`, { kind: 'Namespace' })
  await settle()
  assert.is(await given(node, 'p1', 'shop'), '10.1')
  assert.match(await given(node, 'p2', 'new'), /ipam\.no-pool: Namespace new cannot be read/)
  assert.is(node.ipam?.resourceProblems().length, 2)
  await rig.clock.advance(2000)
  node.kill()
  node.start()
  await settle()
  assert.is(await given(node, 'p3', 'shop'), '10.1')
})

test('a pool for some is claimed at the first need, and its room says nothing of the node', async () => {
  const { rig, node } = await started(RETAIL, { lowWater: 4 })
  await write(rig, 'shop', { team: 'retail' })
  assert.equal(claimed(rig), ['10.0'])
  assert.equal(node.ipam?.room(), { ok: true })
  await given(node, 'p1', 'shop')
  assert.equal(claimed(rig), ['10.0', '10.1'])
  for (let i = 0; i < 256; i++) assert.is(await given(node, `q${i}`, null), '10.0')
  assert.is(node.ipam?.room().ok, false, 'what is left is not for all')
})

test('where every pool is for some, a node that has claimed none yet can serve pods all the same', async () => {
  const { rig, node } = await started(RETAIL, { lowWater: 4 })
  change(rig, 'common', { disabled: true })
  await rig.clock.advance(5000)
  assert.not.ok(claimed(rig).includes('10.1'))
  assert.equal(node.ipam?.room(), { ok: true })
})

test("a tunnel's address comes from the pools for all, if there are any, else from those for some", async () => {
  const { rig, node } = await started()
  rig.put('resources/ippools/common', null)
  await settle()
  const tunnel = (id: string) => ({ holder: { ...holder(id), kind: 'tunnel' as const } })
  assert.is(await given(node, 't1', null, tunnel('t1')), '10.1')
  await rig.createPool('zcommon', '10.2.0.0/24', 28)
  await settle()
  assert.is(await given(node, 't2', null, tunnel('t2')), '10.2')
})

test('an annotation of our domain that nobody reads is told, and the namespace gets its addresses', async () => {
  const { rig, node } = await started()
  await write(rig, 'shop', { team: 'retail' }, { 'twill.network/ipv4-pols': 'common', 'example.com/x': 'y' })
  assert.is(await given(node, 'p1', 'shop'), '10.1')
  const problems = () => node.ipam?.resourceProblems() ?? []
  assert.equal(
    problems().map(({ type }) => type),
    ['AnnotationsIgnored'],
  )
  assert.match(
    problems()[0]?.message ?? '',
    /^Namespace shop: .*ipv4-pols: "common": unknown annotation, did you mean twill.network\/ipv4-pool\?$/,
  )
  await write(rig, 'shop', { team: 'retail' }, { 'twill.network/ipv4-pool': 'common' })
  assert.equal(problems(), [])
})

test('whoever annotates a namespace thousands of times makes a few sentences of it', async () => {
  const { rig, node } = await started()
  const many = Object.fromEntries(Array.from({ length: 5_000 }, (_, i) => [`twill.network/a${i}`, '']))
  await write(rig, 'shop', {}, many)
  const messages = (node.ipam?.resourceProblems() ?? []).map(({ message }) => message)
  assert.is(messages.length, 11)
  assert.match(messages[0] ?? '', /^Namespace shop: metadata.annotations.twill.network\/a0: /)
  assert.is(messages[10], 'Namespace shop: and 4990 more')
})

test.run()
