/** IPReservations on a running node: what does not go out, who keeps what, and what a restart without the store remembers. */
import { test } from 'uvu'
import * as assert from 'uvu/assert'
import { isTwillError } from '../../../lib/errors.ts'
import { settle } from '../../fixtures/manual-clock.ts'
import { Rig, type RigNode } from './rig.ts'

const KEY = 'resources/ipreservations/kept'

async function started(cidr = '10.0.0.0/29', blockSize = 29) {
  const rig = new Rig()
  await rig.createPool('default', cidr, blockSize)
  const node = rig.node('a')
  node.start()
  await settle()
  return { rig, node }
}

async function reserve(rig: Rig, ...addresses: string[]) {
  rig.put(KEY, {
    apiVersion: 'twill.network/v1alpha1',
    kind: 'IPReservation',
    metadata: { name: 'kept' },
    spec: { addresses },
  })
  await settle()
}

/** Every address that can still be had. */
async function rest(node: RigNode): Promise<string[]> {
  const found: string[] = []
  for (;;) {
    try {
      found.push((await node.add(`rest${found.length}`))[0]?.address as string)
    } catch (error) {
      assert.ok(isTwillError(error, 'ipam.exhausted'), String(error))
      return found
    }
  }
}

test('what is reserved is never handed out, in parts that were there and in parts that come', async () => {
  const { rig, node } = await started('10.0.0.0/28', 29)
  const [first] = await node.add('p0')
  await reserve(rig, '10.0.0.1-10.0.0.3', '10.0.0.8/30', '10.0.0.15')
  const all = [first?.address, ...(await rest(node))].sort()
  const expected = [0, 4, 5, 6, 7, 12, 13, 14].map(last => `10.0.0.${last}`)
  // The first may have come from a range that was reserved only afterwards.
  assert.equal(all, [...new Set([first?.address, ...expected])].sort())
})

test('a pod keeps what is reserved over it, that is reported, and after it nobody gets it', async () => {
  const { rig, node } = await started()
  const [held] = await node.add('p0')
  assert.equal(node.ipam?.resourceProblems(), [])
  await reserve(rig, held?.address as string)
  assert.equal(node.ipam?.heldBy('p0'), [held])
  const [problem] = node.ipam?.resourceProblems() ?? []
  assert.is(problem?.type, 'ReservedAddressHeld')
  assert.match(problem?.message ?? '', new RegExp(`IPReservation kept: ${held?.address} is held by pod p0`))
  node.del('p0')
  assert.equal(node.ipam?.resourceProblems(), [])
  await rig.clock.advance(120_000)
  assert.is((await rest(node)).includes(held?.address as string), false)
  rig.put(KEY, null)
  await settle()
  assert.is((await node.add('again'))[0]?.address, held?.address)
})

test('asked for by name it is refused, naming the reservation', async () => {
  const { rig, node } = await started()
  await reserve(rig, '10.0.0.4/30')
  const error = await node.add('p', [], [], ['10.0.0.5']).catch(each => each)
  assert.ok(isTwillError(error, 'ipam.address-refused'))
  assert.match(error.message, /10\.0\.0\.5 cannot be given: IPReservation kept reserves it/)
})

test('a node that is restarted without the store remembers it', async () => {
  const { rig, node } = await started()
  await node.add('p0')
  await reserve(rig, '10.0.0.0-10.0.0.5')
  await rig.clock.advance(1000)
  node.setUnavailable(true)
  node.kill()
  node.start()
  await settle()
  const found: string[] = []
  for (let i = 0; i < 8; i++)
    found.push(
      ...(await node.add(`q${i}`).then(
        ([held]) => [held?.address as string],
        () => [],
      )),
    )
  assert.equal(
    found.filter(address => address !== '10.0.0.6' && address !== '10.0.0.7'),
    [],
  )
  assert.ok(found.length > 0)
})

test('one that cannot be read is reported, and what it said before still counts', async () => {
  const { rig, node } = await started()
  await reserve(rig, '10.0.0.4/30')
  await reserve(rig, '10.0.0.300')
  assert.is(node.ipam?.resourceProblems()[0]?.type, 'DamagedRecord')
  assert.equal((await rest(node)).sort(), ['10.0.0.0', '10.0.0.1', '10.0.0.2', '10.0.0.3'])
})

test('with room only for what is reserved, STATUS says that there is none', async () => {
  const { rig, node } = await started()
  await node.add('p0')
  await reserve(rig, '10.0.0.0/24')
  assert.is(node.ipam?.room().ok, false)
})

test.run()
