/**
 * HTTP to one API server with one set of credentials: no retries, no interpretation, no time-outs of its own.
 *
 * HTTP/1.1: calls share a few connections that are kept, each watch has its own, so that a cut one ends one watch.
 */
import { Agent as HttpAgent, request as httpRequest, type IncomingMessage } from 'node:http'
import { Agent as HttpsAgent, request as httpsRequest } from 'node:https'
import { isIP, type Socket } from 'node:net'
import { checkServerIdentity, type PeerCertificate, type TLSSocket } from 'node:tls'
import type { Tls } from './credentials.ts'

const CALL_CONNECTIONS = 8
/** Under what servers and balancers wait, so that a call seldom meets a connection just closed by the other end. */
const IDLE_MS = 30_000
/** TCP's: after this silence ten probes, a second apart. */
const KEEPALIVE_MS = 15_000

export interface HttpRequest {
  readonly method: string
  /** With its query. */
  readonly path: string
  readonly headers: Readonly<Record<string, string>>
  readonly body: string | null
  readonly isWatch: boolean
  readonly signal: AbortSignal
}

/** Nothing came back. */
export class NoAnswer extends Error {
  /** Whether the server may have got the request. */
  readonly sent: boolean
  constructor(cause: unknown, sent: boolean) {
    super(cause instanceof Error ? cause.message : String(cause), { cause })
    this.sent = sent
  }
}

export class Transport {
  readonly #options: { server: string; tls: Tls }
  readonly #calls: HttpAgent
  readonly #watches: HttpAgent

  constructor(options: { server: string; tls: Tls }) {
    this.#options = options
    const { ca, cert, key, serverName, insecure } = options.tls
    const tls = {
      ...(ca && { ca }),
      ...(cert && { cert }),
      ...(key && { key }),
      ...(serverName === undefined ? {} : named(serverName)),
      rejectUnauthorized: !insecure,
    }
    const Agent = options.server.startsWith('https:') ? HttpsAgent : HttpAgent
    this.#calls = new Agent({ ...tls, keepAlive: true, maxSockets: CALL_CONNECTIONS, timeout: IDLE_MS })
    this.#watches = new Agent({ ...tls, keepAlive: false })
  }

  /** Resolves with the head of the answer. @throws NoAnswer */
  send(request: HttpRequest): Promise<IncomingMessage> {
    const { method, path, headers, body, isWatch, signal } = request
    const send = this.#options.server.startsWith('https:') ? httpsRequest : httpRequest
    const agent = isWatch ? this.#watches : this.#calls
    return new Promise((resolve, reject) => {
      let connected = false
      const onConnect = () => {
        connected = true
      }
      // Node leaves it out with DELETE, and the server takes the body for the next request.
      const length = body === null ? {} : { 'content-length': String(Buffer.byteLength(body)) }
      const outgoing = send(
        `${this.#options.server}${path}`,
        { method, headers: { ...headers, ...length }, agent, signal },
        resolve,
      )
      outgoing.on('socket', (socket: Socket) => {
        socket.setKeepAlive(true, KEEPALIVE_MS)
        // One that was handed on by another request is connected (`reusedSocket` says so of idle ones only).
        if (!socket.connecting) onConnect()
        else socket.once(isTls(socket) ? 'secureConnect' : 'connect', onConnect)
      })
      outgoing.on('error', error => reject(new NoAnswer(error, connected)))
      outgoing.end(body ?? undefined)
    })
  }

  /** Cuts what is under way. */
  close(): void {
    this.#calls.destroy()
    this.#watches.destroy()
  }
}

/** An address is no name to ask for (RFC 6066), yet a certificate may be for it. */
const named = (serverName: string) => ({
  ...(isIP(serverName) === 0 ? { servername: serverName } : {}),
  checkServerIdentity: (_host: string, certificate: PeerCertificate) =>
    checkServerIdentity(serverName, certificate),
})

const isTls = (socket: Socket): socket is TLSSocket => 'encrypted' in socket
