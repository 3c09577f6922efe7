/** Makes a step of a history happen. What it begins may go on while later steps happen. */
import type { LivenessRecord } from '../../../../datastore/records/liveness.ts'
import { leaveCluster } from '../../../../ipam/leave.ts'
import { deletePool } from '../../../../ipam/pool-removal.ts'
import { createPool, updatePool } from '../../../../ipam/pools.ts'
import { fenceAll, forgetNode, withdrawName } from '../../../../ipam/removal.ts'
import { addressAt, formatIp, parseCidr } from '../../../../lib/address.ts'
import { settle } from '../../../fixtures/manual-clock.ts'
import { pool } from '../rig.ts'
import type { Machine } from './machine.ts'
import type { Step } from './steps.ts'
import type { World } from './world.ts'

const MINUTE = 60_000

export async function play(world: World, step: Step): Promise<void> {
  if (!('node' in step)) return playAll(world, step)
  const at = (index: number) => world.machines[index % world.machines.length] as Machine
  const machine = at(step.node)
  if (machine.isGone) return
  if (step.t === 'resume') return machine.resume()
  if (step.t === 'replace') return replace(world, machine, step.old)
  if (step.t === 'remove') return void remove(world, machine)
  // On a machine that stands still nothing else happens; but its power may fail.
  if (machine.clock.isPaused && step.t !== 'reboot') return
  if (step.t === 'oust') return oust(world, machine, at(step.heir))
  if (step.t === 'haunt') return haunt(world, machine, at(step.heir))
  if (step.t === 'hoard') return hoard(world, machine, at(step.heir))
  if (step.t === 'add') add(machine, `${machine.name}-${step.pod}`)
  else if (step.t === 'leave') for (const id of [...machine.attachments.keys()]) machine.del(id)
  else if (step.t === 'burst') addMany(machine, 'b', Math.ceil(world.size / 3))
  else if (step.t === 'del') del(machine, `${machine.name}-${step.pod}`)
  else if (step.t === 'kill') machine.kill()
  else if (step.t === 'halt') halt(machine)
  else if (step.t === 'clock') setClock(machine, step.ms)
  else if (step.t === 'slow') machine.setDelay(step.ms)
  else if (step.t === 'ask') ask(world, machine, step.wanted)
  else if (step.t === 'retire') return retire(world, machine)
  else if (step.t === 'reboot') machine.reboot()
  else if (step.t === 'start') machine.launch()
  else if (step.t === 'cut') machine.setUnavailable(step.cut)
  else if (step.t === 'lag') machine.watches.lagging = step.lagging
  else if (step.t === 'disk') machine.journalFails = step.full
  else if (step.t === 'doubt') doubt(world, machine, step)
  else if (step.t === 'forget') forget(machine)
  else if (step.t === 'clone') clone(world, machine, step.renamed)
}

type OfAll = Exclude<Step, { readonly node: number }>

async function playAll(world: World, step: OfAll): Promise<void> {
  if (step.t === 'time') return world.rig.clock.advance(step.ms)
  if (step.t === 'pool') return changePool(world, step.change)
  if (step.t === 'land') for (const machine of world.machines) machine.landLate()
  if (step.t === 'backup') world.backup()
  if (step.t === 'restore') world.restore()
}

function doubt(world: World, { store }: Machine, { doubt, slot }: Extract<Step, { t: 'doubt' }>): void {
  const key = slot === null ? null : world.slotKey(slot)
  store.doubtNext(doubt, key)
  if (key !== null) store.doubtNext('lost', key)
}

/** A clock set back hides how long a machine stood still: no daemon can see both. So a machine has one or the other. */
function halt(machine: Machine): void {
  if (!machine.wasSetBack) machine.pause()
}

function setClock(machine: Machine, ms: number): void {
  if (ms > 0 || !machine.wasPaused) machine.jumpRealtime(ms)
}

function ask({ layout, size }: World, { ipam }: Machine, wanted: number): void {
  ipam?.requestAddress(formatIp(addressAt(parseCidr(layout.pool), wanted % size))).catch(() => {})
}

