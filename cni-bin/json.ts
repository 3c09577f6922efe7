/**
 * Reading JSON that Go programs wrote: keys match without regard to case, the exact one preferred (CNI-047,
 * CNI-201), and null means absent (CNI-048). Every refusal is error 7 and names path, value and what was expected.
 */
import { isIP } from 'node:net'
import { CNI_CODE, CniError, quote } from './cni-error.ts'

export type JsonObject = Record<string, unknown>

export function isObject(value: unknown): value is JsonObject {
  return typeof value === 'object' && value !== null && !Array.isArray(value)
}

/** null when the bytes are not one JSON object. */
export function parseJsonObject(bytes: Uint8Array): JsonObject | null {
  try {
    const value: unknown = JSON.parse(
      Buffer.from(bytes.buffer, bytes.byteOffset, bytes.byteLength).toString(),
    )
    return isObject(value) ? value : null
  } catch {
    return null
  }
}

/** undefined when absent or null. */
export function memberOf(object: JsonObject, key: string): unknown {
  if (Object.hasOwn(object, key)) return object[key] ?? undefined
  const lower = key.toLowerCase()
  const found = Object.keys(object).find(other => other.toLowerCase() === lower)
  return found === undefined ? undefined : (object[found] ?? undefined)
}

export function refuse(path: string, value: unknown, expected: string): CniError {
  return new CniError(
    CNI_CODE.invalidNetworkConfig,
    `invalid network configuration: ${path}`,
    `${path} is ${quote(value)}, expected ${expected}`,
  )
}

/** {} when absent. @throws CniError 7 */
export function objectAt(parent: JsonObject, key: string, path: string): JsonObject {
  const value = memberOf(parent, key)
  if (value === undefined) return {}
  if (!isObject(value)) throw refuse(path, value, 'an object')
  return value
}

/** null when absent or empty. @throws CniError 7 */
export function textAt(parent: JsonObject, key: string, path: string): string | null {
  const value = memberOf(parent, key)
  if (value === undefined || value === '') return null
  if (typeof value !== 'string') throw refuse(path, value, 'text')
  return value
}

/** [] when absent. @throws CniError 7 */
export function listAt(parent: JsonObject, key: string, path: string): readonly unknown[] {
  const value = memberOf(parent, key)
  if (value === undefined) return []
  if (!Array.isArray(value)) throw refuse(path, value, 'a list')
  return value
}

/** @throws CniError 7 */
export function objectsAt(parent: JsonObject, key: string, path: string): readonly JsonObject[] {
  return listAt(parent, key, path).map((value, i) => {
    if (!isObject(value)) throw refuse(`${path}[${i}]`, value, 'an object')
    return value
  })
}

/** @throws CniError 7 */
export function textsAt(parent: JsonObject, key: string, path: string): readonly string[] {
  return listAt(parent, key, path).map((value, i) => {
    if (typeof value !== 'string') throw refuse(`${path}[${i}]`, value, 'text')
    return value
  })
}

/** null when absent; both bounds inclusive; a fraction is refused (CNI-050). @throws CniError 7 */
export function integerAt(
  parent: JsonObject,
  key: string,
  path: string,
  [lowest, highest]: readonly [number, number] = [0, Number.MAX_SAFE_INTEGER],
): number | null {
  const value = memberOf(parent, key)
  if (value === undefined) return null
  if (!Number.isInteger(value) || (value as number) < lowest || (value as number) > highest)
    throw refuse(path, value, `a whole number from ${lowest} to ${highest}`)
  return value as number
}

/** Splits "10.0.0.1" or "10.0.0.1/24"; host bits are allowed. null when it is neither. */
export function splitAddress(text: string): { address: string; prefix: number | null } | null {
  const [address = '', prefix, ...more] = text.split('/')
  const family = isIP(address)
  if (family === 0 || address.includes('%') || more.length > 0) return null
  if (prefix === undefined) return { address, prefix: null }
  if (!/^(0|[1-9]\d{0,2})$/.test(prefix) || Number(prefix) > (family === 4 ? 32 : 128)) return null
  return { address, prefix: Number(prefix) }
}
