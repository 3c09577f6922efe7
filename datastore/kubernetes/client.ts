/**
 * Requests to the API server. Nothing is tried again here, but for a GET that met a connection closed while it was
 * idle, and once after a 401 for which other credentials were found.
 *
 * Trap: a request that changes something and ends in `kubernetes.unavailable` may have been carried out (failure.ts,
 * `sent`).
 */
import type { IncomingMessage } from 'node:http'
import type { Clock } from '../../lib/clock.ts'
import { messageOf, TwillError } from '../../lib/errors.ts'
import { VERSION } from '../../lib/version.ts'
import type { KubernetesSettings } from '../settings.ts'
import { Credentials, type CredentialsModules, type Material } from './credentials.ts'
import { Deadline } from './deadline.ts'
import { type Asked, connectionReason, credentialsReason, refused, unavailable } from './failure.ts'
import { NoAnswer, Transport } from './transport.ts'
import { Lines } from './watch-lines.ts'

export type Query = Readonly<Record<string, string | number | boolean | undefined>>

export interface RequestOptions {
  readonly query?: Query
  /** Sent as JSON. */
  readonly body?: object
  /** Of the body: default application/json; a patch says which kind it is. */
  readonly contentType?: string
  readonly signal?: AbortSignal
}

export interface ObjectMeta {
  readonly name: string
  readonly namespace?: string
  readonly uid: string
  readonly resourceVersion: string
  readonly labels?: Readonly<Record<string, string>>
  readonly annotations?: Readonly<Record<string, string>>
  readonly deletionTimestamp?: string
}

/** As the API server sends it: the rest is for whoever knows the kind. */
export interface KubernetesObject {
  readonly metadata: ObjectMeta
  readonly [field: string]: unknown
}

export interface ObjectEvent {
  readonly type: 'ADDED' | 'MODIFIED' | 'DELETED' | 'BOOKMARK'
  readonly object: KubernetesObject
}

export interface ConnectionStatus {
  readonly server: string
  readonly connected: boolean
  /** Why not, or null. */
  readonly reason: string | null
  /** Sent since start, watches included. */
  readonly requests: number
}

/**
 * Both reject with
 *   kubernetes.unauthorized, forbidden, not-found, conflict, gone (410: the resourceVersion is too old), invalid: what
 *     the server answered, in `data.status`, `data.reason` and the message;
 *   kubernetes.unavailable (retryable): no answer, or one of 429 (`data.retryAfterMs`) and 500 up;
 *   cancelled: by the signal.
 */
export interface KubernetesClient {
  /** The parsed answer. */
  request<T = KubernetesObject>(method: string, path: string, options?: RequestOptions): Promise<T>
  /**
   * Resolves when the server ends the watch. A throw of `onEvent` ends it too.
   * @param query `watch=true` is added
   * @param onOpen the server has agreed
   */
  watch(
    path: string,
    query: Query,
    onEvent: (event: ObjectEvent) => void,
    signal: AbortSignal,
    onOpen?: () => void,
  ): Promise<void>
  status(): ConnectionStatus
  close(): void
}

export interface ClientModules extends CredentialsModules {
  /** Each request as it is answered; code: of HTTP, 0: not answered. */
  readonly onAnswer?: (verb: string, code: number) => void
}

export interface ClientOptions {
  /** A request takes no longer, nor does a watch until it is agreed to. */
  readonly timeoutMs: number
  /** A watch that brings nothing for so long is dead: bookmarks come every minute. */
  readonly silenceMs: number
  /** Of a request; what a watch may say at once is bounded in watch-lines.ts. */
  readonly answerMaxBytes: number
}

const UNAUTHORIZED = 401
/** Many times a page of large objects: whoever sends more sends no list. */
const ANSWER_MAX = 256 * 1024 * 1024

const DEFAULTS: ClientOptions = { timeoutMs: 15_000, silenceMs: 150_000, answerMaxBytes: ANSWER_MAX }

/** Connects at the first request. @throws config.invalid: the kubeconfig, or a file that it names */
export async function connectKubernetes(
  settings: Pick<KubernetesSettings, 'kubeconfig'> & {
    readonly serviceAccount?: string
  } & Partial<ClientOptions>,
  modules: ClientModules,
): Promise<KubernetesClient> {
  return new Client({ ...DEFAULTS, ...settings }, await Credentials.open(settings, modules), modules)
}

