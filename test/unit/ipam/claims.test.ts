/** How many parts a node claims at once, and what becomes of those who wait for them. */
import { test } from 'uvu'
import * as assert from 'uvu/assert'
import type { SlotRecord } from '../../../datastore/records/slot.ts'
import { AddressRanges } from '../../../ipam/address-ranges.ts'
import { Claims, type ClaimsOptions } from '../../../ipam/claims.ts'
import { NO_LIMIT } from '../../../ipam/node-limit.ts'
import type { OwnedPart } from '../../../ipam/own-slots.ts'
import type { KnownPool } from '../../../ipam/pool-view.ts'
import { parseCidr } from '../../../lib/address.ts'
import { ManualClock, settle } from '../../fixtures/manual-clock.ts'
import { Rig, type RigNode } from './rig.ts'

const TRIP_MS = 10

async function started(options: Parameters<Rig['node']>[1] = {}) {
  const rig = new Rig()
  await rig.createPool('default', '10.0.0.0/20', 28)
  const node = rig.node('a', { lowWater: 16, ...options })
  node.start()
  await rig.clock.advance(1000)
  node.setDelay(TRIP_MS)
  return { rig, node, sent: watchClaims(node) }
}

/** Claims under way at once at the most, and those that found their slot taken. */
function watchClaims(node: RigNode) {
  const sent = { most: 0, lost: 0 }
  let underWay = 0
  const commit = node.store.commit.bind(node.store)
  node.store.commit = async change => {
    if (!change.key.startsWith('slots/')) return commit(change)
    sent.most = Math.max(sent.most, ++underWay)
    const outcome = await commit(change).finally(() => underWay--)
    if (!outcome.committed) sent.lost++
    return outcome
  }
  return sent
}

/** So many, each after the one before it in one of 32 rows. */
async function burst({ rig, node }: { rig: Rig; node: RigNode }, count: number, name: string): Promise<void> {
  let next = 0
  let rows = 32
  const row = async () => {
    while (next < count) await node.add(`${name}${next++}`)
    rows--
  }
  for (let i = 0; i < 32; i++) void row()
  for (let waited = 0; rows > 0; waited++) {
    assert.ok(waited < 1000, 'the burst has no end')
    await rig.clock.advance(TRIP_MS)
  }
}

const owned = (rig: Rig): number =>
  rig
    .under<SlotRecord>('slots/')
    .flatMap(([, slot]) => slot.parts)
    .filter(part => part.owner === 'uid-a').length

test('addresses that go out faster than they are claimed: several claims at once, each of another slot', async () => {
  const { rig, node, sent } = await started()
  await burst({ rig, node }, 400, 'p')
  assert.ok(sent.most >= 4 && sent.most <= 5, `${sent.most} claims at once`)
  assert.is(sent.lost, 0)
  assert.is(new Set(node.ipam?.holders().flatMap(({ addresses }) => addresses.map(a => a.address))).size, 400)
})

test('at an ordinary pace one claim at a time, and no more parts than are needed', async () => {
  const { rig, node, sent } = await started()
  for (let i = 0; i < 100; i++) {
    await Promise.all([node.add(`p${i}`), rig.clock.advance(100)])
  }
  assert.is(sent.most, 1)
  assert.is(owned(rig), 8)
})

test('a hurry passes: afterwards parts are claimed one by one again', async () => {
  const { rig, node, sent } = await started()
  await burst({ rig, node }, 400, 'p')
  await rig.clock.advance(2_000)
  sent.most = 0
  const free = () => (node.ipam?.ownParts() ?? []).reduce((sum, part) => sum + part.free, 0)
  for (let i = 0; free() >= 16; i++) await node.add(`filler${i}`)
  await rig.clock.advance(1_000)
  assert.is(sent.most, 1)
  assert.ok(free() < 32, `${free()} are free`)
})

test('a node with a limit never has more under way than one claim, and never more parts', async () => {
  const { rig, node, sent } = await started({ nodeLimit: { parts: 6, addresses: null } })
  await burst({ rig, node }, 96, 'p')
  assert.is(sent.most, 1)
  assert.is(owned(rig), 6)
})

const POOL: KnownPool = {
  uid: 'p',
  name: 'default',
  cidr: parseCidr('10.0.0.0/16'),
  slotPrefix: 26,
  disabled: false,
  here: true,
  namespaceSelector: null,
  uses: ['pod'],
  gateway: null,
  nodeRanges: null,
  withheld: new AddressRanges([]),
  open: true,
  covers: null,
  ending: null,
}

/** Claims that a test ends one by one. */
function byHand(options: Partial<ClaimsOptions> = {}) {
  const begun: { resolve: (part: OwnedPart | null) => void; reject: (error: Error) => void }[] = []
  const claim = () =>
    new Promise<OwnedPart | null>((resolve, reject) => {
      begun.push({ resolve, reject })
    })
  const claims = new Claims(
    {
      nodeLimit: NO_LIMIT,
      mayAdd: () => Number.POSITIVE_INFINITY,
      onClaimed() {},
      onHurry() {},
      onFailure() {},
      ...options,
    },
    { clock: new ManualClock(), ownership: { claim, claimAddress: claim } },
  )
  return { claims, begun }
}

/** Three who had to wait, one after the other. */
async function hurried() {
  const { claims, begun } = byHand()
  for (let i = 0; i < 4; i++) {
    const waiting = claims.need(POOL, { cooling: false })
    begun[i]?.resolve(null)
    await waiting
  }
  begun.length = 0
  assert.is(claims.wanted(POOL), 128)
  return { claims, begun }
}

const PART = {} as OwnedPart

test('who waits gets the first part of several claims, whatever becomes of the others', async () => {
  const { claims, begun } = await hurried()
  const ahead = claims.ahead(POOL, 128).catch(error => error.message)
  assert.is(begun.length, 2)
  const waiting = claims.need(POOL, { cooling: false })
  begun[1]?.reject(new Error('the store is away'))
  await settle()
  begun[0]?.resolve(PART)
  assert.is(await waiting, PART)
  assert.is(begun.length, 2, 'no claim of his own')
  assert.is(await ahead, 'the store is away')
})

test('claims ahead that yield nothing: who waits claims himself, also pieces; when they fail he is told', async () => {
  const { claims, begun } = await hurried()
  void claims.ahead(POOL, 128)
  const waiting = claims.need(POOL, { cooling: false })
  begun[0]?.resolve(null)
  begun[1]?.resolve(null)
  await settle()
  assert.is(begun.length, 3)
  begun[2]?.resolve(PART)
  assert.is(await waiting, PART)
  const failing = claims.ahead(POOL, 64).catch(() => false)
  const told = claims.need(POOL, { cooling: false }).catch(error => error.message)
  begun[3]?.reject(new Error('the store is away'))
  assert.is(await told, 'the store is away')
  assert.not.ok(await failing)
})

test.run()
