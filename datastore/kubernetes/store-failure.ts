/**
 * Errors of the API server → what a Store rejects with. Invariant: a commit counts as *not made* only if it certainly was
 * not (`data.sent` of failure.ts, or an answer by which the server refuses before it does anything).
 */
import { isTwillError, TwillError } from '../../lib/errors.ts'

export const APPLY_DEFINITIONS = 'kubectl apply -f deploy/crds'

/** Tried again, it says the same. Rights and credentials are given and renewed while a daemon runs. */
const FINAL = 'kubernetes.invalid'

/** The path itself is not served, which the server says in plain words. */
export const isUnserved = (error: TwillError): boolean =>
  error.code === 'kubernetes.not-found' && error.data.reason === undefined

export const readFailure = (error: unknown): TwillError => {
  if (!isTwillError(error) || !error.code.startsWith('kubernetes.')) return asUnavailable(error, true)
  if (isUnserved(error)) return definitionsMissing(error)
  return asUnavailable(error, error.code !== FINAL)
}

export function commitFailure(error: unknown, key: string): TwillError {
  const sent = isTwillError(error) && error.data.sent === true
  if (!sent || !isTwillError(error, 'kubernetes.unavailable')) return readFailure(error)
  const message = `commit of ${key} sent, outcome not known: ${error.message}`
  return new TwillError('store.in-doubt', message, { key }, { retryable: true, cause: error })
}

function asUnavailable(error: unknown, retryable: boolean): TwillError {
  if (isTwillError(error) && /^(store|document)\./.test(error.code)) return error
  const message = error instanceof Error ? error.message : String(error)
  return new TwillError('store.unavailable', message, { reason: message }, { retryable, cause: error })
}

export function definitionsMissing(error: TwillError): TwillError {
  const message = `${error.message}: the API server has no such kind: ${APPLY_DEFINITIONS}`
  return new TwillError(
    'store.unavailable',
    message,
    { path: error.data.path },
    { retryable: true, cause: error },
  )
}

/** Of a read before the write: no answer to it leaves nothing in doubt. */
export function nothingSent(error: unknown): never {
  if (!isTwillError(error, 'kubernetes.unavailable')) throw error
  throw new TwillError(
    error.code,
    error.message,
    { ...error.data, sent: false },
    { retryable: true, cause: error },
  )
}

/** Such a read found another revision than was expected, or nothing. */
export const changedMeanwhile = (key: string): TwillError =>
  new TwillError('kubernetes.conflict', `${key}: changed meanwhile`, { key, reason: 'Conflict' })
