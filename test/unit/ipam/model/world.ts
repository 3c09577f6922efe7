/**
 * The cluster in which a history of the model takes place: machines, an operator, two pools, one of which comes and goes.
 * Small enough that addresses run out, parts are cut into single addresses, and everybody needs what another one has.
 */
import type { MemorySnapshot } from '../../../../datastore/memory/cluster.ts'
import type { IpamOptions } from '../../../../ipam/node-ipam.ts'
import { parseCidr, sizeOf } from '../../../../lib/address.ts'
import { settle } from '../../../fixtures/manual-clock.ts'
import { Rig } from '../rig.ts'
import { Machine } from './machine.ts'
import { ModelCluster } from './protocol.ts'

const MINUTE = 60_000

export interface Layout {
  readonly nodes: readonly string[]
  readonly pool: string
  /** Prefix of its slots. */
  readonly slots: number
  /** Comes and goes. */
  readonly second: string
  readonly secondSlots: number
  /** By name of the node. */
  readonly options: Readonly<Record<string, Partial<IpamOptions>>>
}

const limited = (addresses: number) => ({ nodeLimit: { parts: null, addresses } })

/** Two nodes, two slots. */
export const TINY: Layout = {
  nodes: ['a', 'b'],
  pool: '10.0.0.0/29',
  slots: 30,
  second: '10.0.1.0/31',
  secondSlots: 32,
  options: { b: { offlineAllowanceMs: 5 * MINUTE } },
}

/** Three nodes, sixteen addresses: many of these in little time. */
export const SMALL: Layout = {
  nodes: ['a', 'b', 'c'],
  pool: '10.0.0.0/28',
  slots: 30,
  second: '10.0.1.0/30',
  secondSlots: 31,
  // Whoever frees a part must count with its owner's allowance, not with his own.
  options: { b: { offlineAllowanceMs: 5 * MINUTE }, c: limited(8) },
}

export const LARGE: Layout = {
  nodes: ['a', 'b', 'c', 'd'],
  pool: '10.0.0.0/27',
  slots: 29,
  second: '10.0.1.0/29',
  secondSlots: 31,
  options: { b: { offlineAllowanceMs: 5 * MINUTE }, d: limited(12) },
}

const OPTIONS: Partial<IpamOptions> = {
  offlineAllowanceMs: 10 * MINUTE,
  marginMs: MINUTE,
  sweepEveryMs: 2 * MINUTE,
  confirmEveryMs: 3 * MINUTE,
  retryMs: 20_000,
  lowWater: 2,
  lingerMs: 200,
}

/** Fenced by the longest allowance, seen late, freed late. */
export const FENCES_OVER_MS = 18 * MINUTE

/** As many machines as a history may come to have, the replaced ones and clones with the others. */
const MACHINES_MAX = 6

export class World {
  readonly layout: Layout
  readonly cluster = new ModelCluster()
  readonly rig: Rig
  readonly machines: Machine[] = []
  /** Addresses in the pool that stays. */
  readonly size: number

  #snapshot: MemorySnapshot | null = null

  constructor(layout: Layout, seed: number) {
    this.layout = layout
    this.rig = new Rig(seed, this.cluster)
    this.size = Number(sizeOf(parseCidr(layout.pool)))
    this.cluster.machines = this.machines
    this.cluster.nowMs = () => this.rig.clock.boottimeMs()
  }

  backup(): void {
    this.#snapshot = this.cluster.snapshot()
  }

  restore(): void {
    if (this.#snapshot !== null) this.cluster.restore(this.#snapshot)
  }

  async begin(): Promise<void> {
    const { pool, slots, nodes } = this.layout
    await this.rig.createPool('default', pool, slots)
    for (const name of nodes) this.add(name)?.launch()
    await settle()
  }

  /** Another machine, which nobody knows yet. null: there are enough. */
  add(name: string): Machine | null {
    if (this.machines.length >= MACHINES_MAX) return null
    const options = { ...OPTIONS, ...this.layout.options[name] }
    const hardware = `hardware-${this.machines.length}`
    const { clock, random } = this.rig
    const machine = new Machine(name, hardware, options, { cluster: this.cluster, clock, random })
    this.machines.push(machine)
    return machine
  }

  /** Key of one of the slots that there are, counted around. */
  slotKey(index: number): string | null {
    const keys = this.cluster.list('slots/').map(({ key }) => key)
    return keys[index % keys.length] ?? null
  }

  end(): void {
    for (const machine of this.machines) machine.kill()
  }

  readonly limitOf = (name: string): number =>
    this.layout.options[name]?.nodeLimit?.addresses ?? Number.POSITIVE_INFINITY
}
