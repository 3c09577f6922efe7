/**
 * etcd3's errors → ours. Invariant: a commit counts as *not made* only if it certainly was not: it never left
 * this process, or the server refuses such calls before it applies anything. All else is in doubt.
 *
 * Trap: "etcdserver: mvcc: database space exceeded" is in doubt. The server applies the put, then answers so.
 */
import {
  EtcdAuthenticationFailedError,
  EtcdInvalidAuthTokenError,
  EtcdPermissionDeniedError,
  GRPCInvalidArgumentError,
  GRPCOutOfRangeError,
  GRPCResourceExhastedError,
} from 'etcd3'
import { messageOf, TwillError } from '../../lib/errors.ts'

/** Of grpc-js, before it has a connection to send on. A wording it no longer uses only makes more doubt. */
const NEVER_SENT = [
  'No connection established',
  'Channel closed before call started',
  'Name resolution failed',
]

const DENIED = [EtcdPermissionDeniedError, EtcdAuthenticationFailedError, EtcdInvalidAuthTokenError]
const REFUSED = [...DENIED, GRPCInvalidArgumentError]

/** grpc-go's words for a request over its limit; grpc-js says "Received …" of an answer, which tells nothing. */
const REQUEST_TOO_LARGE = 'RESOURCE_EXHAUSTED: grpc: received message larger than max'

function isRefused(error: unknown): boolean {
  return REFUSED.some(kind => error instanceof kind) || messageOf(error).includes(REQUEST_TOO_LARGE)
}

function neverHappened(error: unknown): boolean {
  const message = messageOf(error)
  return (
    isRefused(error) || NEVER_SENT.some(text => message.includes(text)) || /too many requests/.test(message)
  )
}

export function unavailable(reason: string, endpoint: string, cause?: unknown): TwillError {
  return new TwillError(
    'store.unavailable',
    `etcd at ${endpoint}: ${reason}`,
    { endpoint, reason },
    { retryable: !isRefused(cause), cause },
  )
}

export function readFailure(error: unknown, endpoint: string): TwillError {
  return error instanceof TwillError ? error : unavailable(messageOf(error), endpoint, error)
}

/** For a commit that was handed to gRPC. */
export function commitFailure(error: unknown, endpoint: string, key: string): TwillError {
  if (error instanceof TwillError) return error
  if (neverHappened(error)) return unavailable(messageOf(error), endpoint, error)
  const reason = messageOf(error)
  return new TwillError(
    'store.in-doubt',
    `etcd at ${endpoint}: commit of ${key} sent, outcome not known: ${reason}`,
    { endpoint, key, reason },
    { retryable: true, cause: error },
  )
}

/** The server answered, and would answer so at any other endpoint too. */
export function isServersAnswer(error: unknown): boolean {
  return isRefused(error) || error instanceof GRPCOutOfRangeError || isTooLarge(error)
}

/** The server lets us do nothing, or not this: to be told as a loss of the store, although it answered. */
export function isDenied(error: unknown): boolean {
  return DENIED.some(kind => error instanceof kind)
}

/** A page holds more than this side accepts. */
export function isTooLarge(error: unknown): boolean {
  return (
    error instanceof GRPCResourceExhastedError && /: Received message larger than max/.test(messageOf(error))
  )
}

/** The revision asked for is compacted away, or (after a restore) yet to come. */
export function isRevisionGone(error: unknown): boolean {
  return error instanceof GRPCOutOfRangeError
}

/** The server ended one watch without compaction: its token or its rights do not suffice. */
export function watchRefused(reason: string, endpoint: string): TwillError {
  const text = reason || 'no reason given'
  return new TwillError(
    'store.unavailable',
    `etcd at ${endpoint}: watch refused: ${text}`,
    { endpoint, reason: text },
    { retryable: true },
  )
}
