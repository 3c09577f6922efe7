/**
 * The node's journal: an append-only file of one record per line, `<crc32 of the text, 8 hex digits> <JSON>`.
 * It survives SIGKILL of any process at any point, because a record is one write() into the page cache; losing
 * power may tear its end or lose it, which the checksum shows and the audit makes good. Hence no fsync, but for a
 * file that is to take the place of another: without it losing power could leave nothing of either.
 *
 * Appending is synchronous: 10 us into the page cache, where a trip to the thread pool takes 200 to 600, and every ADD
 * waits for two. A disk that stalls holds up the daemon's main thread, which without its journal could serve nothing
 * but STATUS. Only replacing the file, which waits for the disk, happens beside the thread.
 *
 * A failed write (disk full) is cut back to the last whole record. Trap: on a disk that is nearly full write() takes a
 * part and calls that success.
 */

import { ftruncateSync, renameSync, rmSync, writeSync } from 'node:fs'
import { type FileHandle, open, readFile, unlink } from 'node:fs/promises'
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
  /** Lines appended while the file is being replaced: they belong into both. */
  #meanwhile: string[] | null = null

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
    const written = await writeNew(path, records)
    return takePlace(path, written, [], ({ file, length }) => new Journal(path, file, length))
  }

  /** Bytes written so far; what compaction goes by. */
  get length(): number {
    return this.#length
  }

  /**
   * When it returns, the record is in the file: from then on it survives the death of this process.
   * @throws TwillError journal.write-failed {path, errno}; the record is not in the file
   */
  append(record: unknown): void {
    const line = encodeLine(record)
    const bytes = Buffer.from(line)
    try {
      writeWhole(this.#file.fd, bytes, this.#length)
    } catch (error) {
      this.#cutBack()
      throw writeFailed(this.#path, error)
    }
    this.#length += bytes.length
    this.#meanwhile?.push(line)
  }

  #cutBack(): void {
    try {
      ftruncateSync(this.#file.fd, this.#length)
    } catch {
      // What is torn at the end is told by its checksum, and overwritten by the next record.
    }
  }

  /**
   * Replaces the contents atomically. A failure leaves the old file in use.
   * @param snapshot of all records so far; those appended from now on follow it
   * @throws TwillError journal.write-failed
   */
  async compact(snapshot: readonly unknown[]): Promise<void> {
    const meanwhile: string[] = []
    this.#meanwhile = meanwhile
    try {
      const written = await writeNew(this.#path, snapshot)
      const old = this.#file
      takePlace(this.#path, written, meanwhile, ({ file, length }) => {
        this.#file = file
        this.#length = length
      })
      await old.close()
    } finally {
      this.#meanwhile = null
    }
  }

  async close(): Promise<void> {
    await this.#file.close()
  }
}

interface NewFile {
  readonly file: FileHandle
  readonly length: number
}

const temporaryOf = (path: string): string => `${path}.new`

/** On the disk, beside the file whose place it is to take. @throws TwillError journal.write-failed */
async function writeNew(path: string, records: readonly unknown[]): Promise<NewFile> {
  let file: FileHandle | null = null
  try {
    file = await open(temporaryOf(path), 'w', 0o600)
    const bytes = Buffer.from(records.map(encodeLine).join(''))
    await file.writeFile(bytes)
    await file.sync()
    return { file, length: bytes.length }
  } catch (error) {
    await file?.close().catch(() => undefined)
    await unlink(temporaryOf(path)).catch(() => undefined)
    throw writeFailed(path, error)
  }
}

/** All in one turn: no record can come between the last of `lines` and the new file's being in use. */
function takePlace<T>(
  path: string,
  { file, length }: NewFile,
  lines: readonly string[],
  use: (whole: NewFile) => T,
): T {
  try {
    const bytes = Buffer.from(lines.join(''))
    writeWhole(file.fd, bytes, length)
    renameSync(temporaryOf(path), path)
    return use({ file, length: length + bytes.length })
  } catch (error) {
    file.close().catch(() => undefined)
    rmSync(temporaryOf(path), { force: true })
    throw writeFailed(path, error)
  }
}

function writeWhole(fd: number, bytes: Buffer, position: number): void {
  for (let written = 0; written < bytes.length; )
    written += writeSync(fd, bytes, written, bytes.length - written, position + written)
}

function writeFailed(path: string, cause: unknown): TwillError {
  const errno = (cause as NodeJS.ErrnoException).code
  const message = `journal ${path}: ${messageOf(cause)}`
  return new TwillError('journal.write-failed', message, { path, errno }, { cause, retryable: true })
}
