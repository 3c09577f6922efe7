/** What a node that has no address to give says it waits for, and until when. */
import { test } from 'uvu'
import * as assert from 'uvu/assert'
import { type NoRoom, noRoom } from '../../../ipam/no-room.ts'
import { newPart, newSlot, type OwnedPart } from '../../../ipam/own-slots.ts'
import { parseCidr } from '../../../lib/address.ts'

const MINUTE = 60_000
const slot = newSlot('uid', parseCidr('10.0.0.0/28'))
const part = (changes: Partial<OwnedPart> = {}): OwnedPart => ({
  ...newPart(slot, '10.0.0.0/28', 2),
  ...changes,
})
const reason = (changes: Partial<NoRoom>) =>
  noRoom({ family: 4, unusable: [], claimsInMs: null, nowMs: 0, unknownMs: 61 * MINUTE, ...changes })

test('full, or waiting for a confirmation; while the store counts as restored it says how long', () => {
  assert.is(reason({}), "this node's IPv4 addresses have no room")
  assert.is(reason({ unusable: [part()] }), "this node's IPv4 addresses are not confirmed")
  const restored = 'the datastore went back to an older state, 13 min more at the most'
  const claimsInMs = 12.1 * MINUTE
  assert.is(reason({ claimsInMs }), `this node's IPv4 addresses have no room: ${restored}`)
  assert.is(
    reason({ claimsInMs, unusable: [part()] }),
    `this node's IPv4 addresses are not confirmed: ${restored}`,
  )
})

test('fenced, if all are', () => {
  const fenced = part({ fenced: true })
  assert.match(
    reason({ unusable: [fenced] }),
    /are fenced, since the node was removed: that ends some seconds/,
  )
  assert.match(reason({ unusable: [fenced, part()] }), /are not confirmed$/)
})

test('parts that the journal does not know are used after a while, which is told', () => {
  const unknown = (unknownSinceMs: number) => part({ unknownSinceMs })
  assert.is(
    reason({ unusable: [unknown(20 * MINUTE), unknown(10 * MINUTE)], nowMs: 30 * MINUTE }),
    "this node's IPv4 addresses are known to the datastore alone, not to the journal: 41 min more at the most",
  )
})

test.run()
