import { test } from 'uvu'
import * as assert from 'uvu/assert'
import { compact, type IpamJournalRecord, ipamJournalRecord, replay } from '../../../ipam/journal-records.ts'

const at = { boot: 'b', boottimeMs: 100, realtimeMs: 200 }
const slot = (parts: number[], claiming: string | null = null): IpamJournalRecord => ({
  t: 'slot',
  poolUid: 'p',
  slot: '10.0.0.0/26',
  parts: parts.map(generation => ({ cidr: '10.0.0.0/26', generation })),
  claiming,
  giving: [],
})
const namespace = (name: string, team = 'a') => ({ name, labels: { team }, ipv4: ['p'], ipv6: [] })
const history: IpamJournalRecord[] = [
  {
    t: 'pools',
    pools: [
      {
        uid: 'p',
        name: 'd',
        cidr: '10.0.0.0/16',
        slotPrefix: 26,
        disabled: false,
        open: true,
        ending: null,
        here: false,
        namespaceSelector: { matchLabels: { team: 'a' } },
        uses: ['pod'],
        nodeRanges: null,
        gateway: null,
      },
    ],
    reservations: [{ name: 'r', addresses: ['10.0.0.1'] }],
  },
  { t: 'namespaces', changed: [namespace('old'), namespace('shop', 'x')], gone: [] },
  { t: 'namespaces', changed: [namespace('shop', 'y')], gone: ['old'] },
  slot([], 'c1'),
  slot([2]),
  { t: 'confirmed', ...at, revision: 7, slots: [{ poolUid: 'p', slot: '10.0.0.0/26' }] },
  { t: 'released', ...at, addresses: [{ poolUid: 'p', address: '10.0.0.3' }] },
]

test('the last word on a slot counts; an empty one is forgotten', () => {
  assert.equal(replay(history).slots.get('p 10.0.0.0/26'), slot([2]))
  assert.is(replay([...history, slot([])]).slots.size, 0)
  assert.is(replay([slot([], 'c1')]).slots.size, 1)
})

test('a compacted journal replays to the same, and is no longer than it must be', () => {
  const state = replay([...history, ...history])
  const records = compact(state, { boot: 'b', boottimeMs: 150 }, 60_000)
  assert.equal(replay(records), state)
  assert.is(records.length, 5)
  assert.equal([...state.namespaces.values()], [namespace('shop', 'y')])
})

test('releases whose cool-down is over are left out; those of another boot are not', () => {
  const state = replay(history)
  assert.is(replay(compact(state, { boot: 'b', boottimeMs: 60_101 }, 60_000)).released.size, 0)
  assert.is(replay(compact(state, { boot: 'c', boottimeMs: 60_101 }, 60_000)).released.size, 1)
})

test('every record parses as it was written', () => {
  for (const record of history) assert.equal(ipamJournalRecord.parse(record), record)
})

test('pools journaled by a version that knew no uses are for pods and tunnels', () => {
  const before = { uid: 'p', name: 'd', cidr: '10.0.0.0/16', slotPrefix: 26, disabled: false, open: true }
  const record = ipamJournalRecord.parse({ t: 'pools', pools: [before] })
  assert.equal(replay([record]).pools, [
    {
      ...{ ...before, ending: null, here: true, namespaceSelector: null, uses: ['pod', 'tunnel'] },
      ...{ nodeRanges: null, gateway: null },
    },
  ])
})

test.run()
