/**
 * The frame between the executable and the daemon, over the stream socket /run/twill/cni.sock. The conduit (C)
 * writes it without a parser; conduit.c has the same layout. One request, one answer, one connection.
 *
 *   request                                       answer
 *   0   4  magic "TWL1"                           0  4  exit status (u32, little endian)
 *   4   4  length of the entries (u32 LE)         4  4  length of the text (u32 LE)
 *   8   4  length of stdin (u32 LE)               8  …  what to print on stdout
 *   12  4  reserved, 0
 *   16  8  device of the namespace (u64 LE)       device and inode are 0 when CNI_NETNS is empty
 *   24  8  inode of the namespace (u64 LE)        or could not be opened
 *   32  …  entries: the name the executable was called by, then each CNI_* of the environment as NAME=value,
 *          each ended by NUL
 *       …  stdin
 *
 * The client keeps its side open until the answer is there: end of input before that means that it has gone.
 */
import { TwillError } from '../lib/errors.ts'

export const MAGIC = 'TWL1'
export const HEADER_BYTES = 32
export const MAX_ENTRIES_BYTES = 256 * 1024
export const MAX_STDIN_BYTES = 4 * 1024 * 1024

export interface Request {
  /** Base name the executable was called by. */
  readonly program: string
  readonly environment: ReadonlyMap<string, string>
  readonly stdin: Uint8Array
  /** Decimal; null when the client opened no namespace. */
  readonly netnsDev: string | null
  readonly netnsIno: string | null
}

export interface Answer {
  readonly status: number
  readonly stdout: string
}

function refuse(field: string, value: unknown, expected: string): TwillError {
  return new TwillError(
    'frame.invalid',
    `request frame: ${field} is ${String(value)}, expected ${expected}`,
    { field, value, expected },
  )
}

/** Bytes the whole request takes, or null while fewer than a header are there. @throws frame.invalid */
export function requestLength(bytes: Buffer): number | null {
  if (bytes.length >= 4 && bytes.toString('latin1', 0, 4) !== MAGIC)
    throw refuse('magic', JSON.stringify(bytes.toString('latin1', 0, 4)), `"${MAGIC}"`)
  if (bytes.length < HEADER_BYTES) return null
  const entries = bytes.readUInt32LE(4)
  const stdin = bytes.readUInt32LE(8)
  if (entries > MAX_ENTRIES_BYTES) throw refuse('entries length', entries, `at most ${MAX_ENTRIES_BYTES}`)
  if (stdin > MAX_STDIN_BYTES) throw refuse('stdin length', stdin, `at most ${MAX_STDIN_BYTES}`)
  return HEADER_BYTES + entries + stdin
}

/** `bytes` is one whole request. @throws frame.invalid */
export function decodeRequest(bytes: Buffer): Request {
  const length = requestLength(bytes)
  if (length === null || bytes.length !== length)
    throw refuse('length', bytes.length, String(length ?? HEADER_BYTES))
  const entriesEnd = HEADER_BYTES + bytes.readUInt32LE(4)
  const [program, ...variables] = decodeEntries(bytes.subarray(HEADER_BYTES, entriesEnd))
  const dev = bytes.readBigUInt64LE(16)
  const ino = bytes.readBigUInt64LE(24)
  return {
    program: program as string,
    environment: new Map(variables.map(splitVariable)),
    stdin: bytes.subarray(entriesEnd),
    netnsDev: ino === 0n ? null : dev.toString(),
    netnsIno: ino === 0n ? null : ino.toString(),
  }
}

function decodeEntries(bytes: Buffer): string[] {
  if (bytes.length === 0 || bytes[bytes.length - 1] !== 0)
    throw refuse('entries', 'unterminated', 'text ended by NUL')
  return bytes.toString('utf8', 0, bytes.length - 1).split('\0')
}

function splitVariable(entry: string): [string, string] {
  const equals = entry.indexOf('=')
  if (equals < 1) throw refuse('entry', JSON.stringify(entry), 'NAME=value')
  return [entry.slice(0, equals), entry.slice(equals + 1)]
}

export function encodeRequest(request: Request): Buffer {
  const entries = Buffer.from(
    [request.program, ...[...request.environment].map(([name, value]) => `${name}=${value}`)]
      .map(entry => `${entry}\0`)
      .join(''),
  )
  const header = Buffer.alloc(HEADER_BYTES)
  header.write(MAGIC, 'latin1')
  header.writeUInt32LE(entries.length, 4)
  header.writeUInt32LE(request.stdin.length, 8)
  header.writeBigUInt64LE(BigInt(request.netnsDev ?? 0), 16)
  header.writeBigUInt64LE(BigInt(request.netnsIno ?? 0), 24)
  return Buffer.concat([header, entries, request.stdin])
}

export function encodeAnswer(answer: Answer): Buffer {
  const text = Buffer.from(answer.stdout)
  const header = Buffer.alloc(8)
  header.writeUInt32LE(answer.status, 0)
  header.writeUInt32LE(text.length, 4)
  return Buffer.concat([header, text])
}

/** null while the answer is not complete. */
export function decodeAnswer(bytes: Buffer): Answer | null {
  if (bytes.length < 8) return null
  const length = bytes.readUInt32LE(4)
  if (bytes.length < 8 + length) return null
  return { status: bytes.readUInt32LE(0), stdout: bytes.toString('utf8', 8, 8 + length) }
}
