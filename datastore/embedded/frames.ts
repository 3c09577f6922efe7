/**
 * The log's format: lines of lib/checked-line. The first is a checkpoint, each further one a *frame*: the changes
 * of one group commit, so that either all of them were made durable or none.
 *
 *   {"v":1,"revision":R,"entries":[[key,value,modRevision],...]}
 *   {"r":R+1,"changes":[[key,value|null],...]}           revisions R+1, R+2, ...
 *
 * Only the last frame can be torn, since the next one is written when it is known to be whole. One that is
 * damaged with whole ones behind it was damaged later, and nothing is guessed from it.
 */
import { z } from 'zod'
import { decodeLine, encodeLine } from '../../lib/checked-line.ts'
import { TwillError } from '../../lib/errors.ts'
import type { MemorySnapshot } from '../memory/cluster.ts'
import { RECORD_VERSION } from '../record.ts'
import type { KeyValue } from '../store.ts'

/** value null: deleted. */
export interface Change {
  readonly key: string
  readonly value: string | null
}

export interface LogContents {
  readonly state: MemorySnapshot
  /** Bytes of whole lines; what is behind was torn. */
  readonly length: number
}

const checkpoint = z.object({
  v: z.literal(RECORD_VERSION),
  revision: z.number().int().min(1),
  entries: z.array(z.tuple([z.string(), z.string(), z.number().int().min(1)])),
})

const frame = z.object({
  r: z.number().int().min(2),
  changes: z.array(z.tuple([z.string(), z.string().nullable()])).min(1),
})

export function encodeCheckpoint({ revision, entries }: MemorySnapshot): Buffer {
  const rows = [...entries.values()].map(({ key, value, modRevision }) => [key, value, modRevision])
  return Buffer.from(encodeLine({ v: RECORD_VERSION, revision, entries: rows }))
}

/** @param revision of the first of the changes */
export function encodeFrame(revision: number, changes: readonly Change[]): Buffer {
  return Buffer.from(encodeLine({ r: revision, changes: changes.map(({ key, value }) => [key, value]) }))
}

/** @throws store.damaged, naming the line and why */
export function decodeLog(bytes: Buffer, path: string): LogContents {
  const lines = wholeLines(bytes)
  const [first, ...rest] = lines
  const head = first === undefined ? null : decodeLine(first.text)
  if (first === undefined || head === null) throw damaged(path, 1, 'checksum does not match')
  const state = readCheckpoint(head.record, path)
  let { revision } = state
  let { length } = first
  const entries = new Map(state.entries)
  for (const [index, line] of rest.entries()) {
    const changes = readFrame(line.text, revision + 1)
    if (changes === null && index === rest.length - 1 && !swallowed(line.text)) break
    if (changes === null) throw damaged(path, index + 2, 'checksum or revision does not match')
    for (const change of changes) apply(entries, change, ++revision)
    length += line.length
  }
  return { state: { revision, entries }, length }
}

interface Line {
  readonly text: string
  /** In bytes, with its end. */
  readonly length: number
}

function wholeLines(bytes: Buffer): Line[] {
  const lines: Line[] = []
  for (let start = 0; ; ) {
    const end = bytes.indexOf(10, start)
    if (end < 0) return lines
    lines.push({ text: bytes.toString('utf8', start, end), length: end + 1 - start })
    start = end + 1
  }
}

function readCheckpoint(record: unknown, path: string): MemorySnapshot {
  const parsed = checkpoint.safeParse(record)
  if (!parsed.success) {
    const version = (record as { v?: unknown } | null)?.v
    const why =
      typeof version === 'number' && version > RECORD_VERSION
        ? `format version ${version}, this build knows ${RECORD_VERSION}`
        : 'not a checkpoint'
    throw damaged(path, 1, why)
  }
  const { revision, entries } = parsed.data
  const pairs = entries.map(([key, value, modRevision]): [string, KeyValue] => [
    key,
    { key, value, modRevision },
  ])
  return { revision, entries: new Map(pairs) }
}

/** Whether a damaged line holds a whole frame: then it was an end of line that was lost, and nothing was torn. */
function swallowed(text: string): boolean {
  // JSON escapes quotes in what it quotes, so no value looks like the head of a frame.
  const heads = [...text.matchAll(/[0-9a-f]{8} \{"r":/g)]
  return heads.some(({ index }) => index > 0 && decodeLine(text.slice(index)) !== null)
}

/** null: damaged, or not what follows. */
function readFrame(text: string, revision: number): Change[] | null {
  const parsed = frame.safeParse(decodeLine(text)?.record)
  if (!parsed.success || parsed.data.r !== revision) return null
  return parsed.data.changes.map(([key, value]) => ({ key, value }))
}

function apply(entries: Map<string, KeyValue>, { key, value }: Change, modRevision: number): void {
  if (value === null) entries.delete(key)
  else entries.set(key, { key, value, modRevision })
}

function damaged(path: string, line: number, why: string): TwillError {
  return new TwillError(
    'store.damaged',
    `datastore ${path}: line ${line}: ${why}: restore the file from a backup, or move it and the journal beside it away to begin anew`,
    { path, line, why },
  )
}
