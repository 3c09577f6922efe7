/** The daemon's end of protocol.ts: answers store calls of other processes from the embedded database. */
import type { IncomingMessage, ServerResponse } from 'node:http'
import { text } from 'node:stream/consumers'
import type { z } from 'zod'
import type { Clock } from '../../lib/clock.ts'
import { isTwillError, messageOf } from '../../lib/errors.ts'
import type { EmbeddedDatabase } from './database.ts'
import { STORE_PATH, type StoreCall, type StoreFailure, storeFailure, storeRequests } from './protocol.ts'
import { EmbeddedStore } from './store.ts'

type Request<C extends StoreCall> = z.infer<(typeof storeRequests)[C]>

/** A client whose watch is this far behind is cut off; it opens another and gets the state anew. */
const WATCH_BUFFER_BYTES = 8 * 1024 * 1024

export class StoreService {
  readonly #modules: { readonly database: EmbeddedDatabase; readonly clock: Clock }

  constructor(modules: { database: EmbeddedDatabase; clock: Clock }) {
    this.#modules = modules
  }

  /** A request whose path begins with STORE_PATH. Never rejects. */
  async handle(path: string, request: IncomingMessage, response: ServerResponse): Promise<void> {
    const call = path.slice(STORE_PATH.length)
    if (!Object.hasOwn(storeRequests, call)) return send(response, 404, { error: `no such path: ${path}` })
    if (request.method !== 'POST') return send(response, 405, { error: 'expected POST' })
    try {
      const parsed = storeRequests[call as StoreCall].safeParse(JSON.parse(await text(request)))
      if (!parsed.success) return send(response, 400, { error: parsed.error.issues[0]?.message ?? '' })
      await this.#answer(call as StoreCall, parsed.data, response)
    } catch (error) {
      sendFailure(response, error)
    }
  }

  async #answer(call: StoreCall, request: unknown, response: ServerResponse): Promise<void> {
    const store = new EmbeddedStore(this.#modules)
    const { cluster } = request as { cluster: string | null }
    if (cluster !== null) store.expectCluster(cluster)
    if (call === 'watch') return stream(store, (request as Request<'watch'>).prefix, response)
    if (call === 'get') return send(response, 200, await store.get((request as Request<'get'>).key))
    if (call === 'list') return send(response, 200, await store.list((request as Request<'list'>).prefix))
    send(response, 200, await store.commit((request as Request<'commit'>).commit))
  }
}

function stream(store: EmbeddedStore, prefix: string, response: ServerResponse): void {
  response.writeHead(200, { 'content-type': 'application/x-ndjson' })
  response.flushHeaders()
  const watch = store.watch(prefix, message => {
    response.write(`${JSON.stringify(message)}\n`)
    if (response.writableLength > WATCH_BUFFER_BYTES) response.destroy()
  })
  response.once('close', () => void watch.close())
}

function send(response: ServerResponse, status: number, body: unknown): void {
  response.writeHead(status, { 'content-type': 'application/json' }).end(`${JSON.stringify(body)}\n`)
}

function sendFailure(response: ServerResponse, error: unknown): void {
  if (!isTwillError(error)) {
    send(response, 400, { error: messageOf(error) })
    return
  }
  const { code, message, data, retryable } = error
  const failure: StoreFailure = storeFailure.parse({ code, message, data, retryable })
  send(response, 503, failure)
}
