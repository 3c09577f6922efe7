/**
 * DELs and GCs that found no daemon wait as files in /var/lib/twill/spool, one each; the daemon drains the folder
 * before its socket opens and watches it afterwards. A file appears whole (written under a dot name, then renamed)
 * and is not changed again; names beginning with a dot are not entries.
 *
 * Invariant: what is spooled touches only attachments begun before it, in the boot it names (`boot`,
 * `boottimeMs`): what was attached later under the same identifiers is another attachment.
 */
import { closeSync, fsyncSync, mkdirSync, openSync, renameSync, unlinkSync, writeSync } from 'node:fs'
import { join } from 'node:path'
import { messageOf, TwillError } from '../lib/errors.ts'
import type { Request } from './frame.ts'
import { isObject, type JsonObject } from './json.ts'

export const SPOOL_FOLDER = '/var/lib/twill/spool'

export interface SpooledDel {
  /** boot_id, ":" and the cookie of the network namespace, as in the journal; '' when it could not be read. */
  readonly boot: string
  /** On the clock of lib/clock.ts `boottimeMs`. */
  readonly boottimeMs: number
  /** Epoch milliseconds. */
  readonly realtimeMs: number
  /** As the daemon would have received it. */
  readonly request: Request
}

const VERSION = 1

/** JSON; stdin in base64, since it need not be text. */
export function encodeSpooled(del: SpooledDel): string {
  const { program, environment, stdin, netnsDev, netnsIno } = del.request
  return `${JSON.stringify({
    version: VERSION,
    boot: del.boot,
    boottimeMs: del.boottimeMs,
    realtimeMs: del.realtimeMs,
    program,
    environment: Object.fromEntries(environment),
    stdin: Buffer.from(stdin).toString('base64'),
    netnsDev,
    netnsIno,
  })}\n`
}

/** @throws document.invalid with field, value and what was expected */
export function decodeSpooled(text: string): SpooledDel {
  const json = parseObject(text)
  if (json.version !== VERSION) throw refuse('version', json.version, String(VERSION))
  const environment = field(json, 'environment', 'an object of texts', isTextRecord)
  return {
    boot: field(json, 'boot', 'text', isText),
    boottimeMs: field(json, 'boottimeMs', 'a number', isNumber),
    realtimeMs: field(json, 'realtimeMs', 'a number', isNumber),
    request: {
      program: field(json, 'program', 'text', isText),
      environment: new Map(Object.entries(environment)),
      stdin: Buffer.from(field(json, 'stdin', 'base64', isText), 'base64'),
      netnsDev: field(json, 'netnsDev', 'text or null', isTextOrNull),
      netnsIno: field(json, 'netnsIno', 'text or null', isTextOrNull),
    },
  }
}

function parseObject(text: string): JsonObject {
  try {
    const json: unknown = JSON.parse(text)
    if (isObject(json)) return json
  } catch {
    // Refused below.
  }
  throw refuse('file', text.slice(0, 80), 'one JSON object')
}

const isText = (value: unknown): value is string => typeof value === 'string'
const isNumber = (value: unknown): value is number => typeof value === 'number'
const isTextOrNull = (value: unknown): value is string | null => value === null || isText(value)
const isTextRecord = (value: unknown): value is Record<string, string> =>
  isObject(value) && Object.values(value).every(isText)

function field<T>(json: JsonObject, name: string, expected: string, is: (value: unknown) => value is T): T {
  const value = json[name]
  if (!is(value)) throw refuse(name, value, expected)
  return value
}

function refuse(name: string, value: unknown, expected: string): TwillError {
  return new TwillError(
    'document.invalid',
    `spooled DEL: ${name} is ${JSON.stringify(value)}, expected ${expected}`,
    { field: name, value, expected },
  )
}

/** True for the names of entries; others are being written, or not ours. */
export const isSpoolEntry = (fileName: string): boolean => /^[^.].*\.json$/.test(fileName)

/** The same, and what was refused, is being written, or was when its writer was killed. */
export const isSpoolFile = (fileName: string): boolean =>
  isSpoolEntry(fileName) || /^\.(.*\.tmp|refused-.*\.json)$/.test(fileName)

/**
 * Writes the entry so that it survives a power failure, and answers its path. `name` is without ".json" and
 * unlike that of any other entry.
 * @throws journal.write-failed
 */
export function writeSpooled(folder: string, name: string, del: SpooledDel): string {
  const path = join(folder, `${name}.json`)
  const temporary = join(folder, `.${name}.tmp`)
  try {
    mkdirSync(folder, { recursive: true, mode: 0o700 })
    writeDurably(temporary, encodeSpooled(del))
    renameSync(temporary, path)
    syncFolder(folder)
    return path
  } catch (error) {
    throw new TwillError(
      'journal.write-failed',
      `the spool ${folder} cannot be written: ${messageOf(error)}`,
      {
        folder,
      },
    )
  }
}

function writeDurably(path: string, text: string): void {
  const fd = openSync(path, 'w', 0o600)
  try {
    const bytes = Buffer.from(text)
    for (let at = 0; at < bytes.length; ) at += writeSync(fd, bytes, at)
    fsyncSync(fd)
  } finally {
    closeSync(fd)
  }
}

function syncFolder(folder: string): void {
  const fd = openSync(folder, 'r')
  try {
    fsyncSync(fd)
  } finally {
    closeSync(fd)
  }
}

/** Succeeds also when the daemon has taken it. */
export function removeSpooled(path: string): void {
  try {
    unlinkSync(path)
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code !== 'ENOENT') throw error
  }
}
