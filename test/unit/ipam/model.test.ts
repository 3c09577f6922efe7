/**
 * Random histories of a cluster: pods come and go, nodes fill the pool and ask each other for what is left, daemons
 * are killed and started, machines reboot, are cut off and removed by name, commits are lost, land, or land late.
 * After every step the invariants of ADDRESSES.md; at the end, when all is well again, nothing may be lost, and every
 * address that is free anywhere goes out to whoever needs it.
 *
 * The seed is fixed, so that nobody's change fails by the luck of the draw; TWILL_MODEL_SEED draws others, and what
 * fails there is written down below by name. TWILL_MODEL_PATH repeats a failure, TWILL_MODEL_RUNS widens.
 */
import * as fc from 'fast-check'
import { test } from 'uvu'
import * as assert from 'uvu/assert'
import { ADDRESS_SPACE_KEY } from '../../../datastore/keys.ts'
import type { AddressSpaceRecord } from '../../../datastore/records/address-space.ts'
import type { LedgerRecord } from '../../../datastore/records/ledger.ts'
import type { SlotRecord } from '../../../datastore/records/slot.ts'
import type { IpamOptions } from '../../../ipam/node-ipam.ts'
import { deletePool } from '../../../ipam/pool-removal.ts'
import { createPool, updatePool } from '../../../ipam/pools.ts'
import { checkSlot, parseSlotKey } from '../../../ipam/slot.ts'
import { addressAt, contains, formatIp, parseCidr, parseIp, sizeOf } from '../../../lib/address.ts'
import { settle } from '../../fixtures/manual-clock.ts'
import { pool, Rig, type RigNode } from './rig.ts'

const MINUTE = 60_000
const POOL = '10.0.0.0/27'
/** Comes and goes. */
const SECOND_POOL = '10.0.1.0/29'
const OPTIONS = {
  offlineAllowanceMs: 10 * MINUTE,
  marginMs: MINUTE,
  sweepEveryMs: 2 * MINUTE,
  confirmEveryMs: 3 * MINUTE,
  retryMs: 20_000,
  lowWater: 2,
  lingerMs: 200,
}

const CIDRS = [POOL, SECOND_POOL].map(parseCidr)
/** By name of the node. */
const LIMITS: Record<string, Partial<IpamOptions>> = { d: { nodeLimit: { parts: null, addresses: 12 } } }

const node = fc.nat(3)
const pod = fc.nat(14)
const step = fc.oneof(
  { weight: 12, arbitrary: fc.record({ t: fc.constant('add' as const), node, pod }) },
  { weight: 6, arbitrary: fc.record({ t: fc.constant('del' as const), node, pod }) },
  { weight: 3, arbitrary: fc.record({ t: fc.constant('burst' as const), node }) },
  { weight: 3, arbitrary: fc.record({ t: fc.constant('hoard' as const), node, heir: node }) },
  { weight: 2, arbitrary: fc.record({ t: fc.constant('leave' as const), node }) },
  { weight: 4, arbitrary: fc.record({ t: fc.constant('kill' as const), node }) },
  { weight: 5, arbitrary: fc.record({ t: fc.constant('start' as const), node }) },
  { weight: 2, arbitrary: fc.record({ t: fc.constant('reboot' as const), node }) },
  { weight: 3, arbitrary: fc.record({ t: fc.constant('cut' as const), node, cut: fc.boolean() }) },
  { weight: 2, arbitrary: fc.record({ t: fc.constant('remove' as const), node }) },
  // What chance alone would rarely bring together: removed while it lives on, and another in need of addresses.
  { weight: 3, arbitrary: fc.record({ t: fc.constant('oust' as const), node, heir: node }) },
  // Removed while its machine stands still, its addresses go to another, and then it goes on as if nothing had been.
  { weight: 2, arbitrary: fc.record({ t: fc.constant('haunt' as const), node, heir: node }) },
  { weight: 2, arbitrary: fc.record({ t: fc.constant('disk' as const), node, full: fc.boolean() }) },
  {
    weight: 2,
    arbitrary: fc.record({
      t: fc.constant('clock' as const),
      node,
      ms: fc.constantFrom(-3_600_000, 700_000, 7 * MINUTE),
    }),
  },
  // The machine stands still.
  { weight: 2, arbitrary: fc.record({ t: fc.constant('halt' as const), node }) },
  { weight: 2, arbitrary: fc.record({ t: fc.constant('resume' as const), node }) },
  {
    weight: 2,
    arbitrary: fc.record({ t: fc.constant('slow' as const), node, ms: fc.constantFrom(0, 40, 2500) }),
  },
  { weight: 3, arbitrary: fc.record({ t: fc.constant('ask' as const), node, wanted: fc.nat(31) }) },
  { weight: 1, arbitrary: fc.record({ t: fc.constant('retire' as const), node }) },
  {
    weight: 4,
    arbitrary: fc.record({
      t: fc.constant('pool' as const),
      change: fc.constantFrom(
        'create' as const,
        'create' as const,
        'disable' as const,
        'delete' as const,
        'drain' as const,
      ),
    }),
  },
  {
    weight: 5,
    arbitrary: fc.record({
      t: fc.constant('doubt' as const),
      node,
      doubt: fc.constantFrom('landed' as const, 'lost' as const, 'late' as const),
    }),
  },
  { weight: 3, arbitrary: fc.record({ t: fc.constant('land' as const) }) },
  {
    weight: 8,
    arbitrary: fc.record({
      t: fc.constant('time' as const),
      ms: fc.constantFrom(300, 5_000, 45_000, 4 * MINUTE, 13 * MINUTE),
    }),
  },
)

