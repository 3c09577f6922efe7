/**
 * The Store on etcd (3.4 or later), through etcd3. What is not obvious is explained in docs/datastore.md.
 */
import type { Clock, Random } from '../../lib/clock.ts'
import type { Log } from '../../lib/log.ts'
import { Health } from '../health.ts'
import { CLUSTER_KEY } from '../keys.ts'
import { OpenWatches } from '../open-watches.ts'
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
  readonly #watches = new OpenWatches()

  /** Connects at the first call. @throws TwillError config.invalid */
  constructor(options: EtcdOptions, modules: { clock: Clock; random: Random; log: Log }) {
    this.#options = resolveEtcdOptions(options)
    const health = new Health(modules.clock)
    const connection = new Connection(this.#options, modules)
    const calls = new Calls(this.#options, { connection, health, clock: modules.clock })
    const hub = new WatchHub({ connection })
    this.#modules = { ...modules, calls, hub, connection, health }
  }

  async get(key: string): Promise<{ entry: KeyValue | null; revision: number }> {
    this.#watches.check()
    const { entry, revision } = await this.#modules.calls.get(key)
    return { entry, revision }
  }

  async list(prefix: string): Promise<{ entries: KeyValue[]; revision: number }> {
    this.#watches.check()
    return await this.#modules.calls.list(prefix)
  }

  async commit(commit: Commit): Promise<CommitOutcome> {
    this.#watches.check()
    return await this.#modules.calls.commit(commit)
  }

  watch(prefix: string, listener: (message: WatchMessage) => void): Watch {
    this.#watches.check()
    return this.#watches.add(new EtcdWatch({ prefix, etcd: this.#options }, this.#modules, listener))
  }

  expectCluster(uid: string): void {
    this.#modules.calls.setGuard(new Guard({ uid, key: this.#options.prefix + CLUSTER_KEY }))
  }

  status(): StoreStatus {
    return this.#watches.status(this.#modules.health.status())
  }

  async close(): Promise<void> {
    await this.#watches.close()
    await this.#modules.hub.close()
    this.#modules.connection.close()
  }
}
