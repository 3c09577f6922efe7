/** When a ledger is committed: a burst shares one commit, and none waits for ever. */
import { test } from 'uvu'
import * as assert from 'uvu/assert'
import { Rig } from './rig.ts'

async function started() {
  const rig = new Rig()
  await rig.createPool('default', '10.0.0.0/24', 26)
  const node = rig.node('a', { lingerMs: 200 })
  node.start()
  await rig.clock.advance(5_000)
  const begunMs = rig.clock.boottimeMs()
  const committedMs: number[] = []
  const readMs: number[] = []
  const { store } = node
  const [commit, get] = [store.commit.bind(store), store.get.bind(store)]
  store.commit = change => {
    if (change.key.startsWith('ledgers/')) committedMs.push(rig.clock.boottimeMs() - begunMs)
    return commit(change)
  }
  // After a failure what stands there is read first.
  store.get = key => {
    if (key.startsWith('ledgers/')) readMs.push(rig.clock.boottimeMs() - begunMs)
    return get(key)
  }
  return { rig, node, committedMs, readMs }
}

test('after 200 ms without a change, counted from the last one', async () => {
  const { rig, node, committedMs } = await started()
  for (let i = 0; i < 5; i++) {
    await node.add(`p${i}`)
    await rig.clock.advance(150)
  }
  assert.equal(committedMs, [])
  await rig.clock.advance(1_000)
  assert.equal(committedMs, [800])
})

test('after two seconds at the latest, however often it changes', async () => {
  const { rig, node, committedMs } = await started()
  for (let i = 0; i < 30; i++) {
    await node.add(`p${i}`)
    await rig.clock.advance(100)
  }
  await rig.clock.advance(5_000)
  assert.equal(committedMs, [2_000, 3_100])
})

test('one that could not be written is tried again later and later, also when it changes, and then is written once', async () => {
  const { rig, node, committedMs, readMs } = await started()
  await node.add('first')
  await rig.clock.advance(1_000)
  readMs.length = 0
  node.setUnavailable(true)
  await node.add('p0')
  await rig.clock.advance(1_000)
  await node.add('p1')
  await rig.clock.advance(9_000)
  const pauses = readMs.slice(1).map((atMs, i) => atMs - (readMs[i] as number))
  assert.ok(pauses.length >= 3, `tried at ${readMs}`)
  for (let i = 1; i < pauses.length; i++) assert.is(pauses[i], 2 * (pauses[i - 1] as number))
  committedMs.length = 0
  node.setUnavailable(false)
  await rig.clock.advance(20_000)
  assert.is(committedMs.length, 1)
})

test.run()
