/**
 * One history: things happen, all becomes well again, and nothing may be lost. And many of them, of a fixed seed, so that
 * nobody's change fails by the luck of the draw; `npm run model` draws others. TWILL_MODEL_SEED and
 * TWILL_MODEL_PATH, which a failure prints, repeat it; TWILL_MODEL_RUNS widens.
 */
import * as fc from 'fast-check'
import { ADDRESS_SPACE_KEY, nodeKey } from '../../../../datastore/keys.ts'
import type { AddressSpaceRecord } from '../../../../datastore/records/address-space.ts'
import type { LivenessRecord } from '../../../../datastore/records/liveness.ts'
import type { NodeRecord } from '../../../../datastore/records/node.ts'
import type { SlotRecord } from '../../../../datastore/records/slot.ts'
import { settle } from '../../../fixtures/manual-clock.ts'
import { checkAlways, checkEveryAddressGoesOut, checkRecovered } from './invariants.ts'
import { type Machine, SILENCE_MS } from './machine.ts'
import { play } from './play.ts'
import type { Step } from './steps.ts'
import { FENCES_OVER_MS, type Layout, World } from './world.ts'

const MINUTE = 60_000
/** To see that a machine is silent, then for the longest term and a fence, each seen late. */
const RECOVERED_MS = SILENCE_MS + 2 * FENCES_OVER_MS

export async function history(layout: Layout, seed: number, steps: readonly Step[]): Promise<void> {
  Error.stackTraceLimit = 0
  const world = new World(layout, seed)
  await world.begin()
  for (const step of steps) {
    await play(world, step)
    await settle()
    checkAlways(world)
  }
  await recover(world)
  checkRecovered(world)
  await checkEveryAddressGoesOut(world)
  checkAlways(world)
  world.end()
}

/** Everything works again, long enough for all terms and fences to be over. Of machines with one name, one stays. */
async function recover(world: World): Promise<void> {
  const { machines, rig } = world
  for (const machine of machines) {
    machine.resume()
    machine.setDelay(0)
    // A fresh life has no doubts waiting to happen.
    machine.kill()
    machine.landLate()
    machine.journalFails = false
    machine.setUnavailable(false)
  }
  const names = [...new Set(machines.map(({ name }) => name))]
  const staying = names.flatMap(name => ofName(world, name) ?? [])
  for (const machine of machines) if (!staying.includes(machine)) machine.discard()
  for (const machine of staying) machine.launch()
  await rig.clock.advance(MINUTE / 2)
  for (let waitedMs = 0; waitedMs < RECOVERED_MS && !isWell(world); waitedMs += 2 * MINUTE)
    await rig.clock.advance(2 * MINUTE)
}

/** Nothing is under way any more; whether all is as it should be is for the invariants to say. */
function isWell({ machines, rig }: World): boolean {
  const up = machines.filter(machine => !machine.isGone)
  const uids = new Set(up.map(({ uid }) => uid))
  const isSettled = ({ requests, parts }: SlotRecord) =>
    requests.length === 0 &&
    parts.every(({ owner, fence }) => fence === null && (owner === null || uids.has(owner)))
  return (
    up.every(({ ipam }) => ipam?.ownParts().every(part => part.usable)) &&
    rig.under<SlotRecord>('slots/').every(([, slot]) => isSettled(slot)) &&
    (rig.read<AddressSpaceRecord>(ADDRESS_SPACE_KEY)?.restored ?? null) === null &&
    rig.under<LivenessRecord>('liveness/').every(([, { removed }]) => removed === null)
  )
}

/** Who bears the name, if that one is left, or else whoever there is. */
function ofName({ machines, rig }: World, name: string): Machine | undefined {
  const left = machines.filter(machine => machine.name === name && !machine.isGone)
  const record = rig.read<NodeRecord>(nodeKey(name))
  return left.find(({ journaledUid }) => journaledUid === record?.uid) ?? left[0]
}

export interface Histories {
  readonly layout: Layout
  readonly step: fc.Arbitrary<Step>
  readonly runs: number
  readonly steps: { readonly minLength: number; readonly maxLength: number }
}

const { TWILL_MODEL_SEED, TWILL_MODEL_PATH, TWILL_MODEL_RUNS, TWILL_MODEL_SHRINK } = process.env

/** @throws with seed and path of the shortest history that fails */
export async function playMany({ layout, step, runs, steps }: Histories): Promise<void> {
  const seed = Number(TWILL_MODEL_SEED ?? 1)
  const numRuns = Number(TWILL_MODEL_RUNS ?? runs)
  console.log(`${numRuns} histories of ${layout.nodes.length} nodes, seed ${seed}`)
  const anySteps = fc.array(step, { ...steps, size: 'max' })
  await fc.assert(
    fc.asyncProperty(fc.nat(), anySteps, (chance, happening) => history(layout, chance, happening)),
    {
      endOnFailure: TWILL_MODEL_SHRINK === 'no',
      includeErrorInReport: true,
      numRuns,
      seed,
      ...(TWILL_MODEL_PATH === undefined ? {} : { path: TWILL_MODEL_PATH }),
    },
  )
}
