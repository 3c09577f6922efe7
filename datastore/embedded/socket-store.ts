/**
 * The embedded store of this node for another process (twillctl): the Store over the API socket of the daemon that
 * has it (protocol.ts). A watch whose connection was lost begins again with a snapshot.
 */
import { type ClientRequest, type IncomingMessage, request } from 'node:http'
import { text } from 'node:stream/consumers'
import type { Clock } from '../../lib/clock.ts'
import { messageOf, TwillError } from '../../lib/errors.ts'
import type { Log } from '../../lib/log.ts'
import { Delivery } from '../delivery.ts'
import { Health } from '../health.ts'
import { OpenWatches } from '../open-watches.ts'
import type { Commit, CommitOutcome, KeyValue, Store, StoreStatus, Watch, WatchMessage } from '../store.ts'
import { STORE_PATH, type StoreCall, storeFailure } from './protocol.ts'

export interface SocketStoreOptions {
  readonly socketPath: string
  /** What is added where no daemon with such a store answers: how another datastore is named. */
  readonly hint?: string
  /** A daemon that says nothing for this long does not answer. Default 10000. */
  readonly timeoutMs?: number
}

const RECONNECT_MS = 200

/** Nothing was sent. */
const NOBODY: Readonly<Record<string, string>> = {
  ENOENT: 'no such socket: is twilld running?',
  ECONNREFUSED: 'nobody listens: twilld has stopped',
  EACCES: 'permission denied: expected root',
}

export class SocketStore implements Store {
  readonly #options: SocketStoreOptions
  readonly #modules: { readonly clock: Clock; readonly log: Log }
  readonly #health: Health
  readonly #watches = new OpenWatches()
  #cluster: string | null = null

  /** Connects at each call. */
  constructor(options: SocketStoreOptions, modules: { clock: Clock; log: Log }) {
    this.#options = options
    this.#modules = modules
    this.#health = new Health(modules.clock)
  }

  async get(key: string): Promise<{ entry: KeyValue | null; revision: number }> {
    return this.#call('get', { key })
  }

  async list(prefix: string): Promise<{ entries: KeyValue[]; revision: number }> {
    return this.#call('list', { prefix })
  }

  async commit(commit: Commit): Promise<CommitOutcome> {
    this.#health.commits++
    return this.#call('commit', { commit })
  }

  watch(prefix: string, listener: (message: WatchMessage) => void): Watch {
    this.#watches.check()
    const open = () => this.#open('watch', { prefix })
    const modules = { ...this.#modules, health: this.#health }
    return this.#watches.add(new SocketWatch({ prefix, open }, modules, listener))
  }

  expectCluster(uid: string): void {
    this.#cluster = uid
  }

  status(): StoreStatus {
    return this.#watches.status(this.#health.status())
  }

  async close(): Promise<void> {
    await this.#watches.close()
  }

  async #call<T extends { revision: number }>(call: StoreCall, body: object): Promise<T> {
    this.#watches.check()
    try {
      const answer = await this.#open(call, body)
      const result = JSON.parse(await text(answer)) as T
      this.#health.answered(result.revision)
      return result
    } catch (error) {
      const failure = error instanceof TwillError ? error : this.#lost(call, body, error)
      this.#health.lost(failure)
      throw failure
    }
  }

  /** Resolves when an answer of status 200 begins. */
  async #open(call: StoreCall, body: object): Promise<IncomingMessage> {
    const answer = await this.#send(call, JSON.stringify({ cluster: this.#cluster, ...body }))
    if (answer.statusCode === 200) return answer
    throw this.#refusal(answer.statusCode ?? 0, await text(answer))
  }

  #send(call: StoreCall, body: string): Promise<IncomingMessage> {
    const { socketPath, timeoutMs = 10_000 } = this.#options
    return new Promise((resolve, reject) => {
      const sent: ClientRequest = request(
        { socketPath, path: `${STORE_PATH}${call}`, method: 'POST', host: 'localhost', agent: false },
        answer => {
          sent.setTimeout(0)
          resolve(answer)
        },
      )
      sent.setTimeout(timeoutMs, () => sent.destroy(new Error(`no answer for ${timeoutMs / 1000} s`)))
      sent.on('error', reject)
      sent.end(body)
    })
  }

  #refusal(status: number, body: string): TwillError {
    const failure = status === 503 ? storeFailure.safeParse(JSON.parse(body)) : null
    if (failure?.success) {
      const { code, message, data, retryable } = failure.data
      return new TwillError(code, message, data, { retryable })
    }
    if (status === 404)
      return this.#away('its datastore is elsewhere, and twillctl was not told where', false, true)
    return this.#away(`answered ${status}: ${body.trim()}`, false)
  }

  /** The connection broke, or never was. */
  #lost(call: StoreCall, body: object, cause: unknown): TwillError {
    const nobody = NOBODY[(cause as NodeJS.ErrnoException).code ?? '']
    if (nobody !== undefined) return this.#away(nobody, true)
    if (call !== 'commit') return this.#away(messageOf(cause), true)
    const { key } = (body as { commit: Commit }).commit
    return new TwillError(
      'store.in-doubt',
      `daemon at ${this.#options.socketPath}: commit of ${key} sent, outcome not known: ${messageOf(cause)}`,
      { key },
      { retryable: true, cause },
    )
  }

  /** @param elsewhere the daemon is well, and the datastore is not in it */
  #away(why: string, retryable: boolean, elsewhere = false): TwillError {
    const { socketPath, hint } = this.#options
    const message = `daemon at ${socketPath}: ${why}${hint === undefined ? '' : `; ${hint}`}`
    return new TwillError('store.unavailable', message, { socketPath, elsewhere }, { retryable })
  }
}

interface WatchOptions {
  readonly prefix: string
  readonly open: () => Promise<IncomingMessage>
}

interface WatchModules {
  readonly clock: Clock
  readonly log: Log
  readonly health: Health
}

class SocketWatch implements Watch {
  readonly #options: WatchOptions
  readonly #clock: Clock
  readonly #delivery: Delivery
  readonly #closing = new AbortController()
  readonly #done: Promise<void>
  #answer: IncomingMessage | null = null

  constructor(options: WatchOptions, modules: WatchModules, listener: (message: WatchMessage) => void) {
    this.#options = options
    this.#clock = modules.clock
    const { prefix } = options
    this.#delivery = new Delivery({ prefix, listener, ended: this.#closing.signal }, modules)
    this.#done = this.#run()
  }

  async close(): Promise<void> {
    this.#closing.abort()
    this.#answer?.destroy()
    await this.#done
  }

  async #run(): Promise<void> {
    // The caller has its Watch before the first message.
    await Promise.resolve()
    const { signal } = this.#closing
    while (!signal.aborted) {
      const reason = await this.#follow().then(
        () => 'the daemon closed the watch',
        error => messageOf(error),
      )
      this.#delivery.connection(false, reason)
      await this.#clock.sleep(RECONNECT_MS, signal)
    }
  }

  async #follow(): Promise<void> {
    const answer = await this.#options.open()
    this.#answer = answer
    if (this.#closing.signal.aborted) answer.destroy()
    let rest = ''
    // Not by readline, which waits for ever when its input is cut off.
    for await (const chunk of answer.setEncoding('utf8')) {
      const lines = `${rest}${chunk}`.split('\n')
      rest = lines.pop() as string
      for (const line of lines) this.#delivery.tell(JSON.parse(line) as WatchMessage)
    }
  }
}
