/**
 * The way to etcd: one endpoint at a time, the next one when it fails. etcd3's own retries and circuit breakers
 * are off: a retried transaction reports its own first success as failure.
 *
 * Calls and the watch stream have clients of their own, because etcd3 closes all clients of a host after any
 * failed call; grpc-js still puts both on one TCP connection.
 */
import { noop } from 'cockatiel'
import { type IOptions, KVClient, WatchClient } from 'etcd3'
import { ConnectionPool } from 'etcd3/lib/connection-pool.js'
import type { Clock } from '../../lib/clock.ts'
import type { TwillError } from '../../lib/errors.ts'
import { readFailure, unavailable } from './failure.ts'
import type { ResolvedEtcdOptions } from './options.ts'
import { connectionReason } from './tls.ts'

/** grpc.connectivityState */
const READY = 2
const TRANSIENT_FAILURE = 3
const SHUTDOWN = 4

type GrpcClient = Parameters<Parameters<ConnectionPool['withConnection']>[1]>[0]['client']
type Channel = ReturnType<GrpcClient['getChannel']>

export interface Link {
  readonly endpoint: string
  readonly kv: KVClient
  readonly watch: WatchClient
  readonly pools: readonly ConnectionPool[]
  /** Aborted when the link is given up: streams on it end, since a closed client no longer probes them. */
  readonly lifetime: AbortController
  /** That of the pool's client when it was last found connected. */
  channel: Channel | null
}

export class Connection {
  readonly #options: ResolvedEtcdOptions
  readonly #clock: Clock
  readonly #links: (Link | null)[]
  #index = 0
  #closed = false

  constructor(options: ResolvedEtcdOptions, modules: { clock: Clock }) {
    this.#options = options
    this.#clock = modules.clock
    this.#links = options.endpoints.map(() => null)
  }

  /** The endpoint in use or, once closed, the one last in use. */
  get endpoint(): string {
    return this.#options.endpoints[this.#index] as string
  }

  /** A connected link, trying every endpoint once. @throws store.unavailable: nothing was sent */
  async ready(): Promise<Link> {
    const deadline = this.#clock.realtimeMs() + this.#options.callTimeoutMs
    let failure: TwillError | null = null
    for (let tries = 0; tries < this.#links.length && !this.#closed; tries++) {
      const link = this.#link()
      if (link.channel?.getConnectivityState(false) === READY) return link
      try {
        await this.#connect(link, deadline)
        return link
      } catch (error) {
        failure = readFailure(error, link.endpoint)
        this.failed(link)
      }
    }
    throw failure ?? unavailable('closed', this.endpoint)
  }

  /** Whoever met a failure on this link says so: the next call goes elsewhere, or over a new connection. */
  failed(link: Link): void {
    if (this.#links[this.#index] !== link) return
    if (this.#links.length === 1) return
    this.#links[this.#index] = null
    this.#index = (this.#index + 1) % this.#links.length
    close(link)
  }

  /** Forgets credentials and connections of this link: an expired token is renewed on the next. */
  renew(link: Link): void {
    const index = this.#links.indexOf(link)
    if (index < 0) return
    this.#links[index] = null
    close(link)
  }

  close(): void {
    this.#closed = true
    for (const link of this.#links) if (link !== null) close(link)
    this.#links.fill(null)
  }

  #link(): Link {
    const present = this.#links[this.#index]
    if (present) return present
    const link = createLink(this.endpoint, this.#options, this.#clock)
    this.#links[this.#index] = link
    return link
  }

  #reasonOf(text: string): string {
    return connectionReason(text, this.#options.tls, this.#clock.realtimeMs())
  }

  async #connect(link: Link, deadline: number): Promise<void> {
    const pool = link.pools[0] as ConnectionPool
    await pool.withConnection('KV', async ({ client }) => {
      const channel = client.getChannel()
      let state = channel.getConnectivityState(true)
      while (state !== READY) {
        if (state === TRANSIENT_FAILURE || state === SHUTDOWN)
          throw unavailable(
            `no connection: ${this.#reasonOf(await lastErrorOf(client, deadline))}`,
            link.endpoint,
          )
        const before = state
        await new Promise<void>((resolve, reject) => {
          channel.watchConnectivityState(before, deadline, error =>
            error ? reject(unavailable('no connection in time', link.endpoint, error)) : resolve(),
          )
        })
        state = channel.getConnectivityState(true)
      }
      link.channel = channel
    })
  }
}

/** The channel keeps to itself why it has no connection; a call that it cannot send is told. */
function lastErrorOf(client: GrpcClient, deadline: number): Promise<string> {
  return new Promise(resolve => {
    client.makeUnaryRequest(
      '/etcdserverpb.KV/Range',
      () => Buffer.alloc(0),
      () => null,
      {},
      { deadline },
      error => resolve(error?.message ?? 'it came and went'),
    )
  })
}

function close(link: Link): void {
  link.lifetime.abort()
  for (const pool of link.pools) pool.close()
}

function createLink(endpoint: string, options: ResolvedEtcdOptions, clock: Clock): Link {
  const kv = new ConnectionPool(clientOptions(endpoint, options, clock))
  const watch = new ConnectionPool(clientOptions(endpoint, options, clock))
  return {
    endpoint,
    kv: new KVClient(kv),
    watch: new WatchClient(requiringLeader(watch)),
    pools: [kv, watch],
    lifetime: new AbortController(),
    channel: null,
  }
}

function clientOptions(endpoint: string, options: ResolvedEtcdOptions, clock: Clock): IOptions {
  return {
    hosts: endpoint,
    ...(options.tls && {
      credentials: {
        rootCertificate: options.tls.ca,
        ...(options.tls.key && { privateKey: options.tls.key }),
        ...(options.tls.cert && { certChain: options.tls.cert }),
      },
    }),
    ...(options.auth && {
      auth: {
        ...options.auth,
        callOptions: () => ({ deadline: clock.realtimeMs() + options.callTimeoutMs }),
      },
    }),
    faultHandling: { global: noop, host: () => noop },
    grpcOptions: {
      'grpc.keepalive_time_ms': options.keepaliveMs,
      'grpc.keepalive_timeout_ms': options.keepaliveTimeoutMs,
      // Not while idle: etcd answers pings on a connection without streams with GOAWAY too_many_pings.
      'grpc.keepalive_permit_without_calls': 0,
      'grpc.max_receive_message_length': options.maxMessageBytes,
      'grpc.initial_reconnect_backoff_ms': options.backoffMs.first,
      'grpc.max_reconnect_backoff_ms': options.backoffMs.last,
      'grpc.enable_retries': 0,
      'grpc.service_config_disable_resolution': 1,
    },
  }
}

/** A member that lost its leader ends the stream (etcd api/v3rpc MetadataRequireLeaderKey) and does not fall silent. */
function requiringLeader(pool: ConnectionPool): ConstructorParameters<typeof WatchClient>[0] {
  return {
    callOptionsFactory: pool.callOptionsFactory,
    exec: (service, method, params, options) => pool.exec(service, method, params, options),
    markFailed: (resource, error) => pool.markFailed(resource as never, error),
    withConnection: (service, call) =>
      pool.withConnection(service, args => {
        args.metadata.set('hasleader', 'true')
        return call(args)
      }),
  }
}
