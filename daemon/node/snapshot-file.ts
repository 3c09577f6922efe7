/**
 * Keeps the snapshot (snapshot.ts) on disk: written a moment after the cluster changed, read by a start that the store
 * does not answer.
 *
 * Invariant: the file is never much older than what this daemon knew. One that cannot be brought up to date is taken
 * away, since rules made of old facts would shut out nodes that came since. No fsync: a snapshot of an earlier boot
 * is not used, so that it need not survive what ends one.
 */
import { readFile, rename, unlink, writeFile } from 'node:fs/promises'
import type { Clock, Timer } from '../../lib/clock.ts'
import { messageOf } from '../../lib/errors.ts'
import type { Log } from '../../lib/log.ts'
import type { Cluster } from './cluster.ts'
import {
  type ClusterSnapshot,
  decodeSnapshot,
  encodeSnapshot,
  type KnownCluster,
  type SnapshotOwner,
} from './snapshot.ts'

/** In the state folder. */
export const SNAPSHOT_FILE = 'cluster-snapshot'

export interface SnapshotFileOptions {
  readonly path: string
  readonly owner: SnapshotOwner
  /** A change waits this long for others. Default 200 ms; longer where writing takes longer. */
  readonly lingerMs?: number
}

export interface SnapshotFileModules {
  readonly clock: Clock
  readonly log: Log
  /** What the store said; null before it did. */
  readonly known: () => KnownCluster | null
}

/** In a large cluster something changes all the time: a twentieth of the time goes into writing, no more. */
const SHARE = 20

export class SnapshotFile {
  readonly #options: Required<SnapshotFileOptions>
  readonly #modules: SnapshotFileModules
  #timer: Timer | null = null
  #writing: Promise<void> | null = null
  #changed = false
  #stopped = false
  #lingerMs: number

  constructor(options: SnapshotFileOptions, modules: SnapshotFileModules) {
    this.#options = { lingerMs: 200, ...options }
    this.#modules = modules
    this.#lingerMs = this.#options.lingerMs
  }

  /**
   * null: there is none, or it is another boot's or another identity's.
   * @throws document.invalid {problem}: it is not to be trusted; what reading the file throws
   */
  async read(): Promise<ClusterSnapshot | null> {
    const { path, owner } = this.#options
    const text = await readFile(path, 'utf8').catch(error => {
      if ((error as NodeJS.ErrnoException).code === 'ENOENT') return null
      throw error
    })
    const snapshot = text === null ? null : decodeSnapshot(text)
    const ours =
      snapshot?.owner.clusterUid === owner.clusterUid &&
      snapshot.owner.nodeUid === owner.nodeUid &&
      snapshot.owner.boot === owner.boot
    return ours ? snapshot : null
  }

  /** The cluster has changed: written soon. */
  changed(): void {
    this.#changed = true
    if (this.#stopped || this.#timer !== null || this.#writing !== null) return
    this.#timer = this.#modules.clock.setTimer(this.#lingerMs, () => {
      this.#timer = null
      void this.#write()
    })
  }

  /** What is not written yet is written now. */
  async stop(): Promise<void> {
    this.#stopped = true
    this.#timer?.cancel()
    await this.#writing
    if (this.#changed) await this.#write()
  }

  #write(): Promise<void> {
    this.#changed = false
    this.#writing = this.#replace().finally(() => {
      this.#writing = null
      if (this.#changed) this.changed()
    })
    return this.#writing
  }

  async #replace(): Promise<void> {
    const { path, owner, lingerMs } = this.#options
    const { clock, log, known } = this.#modules
    const cluster = known()
    if (cluster === null) return
    const begunMs = clock.boottimeMs()
    const temporary = `${path}.new`
    try {
      const text = encodeSnapshot({ owner, savedAt: clock.realtimeMs(), ...cluster })
      await writeFile(temporary, text, { mode: 0o600 })
      await rename(temporary, path)
    } catch (error) {
      log.warn({ path, error: messageOf(error) }, 'the snapshot of the cluster could not be written')
      for (const stale of [temporary, path]) await unlink(stale).catch(() => undefined)
    }
    this.#lingerMs = Math.max(lingerMs, SHARE * (clock.boottimeMs() - begunMs))
  }
}

/** After `patienceMs` the snapshot stands in for what the store has not told. One that cannot be used is reported, and none does. */
export function recallWhenAway(
  patienceMs: number,
  modules: {
    readonly cluster: Pick<Cluster, 'synced' | 'recall' | 'recalled'>
    readonly snapshot: Pick<SnapshotFile, 'read'>
    readonly clock: Clock
    readonly log: Log
  },
): void {
  const { cluster, snapshot, clock, log } = modules
  const recall = async () => {
    const told = cluster.synced().then(() => true)
    if (await Promise.race([told, clock.sleep(patienceMs).then(() => false)])) return
    const found = await snapshot.read()
    if (found === null) return log.warn({}, 'the store is away, and nothing is remembered of the cluster')
    cluster.recall(found)
    const savedAt = new Date(found.savedAt).toISOString()
    const what = cluster.recalled?.what
    log.warn({ what, savedAt }, 'the store is away: routes and rules are made of what it last said')
  }
  recall().catch(error => log.error({ error: messageOf(error) }, 'the snapshot of the cluster is not used'))
}