class Client implements KubernetesClient {
  readonly #options: ClientOptions
  readonly #credentials: Credentials
  readonly #clock: Clock
  readonly #onAnswer: (verb: string, code: number) => void
  #link: { material: Material; transport: Transport } | null = null
  readonly #underWay = new Set<Deadline>()
  #closed = false
  #connected = false
  #reason: string | null = 'not connected yet'
  #requests = 0

  constructor(options: ClientOptions, credentials: Credentials, modules: ClientModules) {
    this.#options = options
    this.#credentials = credentials
    this.#clock = modules.clock
    this.#onAnswer = modules.onAnswer ?? (() => {})
  }

  async request<T>(method: string, path: string, options: RequestOptions = {}): Promise<T> {
    const asked = { verb: method, path }
    const deadline = this.#deadline(this.#options.timeoutMs, options.signal)
    try {
      const { answer, on } = await this.#send(asked, options, deadline)
      const text = await this.#read(answer, on, deadline)
      return parseJson(text, on) as T
    } finally {
      this.#release(deadline)
    }
  }

  async watch(
    path: string,
    query: Query,
    onEvent: (event: ObjectEvent) => void,
    signal: AbortSignal,
    onOpen?: () => void,
  ): Promise<void> {
    const deadline = this.#deadline(this.#options.timeoutMs, signal)
    try {
      const asked = { verb: 'WATCH', path }
      const { answer, on } = await this.#send(asked, { query: { ...query, watch: true } }, deadline)
      deadline.restart(this.#options.silenceMs)
      onOpen?.()
      await this.#follow(answer, on, deadline, onEvent)
    } finally {
      this.#release(deadline)
    }
  }

  status(): ConnectionStatus {
    return {
      server: this.#credentials.server,
      connected: this.#connected,
      reason: this.#reason,
      requests: this.#requests,
    }
  }

  close(): void {
    this.#closed = true
    for (const deadline of this.#underWay) deadline.cancel()
    this.#link?.transport.close()
  }

  async #follow(
    answer: IncomingMessage,
    asked: Asked,
    deadline: Deadline,
    onEvent: (event: ObjectEvent) => void,
  ): Promise<void> {
    const lines = new Lines()
    for await (const chunk of this.#chunks(answer, asked, deadline)) {
      deadline.restart(this.#options.silenceMs)
      for (const line of lines.push(chunk)) {
        const event = eventOf(parseJson(line, asked), asked)
        // Told of after the end: the consumer has moved on.
        if (deadline.signal.aborted) throw this.#ended(asked, deadline)
        onEvent(event)
      }
    }
  }

  /** @throws what `request` says; the answer is one of 200 to 299 */
  async #send(
    { verb, path }: Omit<Asked, 'server'>,
    options: RequestOptions,
    deadline: Deadline,
  ): Promise<{ answer: IncomingMessage; on: Asked }> {
    for (let tries = 0; ; tries++) {
      const material = await this.#credentials.current()
      const on = { verb, path, server: material.server }
      const answer = await this.#sendOnce(on, material, options, deadline)
      const status = answer.statusCode as number
      if (status < 300) return { answer, on }
      const failure = refused(on, status, await this.#read(answer, on, deadline), retryAfterMs(answer))
      if (status !== UNAUTHORIZED) throw failure
      if (tries > 0 || !(await this.#credentials.renew(material))) throw this.#unauthorized(failure, material)
    }
  }

  async #sendOnce(
    asked: Asked,
    material: Material,
    options: RequestOptions,
    deadline: Deadline,
  ): Promise<IncomingMessage> {
    const isWatch = asked.verb === 'WATCH'
    const request = {
      method: isWatch ? 'GET' : asked.verb,
      path: asked.path + queryText(options.query),
      headers: headersOf(material, options),
      body: options.body === undefined ? null : JSON.stringify(options.body),
      isWatch,
      signal: deadline.signal,
    }
    for (let tries = 0; ; tries++) {
      this.#requests++
      try {
        const answer = await this.#transport(material).send(request)
        this.#answered(asked.verb, answer.statusCode as number)
        return answer
      } catch (error) {
        this.#onAnswer(asked.verb, 0)
        const isStale = request.method === 'GET' && codeOf(error) === 'ECONNRESET' && tries === 0
        if (deadline.signal.aborted || !isStale) throw this.#noAnswer(error, asked, material, deadline)
      }
    }
  }

  #transport(material: Material): Transport {
    if (this.#link?.material === material) return this.#link.transport
    // That of older material lives for as long as its watches do; its idle connections time out.
    const transport = new Transport(material)
    this.#link = { material, transport }
    return transport
  }

  async #read(answer: IncomingMessage, asked: Asked, deadline: Deadline): Promise<string> {
    const { answerMaxBytes } = this.#options
    const chunks: Buffer[] = []
    let bytes = 0
    for await (const chunk of this.#chunks(answer, asked, deadline)) {
      bytes += chunk.length
      if (bytes > answerMaxBytes)
        throw this.#lost(unavailable(asked, `the answer is longer than ${answerMaxBytes} bytes`, true))
      chunks.push(chunk)
    }
    return Buffer.concat(chunks).toString('utf8')
  }

  async *#chunks(answer: IncomingMessage, asked: Asked, deadline: Deadline): AsyncGenerator<Buffer> {
    try {
      yield* answer as AsyncIterable<Buffer>
    } catch (error) {
      if (deadline.signal.aborted) throw this.#ended(asked, deadline)
      throw this.#lost(unavailable(asked, 'the connection was cut in the middle of the answer', true, error))
    }
  }

  #noAnswer(error: unknown, asked: Asked, material: Material, deadline: Deadline): TwillError {
    const sent = error instanceof NoAnswer && error.sent
    if (deadline.signal.aborted) return this.#ended(asked, deadline, sent)
    const cause = error instanceof NoAnswer ? error.cause : error
    return this.#lost(unavailable(asked, connectionReason(cause, material, sent), sent, cause))
  }

