/**
 * One gRPC stream that carries all watches of a store, told apart by ids which this side chooses (etcd 3.4).
 * A stream that failed is not repaired: its feeds fail, and whoever asks the hub next opens another.
 */
import type { IDuplexStream, IWatchRequest, IWatchResponse } from 'etcd3'
import type { Connection, Link } from './connection.ts'
import { unavailable } from './failure.ts'
import { Feed } from './feed.ts'

type GrpcStream = IDuplexStream<IWatchRequest, IWatchResponse>

export interface Subscription {
  readonly feed: Feed<IWatchResponse>
  cancel(): void
}

export interface WatchRange {
  readonly key: Buffer
  readonly rangeEnd: Buffer
  readonly startRevision: number
}

export class WatchStream {
  readonly link: Link
  readonly #stream: GrpcStream
  readonly #feeds = new Map<string, Feed<IWatchResponse>>()
  #lastId = 0
  #ended = false

  constructor(options: { link: Link }, modules: { stream: GrpcStream }) {
    this.link = options.link
    this.#stream = modules.stream
    this.#stream.on('data', response => this.#feeds.get(String(response.watch_id))?.push(response))
    this.#stream.on('error', error => this.fail(error))
    options.link.lifetime.signal.addEventListener('abort', () =>
      this.fail(unavailable('left for a new connection', this.link.endpoint)),
    )
    this.#stream.on('end', () => this.fail(unavailable('watch stream ended', this.link.endpoint)))
  }

  get ended(): boolean {
    return this.#ended
  }

  subscribe(range: WatchRange): Subscription {
    const id = ++this.#lastId
    const feed = new Feed<IWatchResponse>()
    this.#feeds.set(String(id), feed)
    this.#stream.write({
      create_request: {
        key: range.key,
        range_end: range.rangeEnd,
        start_revision: range.startRevision,
        watch_id: id,
        progress_notify: true,
        fragment: true,
      },
    })
    return { feed, cancel: () => this.#cancel(id) }
  }

  fail(error: unknown): void {
    if (this.#ended) return
    this.#ended = true
    for (const feed of this.#feeds.values()) feed.fail(error)
    this.#feeds.clear()
    this.#stream.cancel()
  }

  #cancel(id: number): void {
    const known = this.#feeds.delete(String(id))
    if (known && !this.#ended) this.#stream.write({ cancel_request: { watch_id: id } })
  }
}

export class WatchHub {
  readonly #connection: Connection
  #current: Promise<WatchStream> | null = null

  constructor(modules: { connection: Connection }) {
    this.#connection = modules.connection
  }

  /** The stream in use, or a new one. @throws store.unavailable */
  async stream(): Promise<WatchStream> {
    const current = this.#current
    if (current !== null) {
      const stream = await current
      if (!stream.ended) return stream
    }
    if (this.#current === current) this.#current = this.#open()
    return await (this.#current as Promise<WatchStream>)
  }

  async close(): Promise<void> {
    const stream = await this.#current?.catch(() => null)
    stream?.fail(unavailable('closed', this.#connection.endpoint))
  }

  async #open(): Promise<WatchStream> {
    try {
      const link = await this.#connection.ready()
      return new WatchStream({ link }, { stream: await link.watch.watch() })
    } catch (error) {
      this.#current = null
      throw error
    }
  }
}
