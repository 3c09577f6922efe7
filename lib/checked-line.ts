/**
 * Records in a file, one per line, each under a checksum: `<crc32 of the text, 8 hex digits> <JSON>\n`. A line that
 * was torn or has changed on disk is told from a whole one.
 */
import { crc32 } from 'node:zlib'

const checksum = (text: string) => crc32(text).toString(16).padStart(8, '0')

export function encodeLine(record: unknown): string {
  const text = JSON.stringify(record)
  return `${checksum(text)} ${text}\n`
}

/** @param line without its end; null: damaged */
export function decodeLine(line: string): { readonly record: unknown } | null {
  const body = line.slice(9)
  return line[8] === ' ' && checksum(body) === line.slice(0, 8) ? { record: JSON.parse(body) } : null
}
