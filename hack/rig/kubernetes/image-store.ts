/**
 * What containerd has after the import of images, kept for every node and rig that wants the same: an import takes
 * seconds, and each node would have copies of its own in memory. A node gets it as hard links.
 *
 * Invariant: a store's name says what was imported into it. Trap: containerd writes its databases in place, so they are
 * copied; layers and blobs it only adds and deletes, and containers write to layers of their own.
 */
import { createHash } from 'node:crypto'
import {
  appendFileSync,
  existsSync,
  mkdirSync,
  readdirSync,
  readFileSync,
  rmSync,
  statSync,
  utimesSync,
} from 'node:fs'
import { basename, join } from 'node:path'
import type { Machine } from '../machine.ts'
import { must, run } from '../processes.ts'
import { IMAGES_FOLDER, moveInto } from './cache.ts'
import { type Containerd, STORE } from './containerd.ts'

const PREFIX = 'containerd-'
/** Names the archives whose images are in it. */
const IMPORTED = 'rig-imported'
/** The last used; each build of Twill makes another. */
const KEPT = 6

type Disk = Pick<Machine, 'disk'>

interface Modules {
  machine: Disk
  containerd: Pick<Containerd, 'version' | 'up' | 'down' | 'importImages'>
}

/**
 * Makes it where it is missing, by a containerd that runs for that alone.
 * @param machine without one; what its containerd has had is lost
 * @param archives as the machine sees them; each holds what its name says
 * @returns its folder
 */
export async function imageStore(
  archives: readonly string[],
  { machine, containerd }: Modules,
): Promise<string> {
  const store = join(IMAGES_FOLDER, PREFIX + nameOf(archives, containerd.version))
  if (existsSync(store)) {
    utimesSync(store, new Date(), new Date())
    return store
  }
  // From what is there already: the last is what changes.
  const before = archives.length > 1 ? archives.slice(0, -1) : []
  const below = before.length > 0 ? await imageStore(before, { machine, containerd }) : undefined
  const own = machine.disk(STORE)
  await replaceContents(below, own)
  await containerd.up()
  await importMissing(archives, { machine, containerd })
  await containerd.down()
  const fresh = `${store}.${process.pid}`
  await replaceContents(own, fresh)
  await replaceContents(undefined, own)
  moveInto(fresh, store)
  removeOldest()
  return store
}

function nameOf(archives: readonly string[], version: string): string {
  const parts = [version, ...archives.map(archive => basename(archive))]
  return createHash('sha256').update(JSON.stringify(parts)).digest('hex').slice(0, 16)
}

const recordOf = (machine: Disk): string => join(machine.disk(STORE), IMPORTED)

export const hasImages = (machine: Disk): boolean => existsSync(recordOf(machine))

/** Before its containerd starts for the first time. */
export const putImages = (machine: Disk, store: string): Promise<void> =>
  replaceContents(store, machine.disk(STORE))

/** @param archives as the machine sees them; each holds what its name says */
export async function importMissing(
  archives: readonly string[],
  { machine, containerd }: Modules,
): Promise<void> {
  const record = recordOf(machine)
  const imported = hasImages(machine) ? readFileSync(record, 'utf8').split('\n') : []
  for (const archive of archives.filter(each => !imported.includes(basename(each)))) {
    await containerd.importImages(archive)
    appendFileSync(record, `${basename(archive)}\n`)
  }
}

/** @param from undefined: nothing is to be in there */
async function replaceContents(from: string | undefined, to: string): Promise<void> {
  mkdirSync(to, { recursive: true, mode: 0o711 })
  for (const name of readdirSync(to)) rmSync(join(to, name), { recursive: true })
  if (from === undefined) return
  const linked = await run('cp', ['-al', `${from}/.`, to])
  // Another file system.
  if (linked.status !== 0) await must('cp', ['-a', '--reflink=auto', '--remove-destination', `${from}/.`, to])
  for (const path of writtenInPlace(from))
    await must('cp', ['-a', '--remove-destination', join(from, path), join(to, path)])
}

/** Databases of containerd and its plugins, and the record; below them are files of images. */
function writtenInPlace(store: string): string[] {
  const plugins = readdirSync(store).filter(name => name.startsWith('io.containerd.'))
  const databases = plugins.flatMap(name => readdirSync(join(store, name)).map(file => join(name, file)))
  return [IMPORTED, ...databases.filter(path => path.endsWith('.db'))]
}

function removeOldest(): void {
  const stores = readdirSync(IMAGES_FOLDER).filter(name => name.startsWith(PREFIX))
  const paths = stores.map(name => join(IMAGES_FOLDER, name))
  const byUse = paths.map(path => ({ path, used: statSync(path).mtimeMs })).sort((a, b) => b.used - a.used)
  for (const { path } of byUse.slice(KEPT)) rmSync(path, { recursive: true, force: true })
}