  #ended(asked: Asked, deadline: Deadline, sent = true): TwillError {
    if (!deadline.passed)
      return new TwillError('cancelled', `${asked.verb} ${asked.path}: cancelled`, { sent })
    return this.#lost(unavailable(asked, `silent for ${deadline.ms / 1000} s`, sent))
  }

  #answered(verb: string, status: number): void {
    this.#onAnswer(verb, status)
    if (status === UNAUTHORIZED) return
    this.#connected = true
    this.#reason = null
  }

  #lost(error: TwillError): TwillError {
    this.#connected = false
    this.#reason = String(error.data.reason)
    return error
  }

  /** No answer to what was asked: the server serves whom it knows. */
  #unauthorized(failure: TwillError, { tls, token }: Material): TwillError {
    const why = credentialsReason(tls, token, this.#clock.realtimeMs())
    const { problem } = this.#credentials
    this.#connected = false
    this.#reason = `401: ${why}${problem === null ? '' : `, and ${problem}`}`
    return new TwillError(failure.code, `${failure.message}: ${why}`, failure.data)
  }

  #deadline(ms: number, signal?: AbortSignal): Deadline {
    const deadline = new Deadline(ms, { clock: this.#clock }, signal)
    this.#underWay.add(deadline)
    if (this.#closed) deadline.cancel()
    return deadline
  }

  #release(deadline: Deadline): void {
    this.#underWay.delete(deadline)
    deadline.release()
  }
}

function headersOf({ token }: Material, { body, contentType }: RequestOptions): Record<string, string> {
  return {
    accept: 'application/json',
    'user-agent': `twill/${VERSION}`,
    ...(token === null ? {} : { authorization: `Bearer ${token}` }),
    ...(body === undefined ? {} : { 'content-type': contentType ?? 'application/json' }),
  }
}

function queryText(query: Query | undefined): string {
  const given = new URLSearchParams()
  for (const [name, value] of Object.entries(query ?? {}))
    if (value !== undefined) given.append(name, String(value))
  return given.size === 0 ? '' : `?${given}`
}

/** In seconds; servers send no dates here. */
function retryAfterMs(answer: IncomingMessage): number | null {
  const seconds = Number(answer.headers['retry-after'])
  return Number.isFinite(seconds) && seconds >= 0 ? seconds * 1000 : null
}

function parseJson(text: string, asked: Asked): unknown {
  try {
    return JSON.parse(text)
  } catch (error) {
    throw unavailable(asked, `not the answer of an API server: ${messageOf(error)}`, true, error)
  }
}

/** @throws what an event of type ERROR says; kubernetes.unavailable: it is no event */
function eventOf(line: unknown, asked: Asked): ObjectEvent {
  const { type, object } = (line ?? {}) as {
    type?: unknown
    object?: { metadata?: unknown; code?: number }
  }
  if (type === 'ERROR') throw refused(asked, object?.code ?? 500, object ?? {}, null)
  if (typeof type === 'string' && typeof object?.metadata === 'object' && object.metadata !== null)
    return line as ObjectEvent
  throw unavailable(asked, 'not an event of an API server', true)
}

const codeOf = (error: unknown): unknown =>
  ((error as { cause?: unknown }).cause as { code?: unknown } | undefined)?.code
