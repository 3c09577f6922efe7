/**
 * The cluster's facts as this node knows them: pools, nodes and slots, followed by watches. Until the store has told
 * one of them since the start, a snapshot may stand in for it: pools may be told by another server than the rest.
 *
 * A pool has the range that was entered for it: what its document was changed to behind our back would cut off pods
 * that live outside of that.
 *
 * A pool over what this node lives by is left out: routes and rules of it would cut off the node, and whoever wants to delete
 * it. So is one that no daemon may enter.
 */

import { ADDRESS_SPACE_KEY, PREFIX } from '../../datastore/keys.ts'
import { Mirror } from '../../datastore/mirror.ts'
import type { AddressSpaceRecord } from '../../datastore/records/address-space.ts'
import type { NodeRecord } from '../../datastore/records/node.ts'
import type { SlotRecord } from '../../datastore/records/slot.ts'
import type { IPPool } from '../../datastore/resources/ippool.ts'
import type { Store } from '../../datastore/store.ts'
import { asEntered, hasEntry, parseSpace } from '../../ipam/address-space.ts'
import { coveredBy, underlaysOf, type Vital } from '../../ipam/covered.ts'
import { parsePool } from '../../ipam/pools.ts'
import type { Watched } from '../../ipam/watched.ts'
import type { Log } from '../../lib/log.ts'
import type { ClusterSnapshot, KnownCluster } from './snapshot.ts'

export interface Recalled {
  readonly what: readonly (keyof KnownCluster)[]
  readonly savedAt: number
}

export interface ClusterModules {
  readonly store: Store
  readonly log: Log
  /** Whoever made it closes it. */
  readonly watched: Watched
  /** Something changed that the desired state is made of. */
  readonly changed: () => void
  /** What this node lives by; the same array while that is the same. */
  readonly vitals: () => readonly Vital[]
  /** What this node knows of its own pods is whole: nothing counts as complete before. */
  readonly remembered: Promise<void>
}

interface SortedPools {
  readonly of: readonly IPPool[]
  readonly vitals: readonly Vital[]
  readonly used: readonly IPPool[]
  readonly covering: readonly IPPool[]
}

export class Cluster {
  readonly #pools: Mirror<IPPool>
  readonly #space: Mirror<AddressSpaceRecord>
  readonly #watched: Watched
  readonly #unsubscribe: readonly (() => void)[]
  readonly #modules: ClusterModules
  readonly #untold = new Set<keyof KnownCluster>(['pools', 'nodes', 'slots'])
  /** As last asked for; emptied by each change: whoever asks twice meanwhile is given the same. */
  #asked: { -readonly [K in keyof KnownCluster]?: KnownCluster[K] } = {}
  #lastSorted: SortedPools | null = null
  #isRemembered = false
  #snapshot: ClusterSnapshot | null = null

  constructor(modules: ClusterModules) {
    this.#modules = modules
    const onChange = () => {
      this.#asked = {}
      modules.changed()
    }
    this.#pools = new Mirror({ prefix: `${PREFIX.resources}ippools/`, parse: parsePool, onChange }, modules)
    this.#space = new Mirror({ prefix: ADDRESS_SPACE_KEY, parse: parseSpace, onChange }, modules)
    this.#watched = modules.watched
    this.#unsubscribe = [this.#watched.nodes.subscribe(onChange), this.#watched.slots.subscribe(onChange)]
    for (const what of this.#untold)
      syncedAll(this.#mirrorsOf(what)).then(() => {
        this.#untold.delete(what)
        modules.changed()
      })
    modules.remembered.then(() => {
      this.#isRemembered = true
      modules.changed()
    })
  }

