/** What is damaged, or of a newer version, is kept and told, and keeps nobody from what does not need it. */
import { suite } from 'uvu'
import * as assert from 'uvu/assert'
import type { LedgerRecord } from '../../../datastore/records/ledger.ts'
import type { SlotRecord } from '../../../datastore/records/slot.ts'
import { Heartbeat } from '../../../ipam/heartbeat.ts'
import { type Log, silentLog } from '../../../lib/log.ts'
import { liveness } from '../../fixtures/cluster-records.ts'
import { settle } from '../../fixtures/manual-clock.ts'
import { Rig, type RigNode } from './rig.ts'

const test = suite('bad records')
const MINUTE = 60_000
const options = { offlineAllowanceMs: 10 * MINUTE, marginMs: MINUTE, lowWater: 0 }

/** One node with pods in two slots. */
async function cluster() {
  const rig = new Rig()
  await rig.createPool('default', '10.0.0.0/26', 28)
  const a = rig.node('a', options)
  a.start()
  await settle()
  for (let i = 0; i < 17; i++) await a.add(`p${i}`)
  await rig.clock.advance(5000)
  return { rig, a }
}

const textOf = (rig: Rig, key: string) => rig.cluster.get(key)?.value
function write(rig: Rig, key: string, value: string): void {
  const expected = rig.cluster.get(key)?.modRevision ?? 0
  assert.ok(rig.cluster.commit({ key, expected, value }).committed)
}
const keysUnder = (rig: Rig, prefix: string) => rig.cluster.list(prefix).map(({ key }) => key)
const slotOf = (node: RigNode, id: string): string =>
  `slots/${node.attachments.get(id)?.addresses[0]?.poolUid}/${node.attachments.get(id)?.addresses[0]?.slot.replace('/', '-')}`

const BAD = { newer: '{"v":2,"something":"else"}', damaged: '{"v":1,"par' }

for (const [problem, bad] of Object.entries(BAD)) {
  test(`a slot of ours that is ${problem}: kept, told, its pods stay, others are handed out of the other slots`, async () => {
    const { rig, a } = await cluster()
    const key = slotOf(a, 'p0')
    write(rig, key, bad)
    await rig.clock.advance(2 * MINUTE)
    assert.match(a.ipam?.unreadable().join() ?? '', new RegExp(`${key}.*${problem}`))
    await a.add('other')
    a.del('p1')
    await rig.clock.advance(20 * MINUTE)
    assert.is(textOf(rig, key), bad)
    assert.equal(a.lost, [])
    const usable = a.ipam?.ownParts().filter(part => part.usable)
    assert.is(usable?.length, 1, 'out of term, where it cannot be confirmed')
    await a.add('more')
    let reads = 0
    const get = a.store.get.bind(a.store)
    a.store.get = asked => {
      reads++
      return get(asked)
    }
    await rig.clock.advance(MINUTE)
    assert.ok(reads < 20, `${reads} reads in a minute: it is not asked for all the time`)
    a.kill()
    await a.start().ready()
    assert.is(textOf(rig, key), bad, 'nor by a daemon that starts')
    assert.equal(a.lost, [])
  })

  test(`a ledger of ours that is ${problem} is kept; pods come and go`, async () => {
    const { rig, a } = await cluster()
    const key = keysUnder(rig, 'ledgers/')[0] as string
    write(rig, key, bad)
    for (let i = 0; i < 17; i += 4) a.del(`p${i}`)
    await a.add('new')
    await rig.clock.advance(20 * MINUTE)
    assert.is(textOf(rig, key), bad)
    assert.ok(a.ipam?.ownParts().every(({ usable }) => usable))
    a.reboot()
    a.start()
    await rig.clock.advance(2 * MINUTE)
    assert.is(textOf(rig, key), bad)
    assert.match(
      a.ipam?.unreadable().join() ?? '',
      new RegExp(`${key}.*${problem}`),
      'who lived there is not known',
    )
  })

  test(`an address space that is ${problem} is kept and told; pods stay`, async () => {
    const { rig, a } = await cluster()
    const conditions = () => a.ipam?.conditions().map(({ reason }) => reason) ?? []
    write(rig, 'address-space', bad)
    await rig.clock.advance(20 * MINUTE)
    assert.is(textOf(rig, 'address-space'), bad)
    assert.match(conditions().join(), new RegExp(`address-space.*${problem}`))
    assert.equal(a.lost, [])
  })

  test(`a removed node's slot or liveness record that is ${problem} keeps no other removed node's parts from being freed`, async () => {
    const { rig, a } = await cluster()
    const owners = ['v', 'w', 'x', 'y', 'z']
    const slots = owners.map(owner => `slots/other/10.9.${owners.indexOf(owner)}.0-28`)
    owners.forEach((owner, i) => {
      const part = { cidr: `10.9.${i}.0/28`, owner: `uid-${owner}`, generation: 1, cooling: {}, claim: null }
      rig.put(slots[i] as string, { v: 1, generation: 1, parts: [{ ...part, fence: null }], requests: [] })
    })
    const owned = () => rig.under<SlotRecord>('slots/other/').map(([, { parts }]) => parts?.[0])
    write(rig, 'liveness/uid-v', bad)
    await rig.clock.advance(2 * MINUTE)
    assert.is(textOf(rig, 'liveness/uid-v'), bad)
    assert.is(owned().filter(part => part?.fence).length, 4, 'all but the one of which nobody knows')
    assert.match(a.ipam?.unreadable().join() ?? '', new RegExp(`liveness/uid-v.*${problem}`))
    write(rig, slots[1] as string, bad.replace('"par', ''))
    await rig.clock.advance(20 * MINUTE)
    assert.is(
      rig.cluster.list('slots/other/').filter(({ value }) => value.includes('"owner":null')).length,
      3,
    )
    rig.put('liveness/uid-v', { ...liveness('v'), removed: { fence: 'f', by: 'me', endsWith: 'return' } })
    await rig.clock.advance(2 * MINUTE)
    assert.match(textOf(rig, slots[0] as string) ?? '', '"fence":{"id":"f"')
    assert.equal(a.ipam?.unreadable(), [])
    a.kill()
  })

  test(`a liveness record that is ${problem} is kept, and said to be once`, async () => {
    const { rig, a } = await cluster()
    const said: string[] = []
    const log: Log = { ...silentLog, error: (data: object) => void said.push(JSON.stringify(data)) }
    const heart = new Heartbeat(
      { uid: a.uid, name: 'a', hardware: 'hw-a', heartbeatMs: 10_000, allowanceMs: 1, onTaken: () => {} },
      { store: rig.operator, clock: rig.clock, log },
    )
    write(rig, 'liveness/uid-a', bad)
    heart.start()
    await rig.clock.advance(MINUTE)
    await heart.stop()
    assert.is(textOf(rig, 'liveness/uid-a'), bad)
    assert.is(said.length, 1)
    assert.match(said[0] ?? '', problem)
  })
}