type Step = typeof step extends fc.Arbitrary<infer T> ? T : never

async function play(rig: Rig, step: Step): Promise<void> {
  if (step.t === 'time') return rig.clock.advance(step.ms)
  if (step.t === 'pool') return changePool(rig, step.change)
  if (step.t === 'land')
    return rig.nodes.forEach(node => {
      node.landLate()
    })
  const node = rig.nodes[step.node] as RigNode
  if (step.t === 'resume') return node.resume()
  // On a machine that stands still nothing else happens; but its power may fail.
  if (node.clock.isPaused && step.t !== 'reboot') return
  if (step.t === 'oust') return oust(rig, node, rig.nodes[step.heir] as RigNode)
  if (step.t === 'haunt') return haunt(rig, node, rig.nodes[step.heir] as RigNode)
  if (step.t === 'add') add(node, `${node.name}-${step.pod}`)
  else if (step.t === 'hoard') hoard(node, rig.nodes[step.heir] as RigNode)
  else if (step.t === 'leave') for (const id of [...node.attachments.keys()]) node.del(id)
  else if (step.t === 'burst') for (let i = 0; i < 12; i++) add(node, `${node.name}-b${i}`)
  else if (step.t === 'del') del(node, `${node.name}-${step.pod}`)
  else if (step.t === 'kill') node.kill()
  else if (step.t === 'halt') halt(node)
  else if (step.t === 'clock') setClock(node, step.ms)
  else if (step.t === 'slow') node.setDelay(step.ms)
  else if (step.t === 'ask') ask(node, step.wanted)
  else if (step.t === 'retire') return retire(rig, node)
  else if (step.t === 'reboot') node.reboot()
  else if (step.t === 'start') begin(rig, node)
  else if (step.t === 'cut') node.setUnavailable(step.cut)
  else if (step.t === 'disk') node.journalFails = step.full
  else if (step.t === 'doubt') node.store.doubtNext(step.doubt)
  else remove(rig, node)
}

/** A clock set back hides how long a machine stood still: no daemon can see both. So a machine has one or the other. */
function halt(node: RigNode): void {
  if (!node.wasSetBack) node.pause()
}

function setClock(node: RigNode, ms: number): void {
  if (ms > 0 || !node.wasPaused) node.jumpRealtime(ms)
}

function ask({ ipam }: RigNode, wanted: number): void {
  ipam?.requestAddress(formatIp(addressAt(parseCidr(POOL), wanted))).catch(() => {})
}

