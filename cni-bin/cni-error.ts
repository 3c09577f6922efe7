/**
 * An error as the CNI specification has it (section 6 of the checklist, CNI-090 to CNI-104): a numeric code, a
 * short `msg` and an optional longer `details`, both one line, because runtimes join and log them. Which code a
 * TwillError of the daemon becomes is decided in daemon/attach/cni-errors.ts; the codes of invalid requests are
 * given here in cni-bin.
 */

/** CNI-092 to CNI-102. 999 is what runtimes know as an untyped error. */
export const CNI_CODE = {
  incompatibleVersion: 1,
  unsupportedField: 2,
  unknownContainer: 3,
  invalidEnvironment: 4,
  ioFailure: 5,
  decodingFailure: 6,
  invalidNetworkConfig: 7,
  invalidNetns: 8,
  tryAgainLater: 11,
  pluginNotAvailable: 50,
  limitedConnectivity: 51,
  internal: 999,
} as const

export class CniError extends Error {
  /** Non-negative integer. */
  readonly code: number
  readonly details: string

  constructor(code: number, msg: string, details = '') {
    super(oneLine(msg))
    this.name = 'CniError'
    this.code = code
    this.details = oneLine(details)
  }
}

const oneLine = (text: string): string => text.replace(/[\s\u0000-\u001f\u007f]+/g, ' ').trim()

/** Quotes a value of a caller for a message; long ones are cut, since `details` ends in logs and pod events. */
export function quote(value: unknown): string {
  const text = JSON.stringify(value) ?? String(value)
  return text.length > 160 ? `${text.slice(0, 160)}…` : text
}
