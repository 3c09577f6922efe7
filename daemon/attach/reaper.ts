/**
 * Deletes the links of detached pods, and forgets their flows, a little later and many at a time, because each blocks
 * its thread for 15–40 ms. Only when a link is gone is its attachment over: then the journal says so and the address
 * cools down.
 */
import type { Kernel } from '../../kernel/kernel.ts'
import type { Clock, Timer } from '../../lib/clock.ts'
import { messageOf } from '../../lib/errors.ts'
import { faultPoint } from '../../lib/fault.ts'
import type { Log } from '../../lib/log.ts'

export interface ReaperModules {
  readonly kernel: Pick<Kernel, 'reapLinks'>
  readonly clock: Clock
  readonly log: Log
  /** Ends the attachment: journal, then address. */
  readonly finish: (id: string) => Promise<void>
}

interface Waiting {
  readonly addresses: readonly string[]
  readonly done: Promise<void>
  readonly resolve: () => void
}

export class Reaper {
  readonly #delayMs: number
  readonly #modules: ReaperModules
  readonly #waiting = new Map<string, Waiting>()
  #timer: Timer | null = null
  #running: Promise<void> | null = null
  #failures = 0
  readonly #roundEnded: (() => void)[] = []

  constructor(options: { delayMs: number }, modules: ReaperModules) {
    this.#delayMs = options.delayMs
    this.#modules = modules
  }

  /** The attachment's link is in REAP_GROUP, or gone already. */
  add(id: string, addresses: readonly string[]): void {
    if (this.#waiting.has(id)) return
    let resolve = () => {}
    const done = new Promise<void>(settle => {
      resolve = settle
    })
    this.#waiting.set(id, { addresses, done, resolve })
    this.#schedule(this.#delayMs)
  }

  has(id: string): boolean {
    return this.#waiting.has(id)
  }

  /** Resolves when the attachment's link is gone and its end recorded; at once when it does not wait here. */
  async gone(id: string): Promise<void> {
    const waiting = this.#waiting.get(id)
    if (waiting === undefined) return
    this.#schedule(0)
    await waiting.done
  }

  /** Resolves when nothing waits any more, or what waits has just been tried and failed: a disk may be full for days. */
  async idle(): Promise<void> {
    while (this.#waiting.size > 0) {
      this.#schedule(0)
      await new Promise<void>(resolve => this.#roundEnded.push(resolve))
      if (this.#failures > 0) return
    }
  }

  #schedule(delayMs: number): void {
    if (this.#running !== null) return
    if (this.#timer !== null && delayMs > 0) return
    this.#timer?.cancel()
    this.#timer = this.#modules.clock.setTimer(delayMs, () => this.#start())
  }

  #start(): void {
    this.#timer = null
    this.#running = this.#reap().finally(() => {
      this.#running = null
      for (const tell of this.#roundEnded.splice(0)) tell()
      if (this.#waiting.size > 0) this.#schedule(this.#delayMs * 2 ** Math.min(this.#failures, 6))
    })
  }

  async #reap(): Promise<void> {
    const batch = [...this.#waiting]
    try {
      const { foreign } = await this.#modules.kernel.reapLinks(
        batch.flatMap(([, { addresses }]) => addresses),
      )
      if (foreign.length > 0)
        this.#modules.log.warn(
          { foreign },
          'links of others stand in the group of links awaiting deletion; left alone',
        )
      faultPoint('del.links-reaped')
      for (const [id] of batch) await this.#finish(id)
      this.#failures = 0
    } catch (error) {
      this.#failures++
      this.#modules.log.error(
        { error: messageOf(error), waiting: batch.length },
        'links awaiting deletion could not be deleted; trying again',
      )
    }
  }

  async #finish(id: string): Promise<void> {
    await this.#modules.finish(id)
    this.#waiting.get(id)?.resolve()
    this.#waiting.delete(id)
  }
}
