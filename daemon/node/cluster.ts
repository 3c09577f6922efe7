/** The cluster's facts as this node knows them: pools, nodes and slots, followed by watches. */

import { PREFIX } from '../../datastore/keys.ts'
import { Mirror } from '../../datastore/mirror.ts'
import { recordParser } from '../../datastore/record.ts'
import { type NodeRecord, nodeRecord } from '../../datastore/records/node.ts'
import { type SlotRecord, slotRecord } from '../../datastore/records/slot.ts'
import type { IPPool } from '../../datastore/resources/ippool.ts'
import type { Store } from '../../datastore/store.ts'
import { parsePool } from '../../ipam/pools.ts'
import type { Log } from '../../lib/log.ts'

export interface ClusterModules {
  readonly store: Store
  readonly log: Log
  /** Something changed that the desired state is made of. */
  readonly changed: () => void
  /** What this node knows of its own pods is whole: nothing counts as complete before. */
  readonly remembered: Promise<void>
}

export class Cluster {
  readonly #pools: Mirror<IPPool>
  readonly #nodes: Mirror<NodeRecord>
  readonly #slots: Mirror<SlotRecord>
  #complete = false

  constructor(modules: ClusterModules) {
    const onChange = () => modules.changed()
    this.#pools = new Mirror({ prefix: `${PREFIX.resources}ippools/`, parse: parsePool, onChange }, modules)
    this.#nodes = new Mirror({ prefix: PREFIX.nodes, parse: recordParser(nodeRecord), onChange }, modules)
    this.#slots = new Mirror({ prefix: PREFIX.slots, parse: recordParser(slotRecord), onChange }, modules)
    Promise.all([this.synced(), modules.remembered]).then(() => {
      this.#complete = true
      modules.changed()
    })
  }

  /** Resolves when each was listed once. */
  async synced(): Promise<void> {
    await Promise.all([this.#pools.synced(), this.#nodes.synced(), this.#slots.synced()])
  }

  get complete(): boolean {
    return this.#complete
  }

  pools(): IPPool[] {
    return valuesOf(this.#pools)
  }

  nodes(): NodeRecord[] {
    return valuesOf(this.#nodes)
  }

  slots(): ReadonlyMap<string, SlotRecord> {
    return new Map([...this.#slots.entries].map(([key, entry]) => [key, entry.value]))
  }

  /** Records that could not be read, each a sentence. */
  damaged(): string[] {
    return [this.#pools, this.#nodes, this.#slots].flatMap(mirror =>
      [...mirror.aside.values()].map(({ key, reason }) => `${key}: ${reason}`),
    )
  }

  async close(): Promise<void> {
    await Promise.all([this.#pools.close(), this.#nodes.close(), this.#slots.close()])
  }
}

const valuesOf = <T>(mirror: Mirror<T>): T[] => [...mirror.entries.values()].map(entry => entry.value)
