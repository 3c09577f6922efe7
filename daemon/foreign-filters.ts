/**
 * Rules of others that are in the way, as last seen: looked for at the start, a while after somebody changed nftables, and
 * at each resync, since iptables-legacy changes without a word.
 */
import type { Kernel, KernelEvent } from '../kernel/kernel.ts'
import type { Clock, Timer } from '../lib/clock.ts'
import { messageOf } from '../lib/errors.ts'
import type { Log } from '../lib/log.ts'
import { Periodic } from '../lib/periodic.ts'
import type { Status } from './api/types.ts'

export interface ForeignFiltersModules {
  readonly kernel: Pick<Kernel, 'readForeignFilters' | 'watch'>
  readonly clock: Pick<Clock, 'setTimer' | 'boottimeMs'>
  readonly log: Log
}

/** Whoever changes rules changes many, and kube-proxy does all day: of its tables a look reads every rule. */
const GATHER_MS = 3_000
/** As long a pause as keeps a look of this cost from being more than a fiftieth of the time. */
const PAUSE_PER_COST = 50

export class ForeignFilters {
  readonly #again: Periodic
  readonly #modules: ForeignFiltersModules
  #watching: { close(): Promise<void> } | null = null
  #pending: Timer | null = null
  /** One at a time: what an earlier look saw is never told after a later one. */
  #looking: Promise<void> = Promise.resolve()
  #costMs = 0
  #found: Status['foreignFilters'] = []

  constructor(options: { readonly everyMs: number }, modules: ForeignFiltersModules) {
    this.#modules = modules
    this.#again = new Periodic(options, {
      clock: modules.clock,
      work: () => this.#look(),
      failed: error => this.#failed(error),
    })
  }

  get found(): Status['foreignFilters'] {
    return this.#found
  }

  start(): void {
    this.#watching = this.#modules.kernel.watch(event => this.#heard(event))
    void this.#look()
    this.#again.start()
  }

  async stop(): Promise<void> {
    await this.#watching?.close()
    this.#pending?.cancel()
    await this.#again.stop()
    await this.#looking
  }

  #heard(event: KernelEvent): void {
    if (!mayConcern(event) || this.#pending !== null) return
    this.#pending = this.#modules.clock.setTimer(Math.max(GATHER_MS, PAUSE_PER_COST * this.#costMs), () => {
      this.#pending = null
      void this.#look()
    })
  }

  #look(): Promise<void> {
    this.#looking = this.#looking.then(() => this.#read()).catch(error => this.#failed(error))
    return this.#looking
  }

  async #read(): Promise<void> {
    const { kernel, clock } = this.#modules
    const begun = clock.boottimeMs()
    this.#found = await kernel.readForeignFilters()
    this.#costMs = clock.boottimeMs() - begun
  }

  #failed(error: unknown): void {
    this.#modules.log.warn({ error: messageOf(error) }, 'the filters of others could not be read')
  }
}

const mayConcern = (event: KernelEvent): boolean =>
  event.type === 'overflow' ||
  (event.type === 'changed' && event.domain === 'netfilter' && event.own !== true)
