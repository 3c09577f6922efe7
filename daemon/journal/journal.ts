/**
 * The node's journal: an append-only file of one record per line, `<crc32 of the text, 8 hex digits> <JSON>`.
 * It survives SIGKILL of any process at any point, because a record is one write() into the page cache; losing
 * power may tear its end or lose it, which the checksum shows and the audit makes good. Hence no fsync, but for a
 * file that is to take the place of another: without it losing power could leave nothing of either.
 *
 * Appends that come while a write is under way go out together in the next one. A failed write (disk full)
 * rejects exactly those whose bytes did not all arrive, and cuts the file back to its last whole record. Trap: on a
 * disk that is nearly full write() takes a part and calls that success.
 */

import type { FileHandle } from 'node:fs/promises'
import { open, readFile, rename, unlink } from 'node:fs/promises'
import { decodeLine, encodeLine } from '../../lib/checked-line.ts'
import { messageOf, TwillError } from '../../lib/errors.ts'

export interface DamagedLine {
  /** Counted from 1. */
  readonly line: number
  readonly reason: string
}

export interface JournalContents {
  readonly records: readonly unknown[]
  readonly damaged: readonly DamagedLine[]
}

interface Pending {
  readonly text: string
  readonly resolve: () => void
  readonly reject: (error: unknown) => void
}

/** Every whole, undamaged record in order; what is damaged is named, never guessed at. */
export function decodeJournal(text: string): JournalContents {
  const records: unknown[] = []
  const damaged: DamagedLine[] = []
  const lines = text.split('\n')
  const torn = lines.pop()
  lines.forEach((line, index) => {
    const whole = decodeLine(line)
    if (whole !== null) records.push(whole.record)
    else damaged.push({ line: index + 1, reason: 'checksum does not match' })
  })
  if (torn) damaged.push({ line: lines.length + 1, reason: 'torn: no end of line' })
  return { records, damaged }
}

/** @throws TwillError journal.damaged when the file is there and cannot be read at all */
export async function readJournal(path: string): Promise<JournalContents> {
  try {
    return decodeJournal(await readFile(path, 'utf8'))
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === 'ENOENT') return { records: [], damaged: [] }
    throw new TwillError(
      'journal.damaged',
      `journal ${path}: ${messageOf(error)}`,
      { path },
      { cause: error },
    )
  }
}

export class Journal {
  readonly #path: string
  #file: FileHandle
  #length: number
  #pending: Pending[] = []
  #writing: Promise<void> | null = null

  private constructor(path: string, file: FileHandle, length: number) {
    this.#path = path
    this.#file = file
    this.#length = length
  }

  /**
   * Goes on with the file as it is, which needs no room on a full disk. It ends with a whole line.
   * @throws TwillError journal.write-failed
   */
  static async resume(path: string): Promise<Journal> {
    try {
      const file = await open(path, 'r+')
      return new Journal(path, file, (await file.stat()).size)
    } catch (error) {
      throw writeFailed(path, error)
    }
  }

  /**
   * Starts a journal that holds exactly these records; an older file at the path is replaced atomically.
   * @throws TwillError journal.write-failed; the older file is as it was
   */
  static async create(path: string, records: readonly unknown[]): Promise<Journal> {
    const [file, length] = await Journal.#writeNew(path, records)
    return new Journal(path, file, length)
  }

  static async #writeNew(path: string, records: readonly unknown[]): Promise<[FileHandle, number]> {
    const temporary = `${path}.new`
    let file: FileHandle | null = null
    try {
      file = await open(temporary, 'w', 0o600)
      const bytes = Buffer.from(records.map(encodeLine).join(''))
      await writeWhole(file, bytes, 0)
      await file.sync()
      await rename(temporary, path)
      return [file, bytes.length]
    } catch (error) {
      await file?.close().catch(() => undefined)
      await unlink(temporary).catch(() => undefined)
      throw writeFailed(path, error)
    }
  }

  /** Bytes written so far; what compaction goes by. */
  get length(): number {
    return this.#length
  }

  /**
   * Resolves when the record is in the file: from then on it survives the death of this process.
   * @throws TwillError journal.write-failed {path, errno}; the record is not in the file
   */
  append(record: unknown): Promise<void> {
    const text = encodeLine(record)
    return new Promise((resolve, reject) => {
      this.#pending.push({ text, resolve, reject })
      this.#writing ??= this.#drain()
    })
  }

  async #drain(): Promise<void> {
    while (this.#pending.length > 0) {
      const batch = this.#pending
      this.#pending = []
      await this.#writeBatch(batch)
    }
    this.#writing = null
  }

  async #writeBatch(batch: readonly Pending[]): Promise<void> {
    const bytes = Buffer.from(batch.map(pending => pending.text).join(''))
    try {
      await writeWhole(this.#file, bytes, this.#length)
      this.#length += bytes.length
      for (const pending of batch) pending.resolve()
    } catch (error) {
      await this.#file.truncate(this.#length).catch(() => undefined)
      await this.#retryOneByOne(batch, error)
    }
  }

  /** A batch may fail where its first record alone fits: on a full disk a DEL's few bytes must not fail with an ADD's. */
  async #retryOneByOne(batch: readonly Pending[], error: unknown): Promise<void> {
    for (const pending of batch) {
      const bytes = Buffer.from(pending.text)
      try {
        if (batch.length === 1) throw error
        await writeWhole(this.#file, bytes, this.#length)
        this.#length += bytes.length
        pending.resolve()
      } catch (cause) {
        await this.#file.truncate(this.#length).catch(() => undefined)
        pending.reject(writeFailed(this.#path, cause))
      }
    }
  }

  /** Replaces the contents atomically, after all appends so far. A failure leaves the old file in use. */
  async compact(snapshot: () => readonly unknown[]): Promise<void> {
    while (this.#writing !== null) await this.#writing
    this.#writing = this.#compactNow(snapshot).finally(() => {
      this.#writing = this.#pending.length > 0 ? this.#drain() : null
    })
    await this.#writing
  }

  async #compactNow(snapshot: () => readonly unknown[]): Promise<void> {
    const old = this.#file
    const [file, length] = await Journal.#writeNew(this.#path, snapshot())
    this.#file = file
    this.#length = length
    await old.close()
  }

  async close(): Promise<void> {
    while (this.#writing !== null) await this.#writing
    await this.#file.close()
  }
}

async function writeWhole(file: FileHandle, bytes: Buffer, position: number): Promise<void> {
  for (let written = 0; written < bytes.length; ) {
    const left = bytes.length - written
    const { bytesWritten } = await file.write(bytes, written, left, position + written)
    written += bytesWritten
  }
}

function writeFailed(path: string, cause: unknown): TwillError {
  const errno = (cause as NodeJS.ErrnoException).code
  const message = `journal ${path}: ${messageOf(cause)}`
  return new TwillError('journal.write-failed', message, { path, errno }, { cause, retryable: true })
}
