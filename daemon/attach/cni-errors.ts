/**
 * The one place where the daemon's errors become CNI error codes (CNI-090 to CNI-104). 11 tells the runtime to try
 * again; it is given exactly when a retry may succeed without anybody changing anything.
 */
import { CNI_CODE, CniError } from '../../cni-bin/cni-error.ts'
import { type ErrorCode, messageOf, TwillError } from '../../lib/errors.ts'

/** Codes of our own begin at 100 (CNI-102). */
export const OWN_CODE = { checkFailed: 100, interfaceExists: 101, exhausted: 102, noPool: 103 } as const

const CODES: Partial<Record<ErrorCode, number>> = {
  'kernel.netns-gone': CNI_CODE.invalidEnvironment,
  'kernel.netns-mismatch': CNI_CODE.invalidNetns,
  'kernel.interface-exists': OWN_CODE.interfaceExists,
  'ipam.exhausted': OWN_CODE.exhausted,
  'ipam.no-pool': OWN_CODE.noPool,
  'address.invalid': CNI_CODE.invalidNetworkConfig,
  'ipam.address-refused': CNI_CODE.invalidNetworkConfig,
  'ipam.address-taken': CNI_CODE.invalidNetworkConfig,
  'journal.write-failed': CNI_CODE.ioFailure,
}

export function toCniError(error: unknown): CniError {
  if (error instanceof CniError) return error
  if (!(error instanceof TwillError)) return new CniError(CNI_CODE.internal, messageOf(error))
  const own = CODES[error.code]
  if (own !== undefined) return new CniError(own, error.message)
  return new CniError(error.retryable ? CNI_CODE.tryAgainLater : CNI_CODE.internal, error.message)
}

/** ADD cannot be served yet; the runtime tries again (code 11). */
export function notReady(reason: string): TwillError {
  return new TwillError('ipam.not-confirmed', reason, {}, { retryable: true })
}
