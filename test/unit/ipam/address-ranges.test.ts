/** What never goes out: ranges that touch or overlap, both families, and the choice of slots around them. */
import { test } from 'uvu'
import * as assert from 'uvu/assert'
import { slotKey } from '../../../datastore/keys.ts'
import type { SlotRecord } from '../../../datastore/records/slot.ts'
import { AddressRanges } from '../../../ipam/address-ranges.ts'
import { type ClaimablePool, chooseSlots, type SlotView } from '../../../ipam/choose-slot.ts'
import { claimPart, emptySlot } from '../../../ipam/slot.ts'
import { covers, formatIp, parseCidr, parseIp, parseRange } from '../../../lib/address.ts'

const ranges = (...texts: string[]) => new AddressRanges(texts.map(parseRange))

const EMPTY: SlotView = {
  get: () => undefined,
  exists: () => false,
  count: () => 0,
  withFree: () => new Set(),
  recorded: () => ranges(),
}

const pool = (cidr: string, slotPrefix: number, ...withheld: string[]): ClaimablePool => ({
  uid: 'p',
  cidr: parseCidr(cidr),
  slotPrefix,
  withheld: ranges(...withheld),
})

const chosen = (of: ClaimablePool) => [...chooseSlots(of, 'node', EMPTY)].map(({ cidr }) => cidr).sort()

test('an address is in any range that holds it, its ends included, and in none of the other family', () => {
  const withheld = ranges('10.0.0.5', '10.0.1.0/30', '10.0.2.250-10.0.3.3', '::5')
  for (const text of ['10.0.0.5', '10.0.1.0', '10.0.1.3', '10.0.2.250', '10.0.3.3', '::5'])
    assert.ok(withheld.has(parseIp(text)), text)
  for (const text of ['10.0.0.4', '10.0.0.6', '10.0.1.4', '10.0.2.249', '10.0.3.4', '::a00:5', '::4'])
    assert.not.ok(withheld.has(parseIp(text)), text)
})

test('ranges that overlap or touch count as one', () => {
  const withheld = ranges('10.0.0.64/26', '10.0.0.0-10.0.0.70', '10.0.0.128-10.0.0.255')
  const last = withheld.coveredUntil(parseCidr('10.0.0.0/26'))
  assert.is(formatIp({ family: 4, value: last ?? 0n }), '10.0.0.255')
  assert.is(withheld.coveredUntil(parseCidr('10.0.0.0/23')), null)
})

test('a slot that is withheld from end to end is not claimed, one of which an address is left is', () => {
  assert.equal(chosen(pool('10.0.0.0/26', 28, '10.0.0.0-10.0.0.46', '10.0.0.48/28')), ['10.0.0.32/28'])
  assert.equal(chosen(pool('10.0.0.0/26', 28, '10.0.0.0/8')), [])
})

test('nor a piece of one', () => {
  const slot = parseCidr('10.0.0.0/28')
  const split = claimPart(emptySlot(slot), '10.0.0.0/29', { owner: 'other', claim: 'x' }) as SlotRecord
  const key = slotKey('p', slot)
  const view: SlotView = {
    get: () => ({ value: split, modRevision: 1 }),
    exists: () => true,
    count: () => 1,
    withFree: () => new Set([key]),
    recorded: () => ranges('10.0.0.0/28'),
  }
  const chosenFrom = (...withheld: string[]) =>
    [...chooseSlots(pool('10.0.0.0/28', 28, ...withheld), 'node', view)].map(({ cidr }) => cidr)
  assert.equal(chosenFrom(), ['10.0.0.8/29'])
  assert.equal(chosenFrom('10.0.0.8/29'), [])
})

test('half of a huge pool is passed over in one step, wherever the node begins', () => {
  for (const half of ['fd00::/65', 'fd00:0:0:0:8000::/65']) {
    const [first] = chooseSlots(pool('fd00::/64', 122, half), 'node', EMPTY)
    assert.ok(first)
    assert.not.ok(covers(parseCidr(half), parseCidr(first.cidr)), first.cidr)
  }
})

test('a range is an address, a prefix or two addresses in order, of one family', () => {
  for (const text of ['10.0.0.5-10.0.0.4', '10.0.0.1-::5', '10.0.0.1-', '1-2-3', '10.0.0.1/24', 'x'])
    assert.throws(() => parseRange(text), /expected/, text)
})

test.run()