/** A clean leave, with the daemon stopped; what stops it halfway leaves a removed node behind. */
async function retire({ rig }: World, machine: Machine): Promise<void> {
  const { name, hardware, journaledUid: uid } = machine
  machine.kill()
  if (uid === null) return
  machine.uid = uid
  const modules = { store: machine.store, random: rig.random, ipam: machine.start() }
  leaveCluster({ uid, name, hardware }, modules).catch(() => {})
  await rig.clock.advance(100)
  machine.kill()
}

/** As the operator does; what is refused, or not finished, may be tried again. */
async function changePool({ rig, layout }: World, change: 'create' | 'disable' | 'delete' | 'drain') {
  const document = pool('second', layout.second, layout.secondSlots)
  const work = {
    create: () => createPool(document, rig.modules).catch(() => updatePool(document, rig.modules)),
    disable: () => updatePool({ ...document, spec: { ...document.spec, disabled: true } }, rig.modules),
    delete: () => deletePool('second', { drain: false, waitMs: 0 }, rig.modules),
    drain: () => deletePool('second', { drain: true, waitMs: 0 }, rig.modules),
  }
  work[change]().catch(() => {})
  await settle()
}

/** A refusal is an answer too. */
export function add(machine: Machine, id: string): void {
  if (machine.ipam !== null && !machine.attachments.has(id) && !machine.adding.has(id))
    machine.add(id).catch(() => {})
}

function addMany(machine: Machine, series: string, count: number): void {
  for (let i = 0; i < count; i++) add(machine, `${machine.name}-${series}${i}`)
}

/** As in the daemon, DEL waits for an ADD of the same pod. */
function del(machine: Machine, id: string): void {
  if (machine.attachments.has(id)) machine.del(id)
}

/** One takes whatever there is, most of its pods end, and another one is in need at once. */
function hoard({ size }: World, machine: Machine, heir: Machine): void {
  addMany(machine, 'f', size - 2)
  queueMicrotask(() => {
    for (let i = 0; i < size; i += 1 + (i % 3)) del(machine, `${machine.name}-f${i}`)
    addMany(heir, 'g', 5)
  })
}

function forget(machine: Machine): void {
  machine.loseJournal()
  machine.launch()
}

/** As the operator's removal does: all that bear the name. Refused while the heart of one of them beats. */
async function remove({ rig, machines }: World, { name }: Machine): Promise<void> {
  if (machines.some(machine => machine.name === name && machine.moves)) return
  const found = rig.under<LivenessRecord>('liveness/').filter(([, record]) => record.name === name)
  for (const [key, record] of found) {
    const removed = { fence: rig.random.hex(4), by: 'operator', endsWith: 'return' as const }
    const marked = { ...record, removed: record.removed ?? removed }
    rig.put(key, marked)
    if ((await fenceAll(marked, rig.operator)) === 0) await forgetNode(marked.uid, rig.operator)
  }
  await withdrawName(name, new Set(found.map(([, { uid }]) => uid)), rig.operator)
}

async function oust(world: World, machine: Machine, heir: Machine): Promise<void> {
  addMany(machine, 'o', 5)
  await settle()
  machine.setUnavailable(true)
  void remove(world, machine)
  await world.rig.clock.advance(7 * MINUTE)
  addMany(heir, 'h', world.size / 2)
}

async function haunt(world: World, machine: Machine, heir: Machine): Promise<void> {
  addMany(machine, 'o', 5)
  await settle()
  halt(machine)
  if (!machine.clock.isPaused) return
  void remove(world, machine)
  await world.rig.clock.advance(15 * MINUTE)
  if (!heir.clock.isPaused) addMany(heir, 'h', world.size / 2)
  await settle()
  // What its first request finds comes a little later than its next pod.
  machine.setDelay(2500)
  machine.resume()
}

/** The name of a machine that has gone, as far as anybody can tell. */
function replace(world: World, machine: Machine, old: 'dies' | 'stands still' | 'is cut off'): void {
  const other = world.add(machine.name)
  if (other === null) return
  if (old === 'dies') machine.discard()
  else if (old === 'stands still') halt(machine)
  else machine.setUnavailable(true)
  other.launch()
}

function clone(world: World, machine: Machine, renamed: boolean): void {
  const other = world.add(renamed ? `${machine.name}-copy` : machine.name)
  if (other === null) return
  other.copyFrom(machine)
  other.launch()
}
