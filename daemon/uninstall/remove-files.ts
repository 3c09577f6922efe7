/**
 * Files that a daemon leaves on a node. Only names that it writes are deleted, and a folder only when it is empty then: the
 * configuration may have named one in which others keep things.
 */
import { readdir, rm, rmdir, stat } from 'node:fs/promises'
import { dirname, join } from 'node:path'
import { isSpoolFile } from '../../cni-bin/spool.ts'
import { SNAPSHOT_FILE } from '../node/snapshot-file.ts'

const withTemporary = (name: string): string[] => [name, `${name}.new`]

/** The journal last: it knows the identity. */
const OF_STATE: readonly string[] = [
  ...withTemporary(SNAPSHOT_FILE),
  ...withTemporary('datastore'),
  ...withTemporary('journal').reverse(),
]
const SPOOL = 'spool'
const OF_RUN: readonly string[] = ['cni.sock', 'api.sock', 'alive']
const LOCK = 'twilld.lock'
const DAMAGED_JOURNAL = /^journal\.damaged-\d+$/

/** What is not there, or whose folder is not, is no failure; a folder is. @returns paths that were there and are gone */
export async function removeFiles(paths: readonly string[]): Promise<string[]> {
  const gone: string[] = []
  for (const path of paths)
    try {
      await rm(path)
      gone.push(path)
    } catch (error) {
      if (!isAbsent(error)) throw error
    }
  return gone
}

export const removeConflist = (path: string): Promise<string[]> => removeFiles(withTemporary(path))

/** Beside each lock, which is held, everything goes before it. */
export interface StateFolders {
  readonly stateDir: string
  readonly runDir: string
}

export interface RemovedState {
  readonly gone: readonly string[]
  /** Folders that stay, with why. */
  readonly kept: readonly string[]
}

export async function removeState({ stateDir, runDir }: StateFolders): Promise<RemovedState> {
  const spool = join(stateDir, SPOOL)
  const damaged = (await readdir(stateDir).catch(() => [])).filter(name => DAMAGED_JOURNAL.test(name))
  const names = [...damaged, ...OF_STATE]
  await removeFiles((await readdir(spool).catch(() => [])).filter(isSpoolFile).map(name => join(spool, name)))
  await removeFolder(spool)
  await removeFiles([
    ...OF_RUN.map(name => join(runDir, name)),
    ...names.map(name => join(stateDir, name)),
    join(stateDir, LOCK),
    join(runDir, LOCK),
  ])
  const gone: string[] = []
  const kept: string[] = []
  for (const folder of [stateDir, runDir]) {
    const reason = await removeFolder(folder)
    if (reason === null) gone.push(folder)
    else kept.push(`${folder}: ${reason}`)
  }
  return { gone, kept }
}

/** null: it is gone. */
async function removeFolder(folder: string): Promise<string | null> {
  try {
    await rmdir(folder)
    return null
  } catch (error) {
    if (isAbsent(error)) return null
    const { code } = error as NodeJS.ErrnoException
    if (code === 'EBUSY') return IS_MOUNT
    if (code === 'EROFS') return await whyReadOnly(folder)
    if (code !== 'ENOTEMPTY' && code !== 'EEXIST') throw error
    return `others keep ${(await readdir(folder)).sort().join(', ')} there`
  }
}

const IS_MOUNT = 'it is a mount'

/** Of what is mounted in a container whose root file system is read only, and of what is not there, the kernel says that first. */
async function whyReadOnly(folder: string): Promise<string | null> {
  const found = await stat(folder).catch(() => null)
  if (found === null) return null
  const around = await stat(dirname(folder))
  return found.dev === around.dev ? 'it lies in a read-only file system' : IS_MOUNT
}

const isAbsent = (error: unknown): boolean =>
  ['ENOENT', 'ENOTDIR'].includes((error as NodeJS.ErrnoException).code ?? '')
