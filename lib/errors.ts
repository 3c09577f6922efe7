/**
 * Errors as data. `code` is what callers branch on, `data` is what they print, `retryable` says whether the
 * same call may succeed later without anybody changing anything. CNI error codes are assigned elsewhere, in
 * one place only (daemon/attach/cni-errors.ts).
 */
export type ErrorCode =
  | 'address.invalid'
  | 'config.invalid'
  | 'document.invalid'
  | 'frame.invalid'
  | 'ipam.address-refused'
  | 'ipam.address-taken'
  | 'ipam.exhausted'
  | 'ipam.no-pool'
  | 'ipam.not-confirmed'
  | 'ipam.owner-silent'
  | 'ipam.pool-changed'
  | 'ipam.pool-covers'
  | 'ipam.pool-overlap'
  | 'ipam.record-damaged'
  | 'ipam.identity-refused'
  | 'journal.damaged'
  | 'journal.write-failed'
  | 'kernel.failed'
  | 'kernel.netns-mismatch'
  | 'kernel.netns-gone'
  | 'kernel.interface-exists'
  | 'kubernetes.conflict'
  | 'kubernetes.forbidden'
  | 'kubernetes.gone'
  | 'kubernetes.invalid'
  | 'kubernetes.not-found'
  | 'kubernetes.pod-unknown'
  | 'kubernetes.unauthorized'
  | 'kubernetes.unavailable'
  | 'node.already-running'
  | 'node.name-taken'
  | 'store.unavailable'
  | 'store.in-doubt'
  | 'store.conflict'
  | 'store.foreign-cluster'
  | 'store.compacted'
  | 'store.damaged'
  | 'resource.not-found'
  | 'resource.in-use'
  | 'cancelled'
  | 'internal'

export type ErrorData = Readonly<Record<string, unknown>>

export class TwillError extends Error {
  readonly code: ErrorCode
  readonly data: ErrorData
  readonly retryable: boolean

  constructor(
    code: ErrorCode,
    message: string,
    data: ErrorData = {},
    options: { retryable?: boolean; cause?: unknown } = {},
  ) {
    super(message, options.cause === undefined ? undefined : { cause: options.cause })
    this.name = 'TwillError'
    this.code = code
    this.data = data
    this.retryable = options.retryable ?? false
  }
}

export function isTwillError(error: unknown, code?: ErrorCode): error is TwillError {
  return error instanceof TwillError && (code === undefined || error.code === code)
}

/** One line for a log or a terminal, whatever was thrown. */
export function messageOf(error: unknown): string {
  return error instanceof Error ? error.message : String(error)
}
