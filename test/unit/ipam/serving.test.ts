/** When requests of other nodes are looked at again: never over and over, whatever the watch shows. */
import { test } from 'uvu'
import * as assert from 'uvu/assert'
import type { SlotRecord } from '../../../datastore/records/slot.ts'
import { Allocator } from '../../../ipam/allocator.ts'
import { NOTHING_WITHHELD } from '../../../ipam/pool-view.ts'
import { Serving } from '../../../ipam/serving.ts'
import { silentLog } from '../../../lib/log.ts'
import { ManualClock } from '../../fixtures/manual-clock.ts'

test('a stale request that the watch goes on showing is taken out once, not in every pass', async () => {
  const part = { cidr: '10.0.0.0/29', owner: 'a', generation: 2, claim: 'c', fence: null, cooling: {} }
  const request = { id: 'r', owner: 'b', cidr: null, refusals: [{ owner: 'a', reason: 'no room' }] }
  const value: SlotRecord = { v: 1, generation: 2, parts: [part], requests: [request] }
  const key = 'slots/pool/10.0.0.0-29'
  const clock = new ManualClock()
  let drops = 0
  const withheld = () => NOTHING_WITHHELD
  const allocator = new Allocator({ coolDownMs: 0, usable: () => true, withheld, nowMs: () => 0 })
  const serving = new Serving(
    { nodeUid: 'a', staleAfterMs: 60_000, onFailure() {} },
    {
      clock,
      log: silentLog,
      allocator,
      slots: { withRequests: () => [key], get: () => ({ value, modRevision: 1 }) } as never,
      gifts: { drop: async () => void drops++ } as never,
    },
  )
  await serving.pass()
  assert.is(serving.nextDueMs(), 60_000)
  for (let i = 0; i < 3; i++) {
    await clock.advance(serving.nextDueMs())
    await serving.pass()
    assert.is(drops, i + 1)
    await serving.pass()
    assert.is(serving.nextDueMs(), 60_000)
  }
})

test.run()
