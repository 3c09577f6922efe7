/**
 * Which rights this node lacks at the API server: looked at from the start on until none is missing, told in one message,
 * and again when others are. It keeps nothing from going on.
 */
import type { KubernetesClient } from '../../datastore/kubernetes/client.ts'
import { missingRights, type Right, rightsMessage } from '../../datastore/kubernetes/rights.ts'
import type { Clock } from '../../lib/clock.ts'
import { messageOf } from '../../lib/errors.ts'
import type { Log } from '../../lib/log.ts'

/** Rights change when somebody mends a ClusterRole. */
const REVIEW_AGAIN_MS = 30_000
/** The server did not answer. */
const ASK_AGAIN_MS = 2_000

export interface RightsReviewModules {
  readonly client: Pick<KubernetesClient, 'request'>
  /** Default: those of every daemon. */
  readonly rights?: readonly Right[]
  readonly clock: Clock
  readonly log: Log
}

export class RightsReview {
  readonly #modules: RightsReviewModules
  readonly #closing = new AbortController()
  #missing: readonly string[] = []

  constructor(modules: RightsReviewModules) {
    this.#modules = modules
    this.#run()
  }

  /** Each "list pods"; [] also while nobody has been asked yet. */
  get missing(): readonly string[] {
    return this.#missing
  }

  stop(): void {
    this.#closing.abort()
  }

  async #run(): Promise<void> {
    for (;;) {
      const pauseMs = await this.#review()
      if (pauseMs === null || this.#closing.signal.aborted) return
      await this.#modules.clock.sleep(pauseMs, this.#closing.signal)
    }
  }

  /** @returns how long until the next; null: none is missing */
  async #review(): Promise<number | null> {
    const { client, rights, log } = this.#modules
    const before = this.#missing
    try {
      this.#missing = await missingRights(client, rights)
    } catch (error) {
      // Why it does not answer is told by those who follow its objects.
      log.debug({ error: messageOf(error) }, 'rights could not be looked at yet')
      return ASK_AGAIN_MS
    }
    if (this.#missing.length === 0) {
      if (before.length > 0) log.info({}, 'no right at the API server is missing any more')
      return null
    }
    if (this.#missing.join() !== before.join())
      log.error({ missing: this.#missing }, rightsMessage(this.#missing))
    return REVIEW_AGAIN_MS
  }
}
