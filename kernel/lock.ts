/**
 * An advisory lock on a file (flock(2)): held by one process, freed by the kernel when that process ends, however
 * it ends. Keeps a second daemon off a node.
 */
import { closeSync, ftruncateSync, openSync, readFileSync, writeSync } from 'node:fs'
import koffi from 'koffi'
import { TwillError } from '../lib/errors.ts'

/** sys/file.h */
const LOCK_EX = 2
const LOCK_NB = 4

export interface FileLock {
  release(): void
}

/**
 * The file then holds this process's id, for people.
 * @throws TwillError node.already-running {path, pid} when another process holds it
 */
export function lockFile(path: string): FileLock {
  const flock = koffi.load('libc.so.6').func('int flock(int fd, int operation)')
  const fd = openSync(path, 'a+', 0o600)
  if (flock(fd, LOCK_EX | LOCK_NB) !== 0) {
    const pid = readFileSync(path, 'utf8').trim()
    closeSync(fd)
    throw new TwillError(
      'node.already-running',
      `another twilld (process ${pid || 'unknown'}) runs on this node: it holds ${path}`,
      { path, pid },
    )
  }
  ftruncateSync(fd)
  writeSync(fd, `${process.pid}\n`)
  return { release: () => closeSync(fd) }
}
