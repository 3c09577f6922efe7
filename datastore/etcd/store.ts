/**
 * The Store on etcd (3.4 or later), through etcd3. What is not obvious is explained in docs/datastore.md.
 */
import type { Clock, Random } from '../../lib/clock.ts'
import { TwillError } from '../../lib/errors.ts'
import type { Log } from '../../lib/log.ts'
import { Health } from '../health.ts'
import { CLUSTER_KEY } from '../keys.ts'
import type { Commit, CommitOutcome, KeyValue, Store, StoreStatus, Watch, WatchMessage } from '../store.ts'
import { Calls } from './calls.ts'
import { Connection } from './connection.ts'
import { Guard } from './guard.ts'
import { type EtcdOptions, type ResolvedEtcdOptions, resolveEtcdOptions } from './options.ts'
import { EtcdWatch, type EtcdWatchModules } from './watch.ts'
import { WatchHub } from './watch-stream.ts'

export class EtcdStore implements Store {
  readonly #options: ResolvedEtcdOptions
  readonly #modules: EtcdWatchModules
  readonly #watches = new Set<EtcdWatch>()
  #closed = false

  /** Connects at the first call. @throws TwillError config.invalid */
  constructor(options: EtcdOptions, modules: { clock: Clock; random: Random; log: Log }) {
    this.#options = resolveEtcdOptions(options)
    const health = new Health()
    const connection = new Connection(this.#options, modules)
    const calls = new Calls(this.#options, { connection, health, clock: modules.clock })
    const hub = new WatchHub({ connection })
    this.#modules = { ...modules, calls, hub, connection, health }
  }

  async get(key: string): Promise<{ entry: KeyValue | null; revision: number }> {
    this.#checkOpen()
    const { entry, revision } = await this.#modules.calls.get(key)
    return { entry, revision }
  }

  async list(prefix: string): Promise<{ entries: KeyValue[]; revision: number }> {
    this.#checkOpen()
    return await this.#modules.calls.list(prefix)
  }

  async commit(commit: Commit): Promise<CommitOutcome> {
    this.#checkOpen()
    return await this.#modules.calls.commit(commit)
  }

  watch(prefix: string, listener: (message: WatchMessage) => void): Watch {
    this.#checkOpen()
    const watch = new EtcdWatch({ prefix, etcd: this.#options }, this.#modules, listener)
    this.#watches.add(watch)
    return {
      close: async () => {
        this.#watches.delete(watch)
        await watch.close()
      },
    }
  }

  expectCluster(uid: string): void {
    this.#modules.calls.setGuard(new Guard({ uid, key: this.#options.prefix + CLUSTER_KEY }))
  }

  status(): StoreStatus {
    const status = this.#modules.health.status()
    return this.#closed ? { ...status, connected: false, reason: 'closed' } : status
  }

  async close(): Promise<void> {
    this.#closed = true
    const watches = [...this.#watches]
    this.#watches.clear()
    await Promise.all(watches.map(watch => watch.close()))
    await this.#modules.hub.close()
    this.#modules.connection.close()
  }

  #checkOpen(): void {
    if (this.#closed) throw new TwillError('store.unavailable', 'the store is closed')
  }
}
