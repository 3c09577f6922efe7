/** The local daemon's API over its Unix socket (daemon/api/types.ts). */
import { request } from 'node:http'
import type { AuditReport, Status } from '../daemon/api/types.ts'
import { messageOf, TwillError } from '../lib/errors.ts'

/** A daemon that accepts and then says nothing for this long counts as away. */
const TIMEOUT_MS = 5_000

/** An audit reads the kernel and asks the runtime. */
const AUDIT_TIMEOUT_MS = 60_000

/** @throws internal: nobody answers there, or not with a status; the message names socket and reason */
export function readStatus(socketPath: string, timeoutMs = TIMEOUT_MS): Promise<Status> {
  return ask<Status>(socketPath, 'GET', '/v1/status', timeoutMs)
}

/** @throws internal, as readStatus; also from a daemon that is not far enough yet */
export function readAudit(socketPath: string): Promise<AuditReport> {
  return ask<AuditReport>(socketPath, 'GET', '/v1/audit', AUDIT_TIMEOUT_MS)
}

/** @throws internal, as readAudit */
export function repairNode(socketPath: string, dryRun: boolean): Promise<AuditReport> {
  return ask<AuditReport>(socketPath, 'POST', `/v1/audit/repair${dryRun ? '?dry-run' : ''}`, AUDIT_TIMEOUT_MS)
}

async function ask<T>(
  socketPath: string,
  method: 'GET' | 'POST',
  path: string,
  timeoutMs: number,
): Promise<T> {
  const { code, body } = await fetchText(socketPath, method, path, timeoutMs).catch(error => {
    throw new TwillError(
      'internal',
      `daemon at ${socketPath}: ${reasonOf(error)}`,
      { socketPath },
      { cause: error },
    )
  })
  if (code !== 200)
    throw new TwillError('internal', `daemon at ${socketPath}: answered ${code} to ${path}${saying(body)}`, {
      code,
    })
  try {
    return JSON.parse(body) as T
  } catch (error) {
    throw new TwillError('internal', `daemon at ${socketPath}: not JSON: ${messageOf(error)}`, { socketPath })
  }
}

/** Of the daemon's own words, if it has any. */
function saying(body: string): string {
  try {
    const { error } = JSON.parse(body) as { error?: unknown }
    return typeof error === 'string' ? `: ${error}` : ''
  } catch {
    return ''
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
  method: 'GET' | 'POST',
  path: string,
  timeoutMs: number,
): Promise<{ code: number; body: string }> {
  return new Promise((resolve, reject) => {
    const call = request({ socketPath, method, path, host: 'localhost', agent: false }, response => {
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
