/** Rules of others that are in the way, as last seen: looked for at the start and at each resync. */
import type { Kernel } from '../kernel/kernel.ts'
import type { Clock } from '../lib/clock.ts'
import { messageOf } from '../lib/errors.ts'
import type { Log } from '../lib/log.ts'
import { Periodic } from '../lib/periodic.ts'
import type { Status } from './api/types.ts'

export interface ForeignFiltersModules {
  readonly kernel: Pick<Kernel, 'readForeignFilters'>
  readonly clock: Pick<Clock, 'setTimer'>
  readonly log: Log
}

export class ForeignFilters {
  readonly #looking: Periodic
  readonly #modules: ForeignFiltersModules
  #first: Promise<void> = Promise.resolve()
  #found: Status['foreignFilters'] = []

  constructor(options: { readonly everyMs: number }, modules: ForeignFiltersModules) {
    this.#modules = modules
    this.#looking = new Periodic(options, {
      clock: modules.clock,
      work: () => this.#look(),
      failed: error => this.#failed(error),
    })
  }

  get found(): Status['foreignFilters'] {
    return this.#found
  }

  start(): void {
    this.#first = this.#look().catch(error => this.#failed(error))
    this.#looking.start()
  }

  async stop(): Promise<void> {
    await this.#looking.stop()
    await this.#first
  }

  async #look(): Promise<void> {
    this.#found = await this.#modules.kernel.readForeignFilters()
  }

  #failed(error: unknown): void {
    this.#modules.log.warn({ error: messageOf(error) }, 'the filters of others could not be read')
  }
}
