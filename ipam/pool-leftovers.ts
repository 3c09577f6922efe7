/**
 * What a pool that was removed leaves behind: free slots, and ledgers that count for nothing. Whoever removes a pool takes
 * them with it; this also looks for what a removal that was killed did not come to, and for what landed after it: a commit
 * that was in doubt, the settling of one.
 *
 * Invariant: nothing of a pool is deleted before its UID has left the address space, for ever, since no pool gets a UID
 * twice: a claim of it counts for nothing from then on, so that its counters may be forgotten. Ledgers go before slots,
 * which every daemon sees: as long as a ledger is left, so is a slot.
 */
import { PREFIX } from '../datastore/keys.ts'
import type { KeyValue, Store } from '../datastore/store.ts'
import type { Clock, Random } from '../lib/clock.ts'
import { messageOf } from '../lib/errors.ts'
import type { Log } from '../lib/log.ts'
import { Periodic } from '../lib/periodic.ts'
import { readSpace } from './address-space.ts'
import type { PoolView } from './pool-view.ts'
import { parseSlot, type SlotIndex } from './slot-index.ts'

/**
 * Deletes the slots and ledgers of a pool of which nobody owns anything. False: it is not over with this pool, or somebody
 * wrote meanwhile. A slot that cannot be read keeps all of it. @throws store.*
 */
export async function purgePool(store: Store, uid: string): Promise<boolean> {
  const space = await readSpace(store)
  // A store that was restored may have forgotten a pool whose owners are about to enter their parts again (rule 16).
  if (space.restored !== null || space.pools.some(pool => pool.uid === uid)) return false
  const slots = (await store.list(`${PREFIX.slots}${uid}/`)).entries
  if (!slots.every(isFree)) return false
  const ledgers = (await store.list(`${PREFIX.ledgers}${uid}/`)).entries
  return (await deleteAll(store, ledgers)) && (await deleteAll(store, slots))
}

/** False: one was written meanwhile. */
async function deleteAll(store: Store, entries: readonly KeyValue[]): Promise<boolean> {
  let all = true
  for (const { key, modRevision } of entries) {
    const { committed } = await store.commit({ key, expected: modRevision, value: null })
    all &&= committed
  }
  return all
}

function isFree({ key, value }: { readonly key: string; readonly value: string }): boolean {
  try {
    return parseSlot(value, key).parts.every(({ owner }) => owner === null)
  } catch {
    return false
  }
}

export interface PoolLeftoversOptions {
  /** How long a pool must have been gone: whoever removes it does this himself. */
  readonly restMs: number
  readonly everyMs: number
}

export interface PoolLeftoversModules {
  readonly store: Store
  readonly clock: Clock
  readonly random: Random
  readonly log: Log
  readonly slots: Pick<SlotIndex, 'poolUids'>
  readonly pools: Pick<PoolView, 'isSynced' | 'knows'>
}

export class PoolLeftovers {
  readonly #options: PoolLeftoversOptions
  readonly #modules: PoolLeftoversModules
  /** Pool UID → BOOTTIME from which on it is cleared: later on some daemons than on others. */
  readonly #dueMs = new Map<string, number>()
  readonly #sweeping: Periodic

  constructor(options: PoolLeftoversOptions, modules: PoolLeftoversModules) {
    this.#options = options
    this.#modules = modules
    const { clock, log } = modules
    this.#sweeping = new Periodic(options, {
      clock,
      work: () => this.#sweep(),
      failed: error => log.debug({ err: messageOf(error) }, 'what a pool left behind stays for now'),
    })
  }

  start(): void {
    this.#sweeping.start()
  }

  stop(): Promise<void> {
    return this.#sweeping.stop()
  }

  async #sweep(): Promise<void> {
    const { store, clock, random, log, slots, pools } = this.#modules
    if (!pools.isSynced) return
    const gone = new Set([...slots.poolUids()].filter(uid => !pools.knows(uid)))
    for (const uid of this.#dueMs.keys()) if (!gone.has(uid)) this.#dueMs.delete(uid)
    const nowMs = clock.boottimeMs()
    for (const uid of gone) {
      const dueMs = this.#dueMs.get(uid) ?? nowMs + this.#options.restMs * (1 + random.fraction())
      this.#dueMs.set(uid, dueMs)
      if (nowMs >= dueMs && (await purgePool(store, uid)))
        log.info({ pool: uid }, 'slots and ledgers of a removed pool deleted')
    }
  }
}
