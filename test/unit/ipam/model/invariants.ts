/** What must hold after every step of a history, and what must hold once all is well again. */
import * as assert from 'uvu/assert'
import { ADDRESS_SPACE_KEY } from '../../../../datastore/keys.ts'
import type { AddressSpaceRecord } from '../../../../datastore/records/address-space.ts'
import type { LedgerRecord } from '../../../../datastore/records/ledger.ts'
import type { LivenessRecord } from '../../../../datastore/records/liveness.ts'
import type { SlotRecord } from '../../../../datastore/records/slot.ts'
import { countedEntries } from '../../../../ipam/audit/cluster.ts'
import type { HeldAddress, OwnPart } from '../../../../ipam/ipam.ts'
import { contains, parseCidr, parseIp, sizeOf } from '../../../../lib/address.ts'
import type { Machine } from './machine.ts'
import type { World } from './world.ts'

/**
 * No address is held by two living pods whose nodes both believe that they own it; none is outside its pool.
 * @param tolerant of the case that rule 16 names, for as long as it may last
 */
export function checkAlways({ cluster, machines, layout }: World, tolerant = true): void {
  assert.is(cluster.violations.length, 0, cluster.violations[0])
  const pools = [layout.pool, layout.second].map(parseCidr)
  const believers = new Map<string, { holder: string; blind: boolean }>()
  for (const machine of machines) {
    if (machine.clock.isPaused || machine.attachments.size === 0) continue
    const usable = (machine.ipam?.ownParts() ?? []).filter(part => part.usable)
    const own = new Set<string>()
    for (const { holder, addresses } of machine.attachments.values())
      for (const held of addresses) {
        const { address } = held
        assert.ok(
          pools.some(cidr => contains(cidr, parseIp(address))),
          `${address} is outside its pool`,
        )
        assert.not(own.has(address), `${address} twice on ${machine.name}`)
        own.add(address)
        if (!usable.some(part => hasIn(part, held))) continue
        const other = believers.get(address)
        const blind =
          tolerant && cluster.claimedBlindly.has(`${held.poolUid} ${held.slot} ${held.generation}`)
        assert.ok(
          other === undefined || blind || other.blind,
          `${address} is held by ${holder.id} and ${other?.holder}`,
        )
        believers.set(address, { holder: holder.id, blind })
      }
  }
}

const hasIn = (part: OwnPart, { address, generation, poolUid }: HeldAddress): boolean =>
  part.poolUid === poolUid &&
  part.generation === generation &&
  contains(parseCidr(part.cidr), parseIp(address))

export function checkRecovered(world: World): void {
  checkAlways(world, false)
  checkNothingLost(world)
  checkNoRequests(world)
  checkLimits(world)
  checkLiveness(world)
}

/** A gift may be larger than the limit for as long as it takes to cut it down. */
function checkLimits({ machines, limitOf }: World): void {
  for (const { name, ipam } of machines) {
    const parts = ipam?.ownParts() ?? []
    const size = parts.reduce((sum, part) => sum + part.free + part.held, 0)
    assert.ok(size <= limitOf(name) || parts.every(part => part.free === 0), `${name} owns ${size} addresses`)
  }
}

function checkNothingLost(world: World): void {
  const { rig, machines } = world
  // What a node lost while it was away, its pods lose too: the daemon cuts them off (rule 15).
  for (const machine of machines)
    for (const lost of machine.lost) for (const id of lost.holders) dropIfLost(machine, id)
  // What a ledger says of parts that its owner does not have counts for nothing.
  const entries = rig.under<LedgerRecord>('ledgers/').flatMap(([key, ledger]) => {
    const slot = rig.read<SlotRecord>(slotOfLedger(key))
    return [...countedEntries(ledger, slot)].map(
      ({ address, holder }) => `${ledger.owner} ${address} ${holder}`,
    )
  })
  const living = machines.flatMap(machine =>
    [...machine.attachments.values()].flatMap(({ holder, addresses }) =>
      addresses.map(({ address }) => `${machine.uid} ${address} ${holder.id}`),
    ),
  )
  const dead = entries.filter(entry => !living.includes(entry))
  const unwritten = living.filter(entry => !entries.includes(entry))
  assert.is(dead.length + unwritten.length, 0, `ledgers say ${dead}, and do not say ${unwritten}`)
  const space = rig.read<AddressSpaceRecord>(ADDRESS_SPACE_KEY)
  assert.is(space?.restored ?? null, null, 'the mark of a restoration is left')
  for (const known of space?.pools ?? []) checkPoolWhole(world, known)
  // A restored store may know nothing of it.
  if (world.cluster.wasRestored) return
  const pools = new Set(space?.pools.map(({ uid }) => uid))
  for (const { addresses } of machines.flatMap(machine => [...machine.attachments.values()]))
    assert.ok(
      addresses.every(({ poolUid }) => pools.has(poolUid)),
      'a pod has an address of a pool that has gone',
    )
}