test('a ledger that names addresses outside its part, or nonsense: what is right in it counts', async () => {
  const { rig, a } = await cluster()
  const key = keysUnder(rig, 'ledgers/').find(each => textOf(rig, each)?.includes('"p1"')) as string
  const ledger = rig.read<LedgerRecord>(key) as LedgerRecord
  const [generation, held] = Object.entries(ledger.generations)[0] as [string, Record<string, never>]
  const [, entry] = Object.entries(held).find(([, { holder }]) => holder === 'p1') as [
    string,
    { holder: string },
  ]
  const strange = ['10.0.0.63', '10.9.9.9', '0.0.0.0', 'fd00::1', '255.255.255.255', 'no address']
  const lies = Object.fromEntries(strange.map(address => [address, { ...entry, holder: `x-${address}` }]))
  rig.put(key, { ...ledger, generations: { [generation]: { ...lies, ...held } } })
  a.journalIntact = false
  a.attachments.clear()
  a.kill()
  await a.start().ready()
  const holders = a.ipam?.holders().map(({ holder }) => holder.id) ?? []
  assert.ok(holders.includes('p1'))
  assert.equal(
    holders.filter(id => id.startsWith('x-')),
    [],
  )
  assert.ok(a.ipam?.ownParts().every(({ free, held: count }) => free + count === 16))
  await a.add('new')
})

test('a clock that is set back by a day: pods come and go, nothing is lost, nothing lasts longer', async () => {
  const { rig, a } = await cluster()
  rig.clock.jumpRealtime(-24 * 60 * MINUTE)
  a.del('p0')
  await a.add('q0')
  a.kill()
  await a.start().ready()
  await a.add('q1')
  await rig.clock.advance(5 * MINUTE)
  assert.ok(a.ipam?.ownParts().every(({ usable }) => usable))
  assert.equal(a.lost, [])
  a.setUnavailable(true)
  await rig.clock.advance(11 * MINUTE)
  assert.not.ok(a.ipam?.ownParts().some(({ usable }) => usable))
})

test.run()