  /** What an earlier daemon of this boot last knew, for as long as the store does not say it. */
  recall(snapshot: ClusterSnapshot): void {
    if (this.#isTold) return
    this.#snapshot = snapshot
    this.#modules.changed()
  }

  /** Resolves when each was listed once. */
  synced(): Promise<void> {
    return syncedAll(this.#mirrors())
  }

  get #isTold(): boolean {
    return this.#untold.size === 0
  }

  /** The store has said all of it since the start. */
  get complete(): boolean {
    return this.#isTold && this.#isRemembered
  }

  /** Enough for routes and rules, though it may be from a snapshot. */
  get known(): boolean {
    return this.#isRemembered && (this.#isTold || this.#snapshot !== null)
  }

  /** What is taken from a snapshot, and when that was saved, in epoch milliseconds; null: all is the store's own. */
  get recalled(): Recalled | null {
    if (this.#isTold || this.#snapshot === null) return null
    return { what: [...this.#untold], savedAt: this.#snapshot.savedAt }
  }

  /** As the store said it; null before it did. */
  get told(): KnownCluster | null {
    return this.#isTold ? this.#mirrored() : null
  }

  /** Those that routes and rules are made of. */
  pools(): readonly IPPool[] {
    return this.#sorted().used
  }

  /** Pools that cover what this node lives by. */
  covering(): readonly IPPool[] {
    return this.#sorted().covering
  }

  #sorted(): SortedPools {
    const [of, vitals] = [this.#factsOf('pools').pools, this.#modules.vitals()]
    const last = this.#lastSorted
    if (last?.of === of && last.vitals === vitals) return last
    const covering = of.filter(pool => coveredBy(pool, vitals) !== null)
    const used = covering.length === 0 ? of : of.filter(pool => !covering.includes(pool))
    this.#lastSorted = { of, vitals, used, covering }
    return this.#lastSorted
  }

  nodes(): readonly NodeRecord[] {
    return this.#factsOf('nodes').nodes
  }

  slots(): ReadonlyMap<string, SlotRecord> {
    return this.#factsOf('slots').slots
  }

  #factsOf(what: keyof KnownCluster): KnownCluster {
    return (this.#untold.has(what) ? this.#snapshot : null) ?? this.#mirrored()
  }

  #mirrored(): KnownCluster {
    const [pools, space, { nodes, slots }] = [this.#pools, this.#space, this.#watched]
    const asked = this.#asked
    return {
      get pools() {
        const entered = space.entries.get(ADDRESS_SPACE_KEY)?.value ?? null
        asked.pools ??= valuesOf(pools)
          .filter(pool => mayBeUsed(pool, entered, this.nodes))
          .map(pool => asEntered(pool, entered))
        return asked.pools
      },
      get nodes() {
        asked.nodes ??= valuesOf(nodes)
        return asked.nodes
      },
      get slots() {
        asked.slots ??= new Map([...slots.entries].map(([key, entry]) => [key, entry.value]))
        return asked.slots
      },
    }
  }

  /** Records that could not be read, each a sentence. */
  damaged(): string[] {
    return this.#mirrors().flatMap(mirror =>
      [...mirror.aside.values()].map(({ key, reason }) => `${key}: ${reason}`),
    )
  }

  async close(): Promise<void> {
    for (const unsubscribe of this.#unsubscribe) unsubscribe()
    await Promise.all([this.#pools.close(), this.#space.close()])
  }

  #mirrors() {
    return [this.#pools, this.#space, this.#watched.nodes, this.#watched.slots]
  }

  #mirrorsOf(what: keyof KnownCluster): Pick<Mirror<unknown>, 'synced'>[] {
    return what === 'pools' ? [this.#pools, this.#space] : [this.#watched[what]]
  }
}

/**
 * Nothing was handed out of one without uid. One that bears a uid and has no entry has perhaps lost it, and its pods live:
 * unless it never could have had one.
 */
function mayBeUsed(pool: IPPool, space: AddressSpaceRecord | null, nodes: readonly NodeRecord[]): boolean {
  if (space !== null && hasEntry(pool, space)) return true
  return pool.metadata.uid !== undefined && coveredBy(pool, underlaysOf(nodes)) === null
}

const syncedAll = async (mirrors: readonly Pick<Mirror<unknown>, 'synced'>[]): Promise<void> =>
  void (await Promise.all(mirrors.map(mirror => mirror.synced())))

const valuesOf = <T>(mirror: Mirror<T>): T[] => [...mirror.entries.values()].map(entry => entry.value)