/** ledgers/POOL/SLOT/OWNER */
const slotOfLedger = (key: string): string => key.replace(/^ledgers/, 'slots').replace(/[/][^/]*$/, '')

function dropIfLost(machine: Machine, id: string): void {
  const { addresses } = machine.attachments.get(id) ?? { addresses: [] }
  const parts = machine.ipam?.ownParts() ?? []
  if (!addresses.every(held => parts.some(part => hasIn(part, held)))) machine.del(id)
}

/** Every address of the pool is held, free, or in a part that has room. */
function checkPoolWhole(world: World, { uid, cidr, state }: AddressSpaceRecord['pools'][number]): void {
  const { rig, machines, layout } = world
  const slots = rig.under<SlotRecord>(`slots/${uid}/`)
  const whole = Number(sizeOf(parseCidr(cidr)))
  const slotSize = 2 ** (32 - (cidr === layout.pool ? layout.slots : layout.secondSlots))
  const free = slots
    .flatMap(([, slot]) => slot.parts)
    .filter(part => part.owner === null)
    .reduce((sum, part) => sum + Number(sizeOf(parseCidr(part.cidr))), 0)
  const own = machines.flatMap(({ ipam }) => ipam?.ownParts() ?? []).filter(part => part.poolUid === uid)
  if (state === 'open')
    assert.ok(
      own.every(part => part.usable),
      `every part of ${cidr} is usable again`,
    )
  const room = own.reduce((sum, part) => sum + part.free, 0)
  const living = machines
    .flatMap(machine => [...machine.attachments.values()].flatMap(({ addresses }) => addresses))
    .filter(({ poolUid }) => poolUid === uid)
  const untouched = whole / slotSize - slots.length
  assert.is(free + room + living.length + untouched * slotSize, whole, `no address of ${cidr} is lost`)
}

function checkNoRequests({ rig }: World): void {
  for (const [key, { requests }] of rig.under<SlotRecord>('slots/')) assert.equal(requests, [], key)
}

/** Rule 11: who was removed and has no part any more is forgotten. */
function checkLiveness({ rig }: World): void {
  const owners = new Set(
    rig.under<SlotRecord>('slots/').flatMap(([, { parts }]) => parts.map(({ owner }) => owner)),
  )
  for (const [key, { uid, removed }] of rig.under<LivenessRecord>('liveness/'))
    assert.ok(removed === null || owners.has(uid), `${key} is left of a node without parts`)
}

/** While store and owners answer, no address is refused while one is free anywhere, and none goes out twice. */
export async function checkEveryAddressGoesOut({
  rig,
  machines,
  layout,
  size,
  limitOf,
}: World): Promise<void> {
  const cidr = parseCidr(layout.pool)
  const held = () =>
    machines
      .flatMap(machine => [...machine.attachments.values()])
      .filter(({ addresses }) => addresses.some(({ address }) => contains(cidr, parseIp(address)))).length
  const takers = machines.filter(({ name, ipam }) => ipam !== null && limitOf(name) > size)
  for (let i = 0; held() < size; i++) {
    const machine = takers[i % takers.length] as Machine
    let answer: unknown = null
    machine.add(`${machine.name}-last${i}`, [4], ['default']).then(
      () => {
        answer = 'granted'
      },
      error => {
        answer = error
      },
    )
    for (let waited = 0; answer === null && waited < 2000; waited += 50) await rig.clock.advance(50)
    assert.is(answer, 'granted', `${machine.name} needs an address, ${held()} of ${size} are held: ${answer}`)
  }
}