/** A clean leave, and the removal by name of whatever could not be given back. */
async function retire(rig: Rig, node: RigNode): Promise<void> {
  node.ipam?.leave().catch(() => {})
  await rig.clock.advance(100)
  node.kill()
  remove(rig, node)
}

/** As the operator does; what is refused, or not finished, may be tried again. */
async function changePool(rig: Rig, change: 'create' | 'disable' | 'delete' | 'drain'): Promise<void> {
  const document = pool('second', SECOND_POOL, 31)
  const work = {
    create: () => createPool(document, rig.modules).catch(() => updatePool(document, rig.modules)),
    disable: () => updatePool({ ...document, spec: { ...document.spec, disabled: true } }, rig.modules),
    delete: () => deletePool('second', { drain: false, waitMs: 0 }, rig.modules),
    drain: () => deletePool('second', { drain: true, waitMs: 0 }, rig.modules),
  }
  work[change]().catch(() => {})
  await settle()
}

/** One takes whatever there is, most of its pods end, and another one is in need at once. */
function hoard(node: RigNode, heir: RigNode): void {
  for (let i = 0; i < 30; i++) add(node, `${node.name}-f${i}`)
  queueMicrotask(() => {
    for (let i = 0; i < 30; i += 1 + (i % 3)) del(node, `${node.name}-f${i}`)
    for (let i = 0; i < 5; i++) add(heir, `${heir.name}-g${i}`)
  })
}

/** A refusal is an answer too. */
function add(node: RigNode, id: string): void {
  if (node.ipam !== null && !node.attachments.has(id) && !node.adding.has(id)) node.add(id).catch(() => {})
}

/** As in the daemon, DEL waits for an ADD of the same pod. */
function del(node: RigNode, id: string): void {
  if (node.attachments.has(id)) node.del(id)
}

/** The daemon registers its name again when it starts, and its heart takes away the mark of a removal. */
function begin(rig: Rig, node: RigNode): void {
  if (node.ipam !== null) return
  rig.register(node)
  if (!node.isCutOff) rig.beat(node)
  node.start()
}

/** As the operator's removal does; refused while the daemon lives and reaches the store. */
function remove(rig: Rig, node: RigNode): void {
  if (node.ipam !== null && !node.isCutOff && !node.clock.isPaused) return
  const key = `liveness/${node.uid}`
  const record = rig.read<object>(key)
  if (record !== null)
    rig.put(key, { ...record, removed: { fence: rig.random.hex(4), by: 'operator', endsWith: 'return' } })
  rig.put(`nodes/${node.name}`, null)
}

async function oust(rig: Rig, node: RigNode, heir: RigNode): Promise<void> {
  for (let i = 0; i < 5; i++) add(node, `${node.name}-o${i}`)
  await settle()
  node.setUnavailable(true)
  remove(rig, node)
  await rig.clock.advance(7 * MINUTE)
  for (let i = 0; i < 14; i++) add(heir, `${heir.name}-h${i}`)
}

async function haunt(rig: Rig, node: RigNode, heir: RigNode): Promise<void> {
  for (let i = 0; i < 5; i++) add(node, `${node.name}-o${i}`)
  await settle()
  halt(node)
  if (!node.clock.isPaused) return
  remove(rig, node)
  await rig.clock.advance(16 * MINUTE)
  if (!heir.clock.isPaused) for (let i = 0; i < 14; i++) add(heir, `${heir.name}-h${i}`)
  await settle()
  // What its first request finds comes a little later than its next pod.
  node.setDelay(2500)
  node.resume()
}

function checkAlways(rig: Rig): void {
  for (const [key, slot] of rig.under<SlotRecord>('slots/'))
    checkSlot(slot, parseSlotKey(key)?.slot ?? parseCidr(POOL))
  const believers = new Map<string, string>()
  for (const node of rig.nodes) {
    if (node.clock.isPaused) continue
    const own = new Set<string>()
    for (const { holder, addresses } of node.attachments.values())
      for (const { address, generation, poolUid } of addresses) {
        const inPool = CIDRS.some(cidr => contains(cidr, parseIp(address)))
        assert.ok(inPool, `${address} is outside its pool`)
        assert.not(own.has(address), `${address} twice on ${node.name}`)
        own.add(address)
        const parts = node.ipam?.ownParts() ?? []
        const believed = parts.some(
          part =>
            part.usable &&
            part.poolUid === poolUid &&
            part.generation === generation &&
            contains(parseCidr(part.cidr), parseIp(address)),
        )
        if (!believed) continue
        assert.not(believers.has(address), `${address}: ${holder.id} and ${believers.get(address)}`)
        believers.set(address, holder.id)
      }
  }
}

