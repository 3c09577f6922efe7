/** Which slots a node tries, against a plain search through all; and that it looks at few of them in a large pool. */
import { test } from 'uvu'
import * as assert from 'uvu/assert'
import { slotKey } from '../../../datastore/keys.ts'
import { MemoryCluster } from '../../../datastore/memory/cluster.ts'
import { MemoryStore } from '../../../datastore/memory/store.ts'
import { AddressRanges } from '../../../ipam/address-ranges.ts'
import { type ClaimablePool, chooseSlots, type SlotView } from '../../../ipam/choose-slot.ts'
import { claimPart, emptySlot } from '../../../ipam/slot.ts'
import { SlotIndex } from '../../../ipam/slot-index.ts'
import { Watched } from '../../../ipam/watched.ts'
import { type Cidr, formatCidr, parseCidr, parseRange } from '../../../lib/address.ts'
import { systemClock } from '../../../lib/clock.ts'
import { silentLog } from '../../../lib/log.ts'
import { SeededRandom, settle } from '../../fixtures/manual-clock.ts'

const pool = (cidr: string, slotPrefix: number, ...withheld: string[]): ClaimablePool => ({
  uid: 'p',
  cidr: parseCidr(cidr),
  slotPrefix,
  withheld: new AddressRanges(withheld.map(parseRange)),
})

const slotsOf = ({ cidr, slotPrefix }: ClaimablePool): Cidr[] =>
  Array.from({ length: 2 ** (slotPrefix - cidr.prefix) }, (_, i) => ({
    family: cidr.family,
    base: cidr.base + BigInt(i) * 2n ** BigInt(32 - slotPrefix),
    prefix: slotPrefix,
  }))

type State = 'unrecorded' | 'unreadable' | 'owned' | 'free' | 'piece'

const claim = { owner: 'other', claim: 'x' }
const records: Record<Exclude<State, 'unrecorded'>, (slot: Cidr) => string> = {
  unreadable: () => '{',
  owned: slot => JSON.stringify(claimPart(emptySlot(slot), formatCidr(slot), claim)),
  free: slot => JSON.stringify({ ...emptySlot(slot), generation: 5 }),
  piece: slot =>
    JSON.stringify(claimPart(emptySlot(slot), formatCidr({ ...slot, prefix: slot.prefix + 1 }), claim)),
}

class Slots {
  readonly cluster = new MemoryCluster()
  readonly store = new MemoryStore({}, { cluster: this.cluster, clock: systemClock })
  readonly index = new SlotIndex(
    { onChange: () => undefined },
    new Watched({}, { store: this.store, log: silentLog }),
  )

  set(slot: Cidr, state: State): void {
    const key = slotKey('p', slot)
    const expected = this.cluster.get(key)?.modRevision ?? 0
    this.cluster.commit({ key, expected, value: state === 'unrecorded' ? null : records[state](slot) })
  }
}

/** Counts what is looked at. */
function counted(index: SlotIndex): { view: SlotView; looks: () => number } {
  let looks = 0
  const look = <T>(value: T): T => {
    looks++
    return value
  }
  const view: SlotView = {
    get: key => look(index.get(key)),
    exists: key => look(index.exists(key)),
    count: uid => index.count(uid),
    withFree: uid => index.withFree(uid),
    recorded: uid => index.recorded(uid),
  }
  return { view, looks: () => looks }
}

