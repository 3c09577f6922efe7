/**
 * Versions of the CNI specification that Twill speaks. Matching is by exact text (CNI-061): "1.0" is not "1.0.0".
 */
import { CNI_CODE, CniError, quote } from './cni-error.ts'
import { memberOf, parseJsonObject } from './json.ts'

export const SUPPORTED_VERSIONS = ['0.3.0', '0.3.1', '0.4.0', '1.0.0', '1.1.0'] as const
export type CniVersion = (typeof SUPPORTED_VERSIONS)[number]
export const NEWEST_VERSION: CniVersion = '1.1.0'

/** What a configuration without cniVersion means (CNI-063). */
const IMPLIED_VERSION = '0.1.0'

/** The first version that has the verb (CNI-066); others always were. */
const VERB_SINCE: ReadonlyMap<string, readonly number[]> = new Map([
  ['CHECK', [0, 4, 0]],
  ['GC', [1, 1, 0]],
  ['STATUS', [1, 1, 0]],
])

export function isSupportedVersion(text: unknown): text is CniVersion {
  return (SUPPORTED_VERSIONS as readonly unknown[]).includes(text)
}

/** The configuration's version for `command`. @throws CniError 6 (not a version), 1 (verb or version unsupported) */
export function negotiateVersion(config: Record<string, unknown>, command: string): CniVersion {
  const value = memberOf(config, 'cniVersion') ?? IMPLIED_VERSION
  if (typeof value !== 'string')
    throw new CniError(CNI_CODE.decodingFailure, 'cniVersion: expected text', `cniVersion is ${quote(value)}`)
  const version = value === '' ? IMPLIED_VERSION : value
  refuseVerbBeforeItsTime(version, command)
  if (isSupportedVersion(version)) return version
  throw new CniError(
    CNI_CODE.incompatibleVersion,
    'incompatible CNI versions',
    `config is ${quote(version)}, plugin supports ${JSON.stringify(SUPPORTED_VERSIONS)}`,
  )
}

function refuseVerbBeforeItsTime(version: string, command: string): void {
  const since = VERB_SINCE.get(command)
  if (since === undefined) return
  const parts = version.split('.')
  if (parts.length > 3 || !parts.every(part => /^\d+$/.test(part)))
    throw new CniError(
      CNI_CODE.decodingFailure,
      'cniVersion: expected numbers such as 1.1.0',
      `cniVersion is ${quote(version)}`,
    )
  if (compareVersions(parts.map(Number), since) < 0)
    throw new CniError(
      CNI_CODE.incompatibleVersion,
      `config version does not allow ${command}`,
      `config is ${quote(version)}, plugin supports ${JSON.stringify(SUPPORTED_VERSIONS)}, ${command} is from ${since.join('.')}`,
    )
}

function compareVersions(a: readonly number[], b: readonly number[]): number {
  for (let i = 0; i < 3; i++) {
    const difference = (a[i] ?? 0) - (b[i] ?? 0)
    if (difference !== 0) return difference
  }
  return 0
}

/**
 * The version to answer in when the request may be invalid: the one asked for if it is ours, else our newest
 * (CNI-065, CNI-181). Never throws.
 */
export function versionInUse(stdin: Uint8Array): CniVersion {
  const config = parseJsonObject(stdin)
  const version = config === null ? undefined : memberOf(config, 'cniVersion')
  return isSupportedVersion(version) ? version : NEWEST_VERSION
}
