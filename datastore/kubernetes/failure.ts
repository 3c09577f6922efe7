/**
 * What the API server and the way to it answer → typed errors. Each names verb, path and server.
 *
 * Invariant: `data.sent` is false only where the request certainly changed nothing: it never left this process, or the
 * server refuses such requests before it does anything. With `kubernetes.unavailable` and `sent: true` a change may
 * have been made, or may be yet.
 */
import { X509Certificate } from 'node:crypto'
import { type ErrorCode, isTwillError, messageOf, TwillError } from '../../lib/errors.ts'
import { certificateCause } from '../tls.ts'
import type { Tls } from './credentials.ts'

export interface Asked {
  /** GET, POST, ..., or WATCH. */
  readonly verb: string
  readonly path: string
  readonly server: string
}

/** metav1.Status, as far as it is looked at. */
interface Status {
  readonly message?: string
  readonly reason?: string
  readonly code?: number
  readonly details?: unknown
}

type KubernetesCode = Extract<ErrorCode, `kubernetes.${string}`>

const CODES: Readonly<Record<number, KubernetesCode>> = {
  400: 'kubernetes.invalid',
  401: 'kubernetes.unauthorized',
  403: 'kubernetes.forbidden',
  404: 'kubernetes.not-found',
  405: 'kubernetes.invalid',
  406: 'kubernetes.invalid',
  409: 'kubernetes.conflict',
  410: 'kubernetes.gone',
  413: 'kubernetes.invalid',
  415: 'kubernetes.invalid',
  422: 'kubernetes.invalid',
}

const TOO_MANY_REQUESTS = 429

/** @param body of the answer, or the object of a watch's ERROR event. @param retryAfterMs as the server wishes */
export function refused(
  asked: Asked,
  status: number,
  body: string | object,
  retryAfterMs: number | null,
): TwillError {
  const { message, reason, details } = statusOf(body)
  const code = CODES[status] ?? 'kubernetes.unavailable'
  const data = { ...asked, status, reason, details, retryAfterMs, sent: status >= 500 }
  const said = message ?? (typeof body === 'string' ? body.trim().slice(0, 200) : '')
  return new TwillError(code, `${nameOf(asked)}: ${status}${said === '' ? '' : ` ${said}`}`, data, {
    retryable: code === 'kubernetes.unavailable' || status === TOO_MANY_REQUESTS,
  })
}

/**
 * The API server says that there is no such object. Any other 404, of a path that is not served or of a balancer in front of
 * the server, says nothing of objects.
 */
export const isAbsent = (error: unknown): boolean =>
  isTwillError(error, 'kubernetes.not-found') && error.data.reason === 'NotFound'

/** @param sent whether the server may have got it */
export function unavailable(asked: Asked, reason: string, sent: boolean, cause?: unknown): TwillError {
  const data = { ...asked, reason, sent }
  return new TwillError('kubernetes.unavailable', `${nameOf(asked)}: ${reason}`, data, {
    retryable: true,
    cause,
  })
}

const nameOf = ({ verb, path, server }: Asked) => `${verb} ${path} at ${server}`

/** Text of a proxy, or nothing at all, is no Status. */
function statusOf(body: string | object): Status {
  if (typeof body === 'object') return body as Status
  try {
    const parsed = JSON.parse(body)
    return parsed?.kind === 'Status' ? parsed : {}
  } catch {
    return {}
  }
}

const CONNECTION_CAUSES: Readonly<Record<string, string>> = {
  ECONNREFUSED: 'connection refused: nothing listens there',
  ECONNRESET: 'the connection was reset',
  EHOSTUNREACH: 'no route to the host',
  ENETUNREACH: 'no route to its network',
  ENOTFOUND: 'its name is not known',
  EAI_AGAIN: 'its name could not be looked up',
  ETIMEDOUT: 'the connection timed out',
}

/**
 * Why there is no connection, or none any more, in the words of a kubeconfig.
 * @param made whether there was one, with its TLS agreed
 */
export function connectionReason(
  error: unknown,
  { server, tls }: { server: string; tls: Tls },
  made: boolean,
): string {
  const said = messageOf(error)
  const code = (error as { code?: string }).code ?? ''
  const authority =
    tls.ca === undefined ? 'the system (no certificate-authority is given)' : 'certificate-authority'
  const cause = certificateCause(said, authority)
  if (cause !== null) return cause
  if (/wrong version number|packet length too long/.test(said))
    return 'it does not speak TLS: is it http there?'
  // Node says so of an orderly end and of a reset with one code, and of a server that does not want TLS with either.
  if (code === 'ECONNRESET' && !made && server.startsWith('https:'))
    return 'it closed the connection before TLS was agreed: is it http there?'
  return CONNECTION_CAUSES[code] ?? said
}

/** What the server does not say of credentials that it does not take (401). @param nowMs REALTIME */
export function credentialsReason(tls: Tls, token: string | null, nowMs: number): string {
  if (token !== null) return tokenReason(token, nowMs)
  if (tls.cert === undefined) return 'the kubeconfig has neither a token nor a client-certificate'
  const { validTo } = new X509Certificate(tls.cert)
  if (Date.parse(validTo) < nowMs) return `the client-certificate expired on ${validTo}`
  return 'is the client-certificate signed by an authority that the server trusts?'
}

/** Its claims are read for the message alone. */
function tokenReason(token: string, nowMs: number): string {
  try {
    const claims = JSON.parse(Buffer.from(token.split('.')[1] ?? '', 'base64url').toString('utf8'))
    if (typeof claims.exp === 'number' && claims.exp * 1000 < nowMs)
      return `the token expired at ${new Date(claims.exp * 1000).toISOString()}`
  } catch {
    // Not every token is a JSON web token.
  }
  return 'the server does not know the token'
}