/** A gift may be larger than the limit for as long as it takes to cut it down. */
function checkLimits(rig: Rig): void {
  for (const { name, ipam } of rig.nodes) {
    const limit = LIMITS[name]?.nodeLimit?.addresses ?? Number.POSITIVE_INFINITY
    const parts = ipam?.ownParts() ?? []
    const size = parts.reduce((sum, part) => sum + part.free + part.held, 0)
    assert.ok(size <= limit || parts.every(part => part.free === 0), `${name} owns ${size} addresses`)
  }
}

/** Everything works again, long enough for all terms and fences to be over. */
async function recover(rig: Rig): Promise<void> {
  for (const node of rig.nodes) {
    node.resume()
    node.setDelay(0)
    // A fresh life has no doubts waiting to happen.
    node.kill()
    node.landLate()
    node.journalFails = false
    node.setUnavailable(false)
    begin(rig, node)
  }
  await rig.clock.advance(20 * MINUTE)
}

function checkNothingLost(rig: Rig): void {
  // What a node lost while it was away, its pods lose too: the daemon cuts them off (rule 15).
  for (const node of rig.nodes)
    for (const lost of node.lost) for (const id of lost.holders) dropIfLost(node, id)
  const entries = rig
    .under<LedgerRecord>('ledgers/')
    .flatMap(([, { owner, generations }]) =>
      Object.values(generations).flatMap(held =>
        Object.entries(held).map(([ip, { holder }]) => `${owner} ${ip} ${holder}`),
      ),
    )
  const living = rig.nodes.flatMap(node =>
    [...node.attachments.values()].flatMap(({ holder, addresses }) =>
      addresses.map(({ address }) => `${node.uid} ${address} ${holder.id}`),
    ),
  )
  assert.equal(entries.sort(), living.sort(), 'ledgers and living pods')
  const space = rig.read<AddressSpaceRecord>(ADDRESS_SPACE_KEY)
  for (const known of space?.pools ?? []) checkPoolWhole(rig, known)
  const pools = new Set(space?.pools.map(({ uid }) => uid))
  for (const node of rig.nodes)
    for (const { addresses } of node.attachments.values())
      assert.ok(
        addresses.every(({ poolUid }) => pools.has(poolUid)),
        'a pod has an address of a pool that has gone',
      )
}

/** Every address of the pool is held, free, or in a part that has room. */
function checkPoolWhole(rig: Rig, { uid, cidr, state }: AddressSpaceRecord['pools'][number]): void {
  const slots = rig.under<SlotRecord>(`slots/${uid}/`)
  const whole = Number(sizeOf(parseCidr(cidr)))
  const slotSize = cidr === POOL ? 8 : 2
  const free = slots
    .flatMap(([, slot]) => slot.parts)
    .filter(part => part.owner === null)
    .reduce((sum, part) => sum + Number(sizeOf(parseCidr(part.cidr))), 0)
  const own = rig.nodes.flatMap(node => node.ipam?.ownParts() ?? []).filter(part => part.poolUid === uid)
  if (state === 'open')
    assert.ok(
      own.every(part => part.usable),
      `every part of ${cidr} is usable again`,
    )
  const room = own.reduce((sum, part) => sum + part.free, 0)
  const living = rig.nodes
    .flatMap(node => [...node.attachments.values()].flatMap(({ addresses }) => addresses))
    .filter(({ poolUid }) => poolUid === uid)
  const untouched = whole / slotSize - slots.length
  assert.is(free + room + living.length + untouched * slotSize, whole, `no address of ${cidr} is lost`)
}

