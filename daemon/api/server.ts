/** The local API (types.ts) over a Unix socket; metrics also over TCP when an address is configured. */
import { createServer, type IncomingMessage, type Server, type ServerResponse } from 'node:http'
import { STORE_PATH } from '../../datastore/embedded/protocol.ts'
import type { StoreService } from '../../datastore/embedded/service.ts'
import { listenPrivately } from '../attach/server.ts'
import type { Status } from './types.ts'

export interface ApiModules {
  readonly status: () => Status
  /** Prometheus text. */
  readonly metrics: () => Promise<string>
  /** Of the embedded datastore; null: it is another one. */
  readonly store?: StoreService | null
}

interface Reply {
  readonly status: number
  readonly type: string
  readonly body: string
}

const json = (status: number, body: unknown): Reply => ({
  status,
  type: 'application/json',
  body: `${JSON.stringify(body)}\n`,
})

export class ApiServer {
  readonly #options: { readonly socketPath: string; readonly metricsAddress: string | null }
  readonly #modules: ApiModules
  readonly #servers: Server[] = []

  constructor(options: { socketPath: string; metricsAddress: string | null }, modules: ApiModules) {
    this.#options = options
    this.#modules = modules
  }

  async listen(): Promise<void> {
    const local = this.#serve(path => this.#route(path), this.#modules.store ?? null)
    await listenPrivately(local, this.#options.socketPath)
    if (this.#options.metricsAddress === null) return
    const remote = this.#serve(path => (path === '/metrics' ? this.#metrics() : notFound(path)))
    await listenTcp(remote, this.#options.metricsAddress)
  }

  async close(): Promise<void> {
    await Promise.all(
      this.#servers.map(server => {
        server.closeAllConnections()
        return new Promise(resolve => server.close(resolve))
      }),
    )
  }

  #serve(route: (path: string) => Promise<Reply>, store: StoreService | null = null): Server {
    const server = createServer((request, response) => {
      answer(request, response, route, store).catch(() => response.destroy())
    })
    this.#servers.push(server)
    return server
  }

  async #route(path: string): Promise<Reply> {
    if (path === '/v1/live') return json(200, { live: true })
    if (path === '/v1/ready') return this.#ready()
    if (path === '/v1/status') return json(200, this.#modules.status())
    if (path === '/v1/metrics') return this.#metrics()
    return notFound(path)
  }

  #ready(): Reply {
    const { ready, reasons } = this.#modules.status()
    return json(ready ? 200 : 503, { ready, reasons })
  }

  async #metrics(): Promise<Reply> {
    return { status: 200, type: 'text/plain; version=0.0.4', body: await this.#modules.metrics() }
  }
}

const notFound = async (path: string): Promise<Reply> => json(404, { error: `no such path: ${path}` })

async function answer(
  request: IncomingMessage,
  response: ServerResponse,
  route: (path: string) => Promise<Reply>,
  store: StoreService | null,
): Promise<void> {
  const path = new URL(request.url ?? '/', 'http://local').pathname
  const forStore = path.startsWith(STORE_PATH)
  if (forStore && store !== null) return await store.handle(path, request, response)
  const reply = forStore
    ? await notFound(path)
    : request.method === 'GET'
      ? await route(path)
      : json(405, { error: 'expected GET' })
  response.writeHead(reply.status, { 'content-type': reply.type }).end(reply.body)
}

async function listenTcp(server: Server, address: string): Promise<void> {
  const colon = address.lastIndexOf(':')
  const host = address.slice(0, colon).replace(/^\[|\]$/g, '')
  await new Promise<void>((resolve, reject) => {
    server.once('error', reject)
    server.listen(Number(address.slice(colon + 1)), host, resolve)
  })
}
