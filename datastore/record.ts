/**
 * Text of a record → value, telling the damaged from the merely newer. Neither may be overwritten by one who
 * cannot read it.
 */
import type { z } from 'zod'
import { messageOf, TwillError } from '../lib/errors.ts'

export type RecordProblem = 'damaged' | 'newer'

/** Format version that this build writes and reads: the `v` of every record. */
export const RECORD_VERSION = 1

/**
 * A parser for records of this schema, as a Mirror takes it.
 * The parser throws document.invalid with data {key, problem: RecordProblem}.
 */
export function recordParser<T>(schema: z.ZodType<T>): (text: string, key: string) => T {
  return (text, key) => {
    const json = parseJson(text, key)
    const version = versionOf(json)
    if (version !== null && version > RECORD_VERSION)
      throw invalid(key, 'newer', `format version ${version}, this build knows ${RECORD_VERSION}`)
    const result = schema.safeParse(json)
    if (result.success) return result.data
    const [issue] = result.error.issues
    throw invalid(key, 'damaged', `${issue?.path.join('.') || 'record'}: ${issue?.message}`)
  }
}

function parseJson(text: string, key: string): unknown {
  try {
    return JSON.parse(text)
  } catch (error) {
    throw invalid(key, 'damaged', messageOf(error))
  }
}

function versionOf(json: unknown): number | null {
  const version = typeof json === 'object' && json !== null && 'v' in json ? json.v : null
  return typeof version === 'number' ? version : null
}

function invalid(key: string, problem: RecordProblem, why: string): TwillError {
  return new TwillError('document.invalid', `record ${key} is ${problem}: ${why}`, { key, problem })
}
