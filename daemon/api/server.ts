/** The local API (types.ts) over a Unix socket; metrics, and whether it is well, also over TCP where an address is configured. */
import { createServer, type IncomingMessage, type Server, type ServerResponse } from 'node:http'
import { STORE_PATH } from '../../datastore/embedded/protocol.ts'
import type { StoreService } from '../../datastore/embedded/service.ts'
import { messageOf } from '../../lib/errors.ts'
import { listenPrivately } from '../attach/server.ts'
import { reasonsAgainstNext } from './rollout.ts'
import type { AuditReport, Status } from './types.ts'

export interface ApiModules {
  readonly status: () => Status
  /** Prometheus text. */
  readonly metrics: () => Promise<string>
  /** Both reject while there is nothing to audit yet. */
  readonly audit?: {
    check(): Promise<AuditReport>
    repair(dryRun: boolean): Promise<AuditReport>
  }
  /** Of the embedded datastore; null: it is another one. */
  readonly store?: StoreService | null
}

export interface ApiOptions {
  readonly socketPath: string
  /** HOST:PORT; left out as null. */
  readonly metricsAddress?: string | null
  readonly healthAddress?: string | null
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
  readonly #options: ApiOptions
  readonly #modules: ApiModules
  readonly #servers: Server[] = []

  constructor(options: ApiOptions, modules: ApiModules) {
    this.#options = options
    this.#modules = modules
  }

  async listen(): Promise<void> {
    const local = this.#serve({
      get: url => this.#route(url),
      post: url => this.#change(url),
      store: this.#modules.store ?? null,
    })
    await listenPrivately(local, this.#options.socketPath)
    const { metricsAddress = null, healthAddress = null } = this.#options
    if (metricsAddress !== null)
      await this.#listenRemotely(metricsAddress, ({ pathname }) =>
        pathname === '/metrics' ? this.#metrics() : notFound(pathname),
      )
    if (healthAddress !== null)
      await this.#listenRemotely(healthAddress, url =>
        isOfHealth(url.pathname) ? this.#route(url) : notFound(url.pathname),
      )
  }

  /** Without authentication: for what anybody may know. */
  #listenRemotely(address: string, get: Routes['get']): Promise<void> {
    return listenTcp(this.#serve({ get, post: null, store: null }), address)
  }

  async close(): Promise<void> {
    await Promise.all(
      this.#servers.map(server => {
        server.closeAllConnections()
        return new Promise(resolve => server.close(resolve))
      }),
    )
  }

  #serve(routes: Routes): Server {
    const server = createServer((request, response) => {
      answer(request, response, routes).catch(() => response.destroy())
    })
    this.#servers.push(server)
    return server
  }

  async #route({ pathname: path, searchParams }: URL): Promise<Reply> {
    if (path === '/v1/live') return json(200, { live: true })
    if (path === '/v1/ready') return this.#ready(searchParams.has('datastore'))
    if (path === '/v1/status') return json(200, this.#modules.status())
    if (path === '/v1/metrics') return this.#metrics()
    const { audit } = this.#modules
    if (path === '/v1/audit' && audit !== undefined) return reported(audit.check())
    return notFound(path)
  }

  async #change({ pathname, searchParams }: URL): Promise<Reply> {
    const { audit } = this.#modules
    if (pathname !== '/v1/audit/repair' || audit === undefined)
      return json(405, { error: `${pathname}: expected GET` })
    return reported(audit.repair(searchParams.has('dry-run')))
  }

  #ready(withDatastore: boolean): Reply {
    const status = this.#modules.status()
    const reasons = withDatastore ? reasonsAgainstNext(status) : status.reasons
    const ready = reasons.length === 0
    return json(ready ? 200 : 503, { ready, reasons })
  }

  async #metrics(): Promise<Reply> {
    return { status: 200, type: 'text/plain; version=0.0.4', body: await this.#modules.metrics() }
  }
}

const isOfHealth = (path: string): boolean => path === '/v1/live' || path === '/v1/ready'

const notFound = async (path: string): Promise<Reply> => json(404, { error: `no such path: ${path}` })

async function reported(report: Promise<AuditReport>): Promise<Reply> {
  try {
    return json(200, await report)
  } catch (error) {
    return json(503, { error: messageOf(error) })
  }
}

interface Routes {
  readonly get: (url: URL) => Promise<Reply>
  /** null: nothing can be changed here. */
  readonly post: ((url: URL) => Promise<Reply>) | null
  /** Answers whatever is below STORE_PATH; null: nothing is there. */
  readonly store: StoreService | null
}

async function answer(request: IncomingMessage, response: ServerResponse, routes: Routes): Promise<void> {
  const url = new URL(request.url ?? '/', 'http://local')
  const forStore = url.pathname.startsWith(STORE_PATH)
  if (forStore && routes.store !== null) return await routes.store.handle(url.pathname, request, response)
  const reply = forStore ? await notFound(url.pathname) : await replyTo(request.method, url, routes)
  response.writeHead(reply.status, { 'content-type': reply.type }).end(reply.body)
}

async function replyTo(method: string | undefined, url: URL, { get, post }: Routes): Promise<Reply> {
  if (method === 'GET') return get(url)
  if (method === 'POST' && post !== null) return post(url)
  return json(405, { error: 'expected GET' })
}

async function listenTcp(server: Server, address: string): Promise<void> {
  const colon = address.lastIndexOf(':')
  const host = address.slice(0, colon).replace(/^\[|\]$/g, '')
  await new Promise<void>((resolve, reject) => {
    server.once('error', reject)
    server.listen(Number(address.slice(colon + 1)), host, resolve)
  })
}
