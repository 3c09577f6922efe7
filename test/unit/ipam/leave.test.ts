/** Rule 12: a node leaves its cluster. */
import { suite } from 'uvu'
import * as assert from 'uvu/assert'
import type { LivenessRecord } from '../../../datastore/records/liveness.ts'
import type { Part, SlotRecord } from '../../../datastore/records/slot.ts'
import { leaveCluster } from '../../../ipam/leave.ts'
import { isTwillError } from '../../../lib/errors.ts'
import { settle } from '../../fixtures/manual-clock.ts'
import { Rig, type RigNode } from './rig.ts'

const test = suite('rule 12')
const MINUTE = 60_000
const options = { offlineAllowanceMs: 10 * MINUTE, marginMs: MINUTE, lowWater: 0 }

const parts = (rig: Rig, owner: string | null): Part[] =>
  rig.under<SlotRecord>('slots/').flatMap(([, slot]) => slot.parts.filter(part => part.owner === owner))
const liveness = (rig: Rig) => rig.read<LivenessRecord>('liveness/uid-a')
const keysOf = (rig: Rig, uid: string) =>
  rig.cluster.list('').flatMap(({ key }) => (key.includes(uid) ? [key] : []))

/** Node a with one empty part and one with a pod; node b besides. Its daemon has ended. */
async function stopped({ pods = 1 } = {}) {
  const rig = new Rig()
  await rig.createPool('default', '10.0.0.0/24', 28)
  const [a, b] = [rig.node('a', options), rig.node('b', options)]
  a.start()
  b.start()
  await settle()
  for (let i = 0; i < 17; i++) await a.add(`p${i}`)
  for (let i = pods; i < 17; i++) a.del(`p${i}`)
  await rig.clock.advance(5000)
  await a.ipam?.stop()
  a.kill()
  return { rig, a, b }
}

async function leave(rig: Rig, node: RigNode, hardware = `hw-${node.name}`) {
  const ipam = node.start()
  const leaving = leaveCluster(
    { uid: node.uid, name: node.name, hardware },
    { store: node.store, random: rig.random, ipam },
  )
  leaving.catch(() => undefined)
  for (let i = 0; i < 20; i++) await rig.clock.advance(100)
  return leaving
}

test('where nobody lives everything is free at once, and nothing is left of the node', async () => {
  const { rig, a } = await stopped({ pods: 0 })
  assert.equal(await leave(rig, a), { freed: 2, fenced: 0, allowanceMs: 10 * MINUTE, last: false })
  assert.equal(parts(rig, a.uid), [])
  assert.equal(keysOf(rig, 'uid-a'), [])
  assert.is(rig.read('nodes/a'), null)
  assert.ok(
    parts(rig, null).some(({ cooling }) => Object.keys(cooling).length > 0),
    'cool-down goes with them',
  )
})

test('a node knows whether it was the last', async () => {
  const { rig, a, b } = await stopped({ pods: 0 })
  assert.is((await leave(rig, a)).last, false)
  await b.ipam?.stop()
  b.kill()
  assert.is((await leave(rig, b)).last, true)
})

test('parts with pods are fenced, and free when every other has seen that for allowance and margin', async () => {
  const { rig, a } = await stopped()
  assert.equal(await leave(rig, a), { freed: 1, fenced: 1, allowanceMs: 10 * MINUTE, last: false })
  const [kept] = parts(rig, a.uid)
  assert.equal(kept?.fence, { id: liveness(rig)?.removed?.fence, allowanceMs: 10 * MINUTE })
  assert.is(rig.read('nodes/a'), null)
  a.kill()
  await rig.clock.advance(9 * MINUTE)
  assert.is(parts(rig, a.uid).length, 1)
  await rig.clock.advance(3 * MINUTE)
  assert.equal(keysOf(rig, 'uid-a'), [])
})

test('it may come back: in time its fence is lifted, and its pod never noticed', async () => {
  const { rig, a } = await stopped()
  await leave(rig, a)
  a.kill()
  rig.register(a)
  await a.start().ready()
  await rig.clock.advance(2000)
  assert.equal([parts(rig, a.uid)[0]?.fence, liveness(rig)?.removed], [null, null])
  assert.equal(a.lost, [])
  await a.add('again')
})

for (const after of [1, 2, 3, 4, 5, 6, 7, 8])
  test(`stopped after ${after} commits: what it kept is its own or a removed node's, and the next leave ends it`, async () => {
    const { rig, a } = await stopped()
    const ipam = a.start()
    const { store } = a
    const commit = store.commit.bind(store)
    let commits = 0
    store.commit = async asked => {
      if (commits++ === after) a.kill()
      return commit(asked)
    }
    leaveCluster({ uid: a.uid, name: a.name, hardware: 'hw-a' }, { store, random: rig.random, ipam }).catch(
      () => undefined,
    )
    for (let i = 0; i < 20; i++) await rig.clock.advance(100)
    a.kill()
    const left = await leave(rig, a)
    assert.is(left.fenced, 1)
    assert.is(parts(rig, a.uid).length, 1)
    assert.ok(parts(rig, a.uid).every(({ fence }) => fence?.id === liveness(rig)?.removed?.fence))
    a.kill()
    await rig.clock.advance(13 * MINUTE)
    assert.equal(keysOf(rig, 'uid-a'), [])
  })

test('a copied state folder does not empty the machine that it was copied from', async () => {
  const { rig, a } = await stopped()
  const before = rig.cluster.list('slots/')
  const error = await leave(rig, a, 'hw-clone').then(
    () => null,
    caught => caught,
  )
  assert.ok(isTwillError(error, 'node.name-taken'))
  assert.match((error as Error).message, /hw-clone/)
  assert.equal(rig.cluster.list('slots/'), before)
  assert.is(liveness(rig)?.removed, null)
})

test.run()
