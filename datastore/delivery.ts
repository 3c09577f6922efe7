/**
 * How a watch over a connection tells its listener: nothing after its end, of the connection only what is news, and a
 * listener that throws stops nothing.
 */
import { messageOf } from '../lib/errors.ts'
import type { Log } from '../lib/log.ts'
import type { Health } from './health.ts'
import type { WatchMessage } from './store.ts'

export interface DeliveryOptions {
  readonly prefix: string
  readonly listener: (message: WatchMessage) => void
  /** Aborted at the watch's end. */
  readonly ended: AbortSignal
}

export interface DeliveryModules {
  readonly log: Log
  /** Hears how new the store is. */
  readonly health: Pick<Health, 'answered'>
}

export class Delivery {
  readonly #options: DeliveryOptions
  readonly #modules: DeliveryModules
  /** null: nothing said yet. */
  #connected: boolean | null = null

  constructor(options: DeliveryOptions, modules: DeliveryModules) {
    this.#options = options
    this.#modules = modules
  }

  connection(connected: boolean, reason: string | null): void {
    this.tell({ type: 'connection', connected, reason })
  }

  tell(message: WatchMessage): void {
    const { prefix, listener, ended } = this.#options
    const { log, health } = this.#modules
    if (ended.aborted) return
    if (message.type !== 'connection') health.answered(message.revision)
    else if (message.connected === this.#connected) return
    else this.#connected = message.connected
    try {
      listener(message)
    } catch (error) {
      log.error({ prefix, err: messageOf(error) }, 'listener of a watch threw')
    }
  }
}