/** While store and owners answer, no address is refused while one is free anywhere, and none goes out twice. */
async function checkEveryAddressGoesOut(rig: Rig): Promise<void> {
  const inPool = ({ address }: { address: string }) => contains(parseCidr(POOL), parseIp(address))
  const held = () =>
    rig.nodes
      .flatMap(node => [...node.attachments.values()])
      .filter(({ addresses }) => addresses.some(inPool)).length
  for (let i = 0; held() < 32; i++) {
    // The last node has a limit of its own.
    const node = rig.nodes[i % (rig.nodes.length - 1)] as RigNode
    let answer: unknown = null
    node.add(`${node.name}-last${i}`, [4], ['default']).then(
      () => {
        answer = 'granted'
      },
      error => {
        answer = error
      },
    )
    for (let waited = 0; answer === null && waited < 2000; waited += 50) await rig.clock.advance(50)
    assert.is(answer, 'granted', `${node.name} needs an address, ${held()} of 32 are held: ${answer}`)
  }
}

function checkNoRequests(rig: Rig): void {
  for (const [key, { requests }] of rig.under<SlotRecord>('slots/')) assert.equal(requests, [], key)
}

function dropIfLost(node: RigNode, id: string): void {
  const { addresses } = node.attachments.get(id) ?? { addresses: [] }
  const parts = node.ipam?.ownParts() ?? []
  const held = addresses.every(({ address, generation, poolUid }) =>
    parts.some(
      part =>
        part.poolUid === poolUid &&
        part.generation === generation &&
        contains(parseCidr(part.cidr), parseIp(address)),
    ),
  )
  if (!held) node.del(id)
}

async function history(seed: number, steps: readonly Step[]): Promise<void> {
  Error.stackTraceLimit = 0
  const rig = new Rig(seed)
  await rig.createPool('default', POOL, 29)
  for (const name of ['a', 'b', 'c', 'd']) rig.node(name, { ...OPTIONS, ...LIMITS[name] }).start()
  await settle()
  for (const step of steps) {
    await play(rig, step)
    await settle()
    checkAlways(rig)
  }
  await recover(rig)
  checkAlways(rig)
  checkNothingLost(rig)
  checkNoRequests(rig)
  checkLimits(rig)
  await checkEveryAddressGoesOut(rig)
  checkAlways(rig)
  for (const node of rig.nodes) node.kill()
}

const fromEnvironment = (name: string) => process.env[name]

test('no address is held twice, none leaves its pool, none is lost', async () => {
  const seed = fromEnvironment('TWILL_MODEL_SEED')
  const path = fromEnvironment('TWILL_MODEL_PATH')
  await fc.assert(fc.asyncProperty(fc.nat(), fc.array(step, { minLength: 5, maxLength: 40 }), history), {
    endOnFailure: fromEnvironment('TWILL_MODEL_SHRINK') === 'no',
    includeErrorInReport: true,
    numRuns: Number(fromEnvironment('TWILL_MODEL_RUNS') ?? 25),
    seed: Number(seed ?? 1),
    ...(path === undefined ? {} : { path }),
  })
})

test('a node whose ledger names past holders reads it after a reboot', () =>
  history(0, [
    { t: 'time', ms: 26 * MINUTE },
    { t: 'add', node: 0, pod: 10 },
    { t: 'del', node: 0, pod: 10 },
    { t: 'oust', node: 1, heir: 0 },
    { t: 'reboot', node: 0 },
  ]))

test('a slot that was lost before its ledger was read can be asked for', () =>
  history(0, [
    { t: 'add', node: 1, pod: 0 },
    { t: 'burst', node: 0 },
    { t: 'add', node: 0, pod: 0 },
    { t: 'reboot', node: 0 },
    { t: 'haunt', node: 0, heir: 0 },
    { t: 'cut', node: 0, cut: false },
    { t: 'clock', node: 0, ms: -3_600_000 },
    { t: 'hoard', node: 0, heir: 0 },
    { t: 'pool', change: 'create' },
    { t: 'clock', node: 0, ms: -3_600_000 },
  ]))

test.run()
