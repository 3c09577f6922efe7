/** The daemon's end of protocol.ts: answers store calls of other processes from the embedded database. */
import type { IncomingMessage, ServerResponse } from 'node:http'
import { text } from 'node:stream/consumers'
import { z } from 'zod'
import type { Clock } from '../../lib/clock.ts'
import { messageOf } from '../../lib/errors.ts'
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
    let asked: unknown
    try {
      asked = storeRequests[call as StoreCall].parse(JSON.parse(await text(request)))
    } catch (error) {
      return send(response, 400, { error: firstIssueOf(error) })
    }
    try {
      await this.#answer(call as StoreCall, asked, response)
    } catch (error) {
      send(response, 503, failureOf(call as StoreCall, error))
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

const firstIssueOf = (error: unknown): string =>
  error instanceof z.ZodError ? (error.issues[0]?.message ?? '') : messageOf(error)

/** Nobody knows how far a commit came that ended as no store says: it may be on disk (rule 4). */
function failureOf(call: StoreCall, error: unknown): StoreFailure {
  const said = storeFailure.safeParse(error)
  if (said.success) return said.data
  const code = call === 'commit' ? 'store.in-doubt' : 'store.unavailable'
  return { code, message: messageOf(error), data: {}, retryable: call === 'commit' }
}
