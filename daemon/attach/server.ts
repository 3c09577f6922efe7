/**
 * The socket that the CNI executable speaks to: one frame in, one answer out, one connection each (cni-bin/frame.ts).
 * A client that closes before its answer has gone; what it asked for is undone. Junk costs a connection, never more:
 * a frame is refused as soon as its header shows that it is none.
 */
import { chmod, unlink } from 'node:fs/promises'
import { createServer, type Server, type Socket } from 'node:net'
import { type Answer, decodeRequest, encodeAnswer, type Request, requestLength } from '../../cni-bin/frame.ts'
import { messageOf } from '../../lib/errors.ts'
import type { Log } from '../../lib/log.ts'

/** Whether the client went away before its answer. No AbortSignal: one costs as much as parsing the request. */
export interface Gone {
  readonly aborted: boolean
}

export type Serve = (request: Request, gone: Gone) => Promise<Answer>

export interface CniServerModules {
  readonly serve: Serve
  /** The answer could not be delivered: undo what it reports. */
  readonly undelivered: (request: Request) => Promise<void>
  readonly delivered: (request: Request) => void
  readonly log: Log
}

/** A client that connects and does not finish its frame is dropped after this long. */
const FRAME_TIMEOUT_MS = 10_000

export class CniServer {
  readonly #path: string
  readonly #modules: CniServerModules
  readonly #server: Server
  readonly #open = new Set<Socket>()

  constructor(options: { path: string }, modules: CniServerModules) {
    this.#path = options.path
    this.#modules = modules
    this.#server = createServer({ allowHalfOpen: true }, socket => this.#accept(socket))
  }

  async listen(): Promise<void> {
    await listenPrivately(this.#server, this.#path)
  }

  /** Takes no more requests; those under way are answered. */
  async close(): Promise<void> {
    await new Promise<void>(resolve => {
      this.#server.close(() => resolve())
    })
  }

  #accept(socket: Socket): void {
    this.#open.add(socket)
    const gone = { aborted: false }
    socket.setTimeout(FRAME_TIMEOUT_MS, () => socket.destroy())
    socket.on('error', error =>
      this.#modules.log.debug({ error: messageOf(error) }, 'a connection of the CNI socket broke'),
    )
    socket.on('close', () => {
      this.#open.delete(socket)
      gone.aborted = true
    })
    socket.on('end', () => {
      gone.aborted = true
    })
    let received = Buffer.alloc(0)
    socket.on('data', chunk => {
      received = received.length === 0 ? chunk : Buffer.concat([received, chunk])
      try {
        const length = requestLength(received)
        if (length === null || received.length < length) return
        const request = decodeRequest(received)
        socket.setTimeout(0)
        socket.removeAllListeners('data')
        socket.resume()
        this.#answer(socket, request, gone).catch(error => {
          this.#modules.log.error(
            { error: messageOf(error) },
            'an answer that nobody took could not be undone',
          )
          socket.destroy()
        })
      } catch (error) {
        this.#modules.log.warn({ error: messageOf(error) }, 'a request on the CNI socket was refused')
        socket.destroy()
      }
    })
  }

  async #answer(socket: Socket, request: Request, gone: Gone): Promise<void> {
    const answer = await this.#modules.serve(request, gone)
    const delivered = !gone.aborted && (await writeAll(socket, encodeAnswer(answer)))
    if (delivered) this.#modules.delivered(request)
    else if (answer.status === 0) await this.#modules.undelivered(request)
    socket.destroy()
  }
}

/** False when the peer is gone: a write to a Unix socket whose peer has closed fails at once. */
function writeAll(socket: Socket, bytes: Buffer): Promise<boolean> {
  return new Promise(resolve => {
    socket.end(bytes, (error?: Error | null) => resolve(!error))
  })
}

/** Listens at the path with mode 0600, over whatever an earlier process left there. */
export async function listenPrivately(server: Server, path: string): Promise<void> {
  await unlink(path).catch(() => undefined)
  const mask = process.umask(0o177)
  try {
    await new Promise<void>((resolve, reject) => {
      server.once('error', reject)
      server.listen(path, () => {
        server.removeListener('error', reject)
        resolve()
      })
    })
  } finally {
    process.umask(mask)
  }
  await chmod(path, 0o600)
}
