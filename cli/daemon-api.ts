/** The local daemon's API over its Unix socket (daemon/api/types.ts). */
import { request } from 'node:http'
import type { Status } from '../daemon/api/types.ts'
import { messageOf, TwillError } from '../lib/errors.ts'

/** A daemon that accepts and then says nothing for this long counts as away. */
const TIMEOUT_MS = 5_000

/** @throws internal: nobody answers there, or not with a status; the message names socket and reason */
export async function readStatus(socketPath: string, timeoutMs = TIMEOUT_MS): Promise<Status> {
  const { code, body } = await fetchText(socketPath, '/v1/status', timeoutMs).catch(error => {
    throw new TwillError(
      'internal',
      `daemon at ${socketPath}: ${reasonOf(error)}`,
      { socketPath },
      { cause: error },
    )
  })
  if (code !== 200)
    throw new TwillError('internal', `daemon at ${socketPath}: answered ${code} to /v1/status`, { code })
  try {
    return JSON.parse(body) as Status
  } catch (error) {
    throw new TwillError('internal', `daemon at ${socketPath}: not JSON: ${messageOf(error)}`, { socketPath })
  }
}

function reasonOf(error: unknown): string {
  const code = (error as NodeJS.ErrnoException).code
  if (code === 'ENOENT') return 'no such socket: is twilld running?'
  if (code === 'ECONNREFUSED') return 'nobody listens: twilld has stopped'
  if (code === 'EACCES') return 'permission denied: expected root'
  return messageOf(error)
}

function fetchText(
  socketPath: string,
  path: string,
  timeoutMs: number,
): Promise<{ code: number; body: string }> {
  return new Promise((resolve, reject) => {
    const call = request({ socketPath, path, host: 'localhost', agent: false }, response => {
      const chunks: Buffer[] = []
      response.on('data', chunk => chunks.push(chunk))
      response.on('error', reject)
      response.on('end', () =>
        resolve({ code: response.statusCode ?? 0, body: Buffer.concat(chunks).toString('utf8') }),
      )
    })
    call.setTimeout(timeoutMs, () => call.destroy(new Error(`no answer for ${timeoutMs / 1000} s`)))
    call.on('error', reject)
    call.end()
  })
}
