/**
 * The durable log of the embedded store: one file (frames.ts), written and synced before anything it says is true.
 *
 * An append that fails leaves the file as it was, or the log *unsound*: then it is written anew, from memory, before
 * it takes anything more. Trap: after a failed sync the kernel may have dropped the dirty pages and call the next
 * sync a success; only new bytes in a new file tell what is on disk.
 */
import type { FileHandle } from 'node:fs/promises'
import { dirname } from 'node:path'
import { messageOf, TwillError } from '../../lib/errors.ts'
import { faultPoint } from '../../lib/fault.ts'
import type { Log } from '../../lib/log.ts'
import { MemoryCluster, type MemorySnapshot } from '../memory/cluster.ts'
import { type Change, decodeLog, encodeCheckpoint, encodeFrame } from './frames.ts'

/** Of node:fs/promises. */
export type Files = Pick<
  typeof import('node:fs/promises'),
  'open' | 'readFile' | 'writeFile' | 'rename' | 'unlink'
>

export interface LogModules {
  readonly files: Files
  readonly log: Log
}

export class EmbeddedLog {
  readonly #path: string
  readonly #files: Files
  #file: FileHandle
  #length: number
  /** False: what the file holds on disk is not known. */
  #sound = true

  private constructor(path: string, files: Files, file: FileHandle, length: number) {
    this.#path = path
    this.#files = files
    this.#file = file
    this.#length = length
  }

  /**
   * Reads the log, or begins one. The folder exists, and nobody else has it open.
   * @throws store.damaged; store.unavailable: it cannot be read or written
   */
  static async open(path: string, modules: LogModules): Promise<{ log: EmbeddedLog; state: MemorySnapshot }> {
    const bytes = await readOrNull(path, modules.files)
    try {
      if (bytes === null) return await EmbeddedLog.#begin(path, modules)
      return await EmbeddedLog.#resume(path, bytes, modules)
    } catch (error) {
      throw error instanceof TwillError ? error : refused(path, error)
    }
  }

  static async #begin(path: string, { files }: LogModules) {
    const state = new MemoryCluster().snapshot()
    const [file, length] = await writeNew(path, state, files)
    await install(path, file, files)
    return { log: new EmbeddedLog(path, files, file, length), state }
  }

  static async #resume(path: string, bytes: Buffer, { files, log }: LogModules) {
    const { state, length } = decodeLog(bytes, path)
    const file = await files.open(path, 'r+')
    if (length < bytes.length) {
      const kept = `${path}.torn`
      await files.writeFile(kept, bytes.subarray(length), { mode: 0o600 }).catch(() => undefined)
      log.warn(
        { path, kept, bytes: bytes.length - length },
        'the last commit was torn: it was never answered, and is cut off',
      )
      await file.truncate(length)
    }
    // What an earlier life wrote and was killed before it synced is told to others from now on.
    await file.datasync()
    return { log: new EmbeddedLog(path, files, file, length), state }
  }

  /** Bytes. */
  get length(): number {
    return this.#length
  }

  /** False: `rewrite` before the next `append`. */
  get sound(): boolean {
    return this.#sound
  }

  /**
   * Resolves when these changes are on disk.
   * @param revision of the first
   * @throws store.unavailable: they are not and will not be; store.in-doubt: the disk did not say
   */
  async append(revision: number, changes: readonly Change[]): Promise<void> {
    const bytes = encodeFrame(revision, changes)
    faultPoint('store.before-write')
    await this.#write(bytes)
    faultPoint('store.written')
    try {
      await this.#file.datasync()
    } catch (error) {
      this.#sound = false
      throw doubtful(this.#path, error)
    }
    faultPoint('store.synced')
    this.#length += bytes.length
  }

  async #write(bytes: Buffer): Promise<void> {
    try {
      await writeWhole(this.#file, bytes, this.#length)
    } catch (error) {
      await this.#file.truncate(this.#length).catch(() => {
        this.#sound = false
      })
      throw refused(this.#path, error)
    }
  }

  /** Replaces the file by a checkpoint of this state, atomically. @throws store.unavailable: nothing is lost by it */
  async rewrite(state: MemorySnapshot): Promise<void> {
    const [file, length] = await writeNew(this.#path, state, this.#files).catch(error => {
      throw refused(this.#path, error)
    })
    faultPoint('store.checkpoint-written')
    this.#sound = false
    await install(this.#path, file, this.#files).catch(error => {
      throw refused(this.#path, error)
    })
    faultPoint('store.checkpoint-installed')
    await this.#file.close().catch(() => undefined)
    this.#file = file
    this.#length = length
    this.#sound = true
  }

  async close(): Promise<void> {
    await this.#file.close()
  }
}

const beside = (path: string) => `${path}.new`

/** A whole, synced file beside the log. */
async function writeNew(path: string, state: MemorySnapshot, files: Files): Promise<[FileHandle, number]> {
  const bytes = encodeCheckpoint(state)
  let file: FileHandle | null = null
  try {
    file = await files.open(beside(path), 'w', 0o600)
    await writeWhole(file, bytes, 0)
    await file.sync()
    return [file, bytes.length]
  } catch (error) {
    await file?.close().catch(() => undefined)
    await files.unlink(beside(path)).catch(() => undefined)
    throw error
  }
}

/**
 * Puts that file in the log's place, for good: the folder is synced, or losing power could bring back the old one.
 * A failure closes it, and may have come after the change of place.
 */
async function install(path: string, file: FileHandle, files: Files): Promise<void> {
  let folder: FileHandle | null = null
  try {
    await files.rename(beside(path), path)
    folder = await files.open(dirname(path), 'r')
    await folder.sync()
  } catch (error) {
    await file.close().catch(() => undefined)
    throw error
  } finally {
    await folder?.close()
  }
}

async function readOrNull(path: string, files: Files): Promise<Buffer | null> {
  try {
    return await files.readFile(path)
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === 'ENOENT') return null
    throw refused(path, error)
  }
}

/** Trap: on a disk that is nearly full write() takes a part and calls that success. */
async function writeWhole(file: FileHandle, bytes: Buffer, position: number): Promise<void> {
  for (let written = 0; written < bytes.length; ) {
    const { bytesWritten } = await file.write(bytes, written, bytes.length - written, position + written)
    written += bytesWritten
  }
}

function refused(path: string, cause: unknown): TwillError {
  const errno = (cause as NodeJS.ErrnoException).code
  const message = `datastore ${path}: ${messageOf(cause)}`
  return new TwillError('store.unavailable', message, { path, errno }, { cause, retryable: true })
}

function doubtful(path: string, cause: unknown): TwillError {
  const errno = (cause as NodeJS.ErrnoException).code
  const message = `datastore ${path}: written, but the disk does not confirm it: ${messageOf(cause)}`
  return new TwillError('store.in-doubt', message, { path, errno }, { cause, retryable: true })
}