test('every free slot is found once and whole ones first, whatever stands in the others', async () => {
  const random = new SeededRandom(3)
  const chance = (states: readonly State[]) => states[Math.floor(random.fraction() * states.length)] as State
  const mixes: State[][] = [
    ['unrecorded'],
    ['owned', 'owned', 'owned', 'unrecorded'],
    ['owned', 'free', 'piece', 'unreadable', 'unrecorded'],
    ['owned', 'piece', 'free'],
  ]
  for (const mix of mixes)
    for (const withheld of [[], ['10.0.3.0-10.0.9.255', '10.0.20.0/24']]) {
      const slots = new Slots()
      const used = pool('10.0.0.0/18', 26, ...withheld)
      const expected = { whole: [] as string[], pieces: [] as string[] }
      for (const slot of slotsOf(used)) {
        const state = chance(mix)
        slots.set(slot, state)
        if (used.withheld.coveredUntil(slot) !== null) continue
        const high = { ...slot, base: slot.base + 32n, prefix: 27 }
        if (state === 'unrecorded' || state === 'free') expected.whole.push(formatCidr(slot))
        if (state === 'piece') expected.pieces.push(formatCidr(high))
      }
      await settle()
      const found = [...chooseSlots(used, 'n', slots.index)].map(({ cidr }) => cidr)
      const wholeCount = expected.whole.length
      assert.equal(found.slice(0, wholeCount).sort(), expected.whole.sort(), mix.join())
      assert.equal(found.slice(wholeCount).sort(), expected.pieces.sort(), mix.join())
    }
})

test('the last slot of a large pool is found, and that there is none, with few looks', async () => {
  const slots = new Slots()
  const used = pool('10.0.0.0/14', 26, '10.1.0.0/16', '10.3.128.0/17')
  const all = slotsOf(used).filter(slot => used.withheld.coveredUntil(slot) === null)
  const [last, ...others] = all.reverse() as [Cidr, ...Cidr[]]
  const { view, looks } = counted(slots.index)
  const found = () => [...chooseSlots(used, 'n', view)].map(({ cidr }) => cidr)
  for (const slot of others.slice(0, 100)) slots.set(slot, 'owned')
  await settle()
  assert.is(found().length, all.length - 100)
  const before = looks()
  for (const slot of others.slice(100)) slots.set(slot, 'owned')
  await settle()
  assert.equal(found(), [formatCidr(last)])
  slots.set(last, 'owned')
  await settle()
  assert.equal(found(), [])
  assert.ok(looks() - before < 500, `${looks() - before} looks at ${all.length} slots`)
})

test('slots that got or lost their record since the last search are seen as they are', async () => {
  const slots = new Slots()
  const used = pool('10.0.0.0/16', 26)
  const all = slotsOf(used)
  for (const slot of all.slice(200)) slots.set(slot, 'owned')
  await settle()
  const found = () => [...chooseSlots(used, 'n', slots.index)].map(({ cidr }) => cidr).sort()
  const texts = (expected: readonly Cidr[]) => expected.map(formatCidr).sort()
  assert.equal(found(), texts(all.slice(0, 200)))
  for (const slot of all.slice(0, 190)) slots.set(slot, 'owned')
  await settle()
  assert.equal(found(), texts(all.slice(190, 200)))
  const { revision, entries } = slots.cluster.snapshot()
  const forgotten = new Set(all.slice(500, 600).map(slot => slotKey('p', slot)))
  const older = [...entries].filter(([key]) => !forgotten.has(key))
  slots.cluster.restore({ revision, entries: new Map(older) })
  await settle()
  assert.equal(found(), texts([...all.slice(190, 200), ...all.slice(500, 600)]))
})

test('a slot whose record somebody deleted is not free until there is a record again', async () => {
  const slots = new Slots()
  const used = pool('10.0.0.0/24', 26)
  const [slot] = slotsOf(used) as [Cidr]
  slots.set(slot, 'owned')
  await settle()
  slots.set(slot, 'unrecorded')
  await settle()
  const found = () => [...chooseSlots(used, 'n', slots.index)].length
  assert.is(found(), 3)
  assert.is(slots.index.deleted.size, 1)
  slots.set(slot, 'free')
  await settle()
  assert.is(found(), 4)
  assert.is(slots.index.deleted.size, 0)
})

test('who comes back tries the slots it had first', async () => {
  const slots = new Slots()
  const used = pool('10.0.0.0/16', 26)
  const first = () => chooseSlots(used, 'n', slots.index).next().value?.slot as Cidr
  await settle()
  const had: Cidr[] = []
  for (let i = 0; i < 3; i++) {
    had.push(first())
    slots.set(first(), 'owned')
    await settle()
  }
  for (const slot of had) slots.set(slot, 'free')
  await settle()
  for (const slot of had) {
    assert.equal(first(), slot)
    slots.set(slot, 'owned')
    await settle()
  }
})

test.run()
