/**
 * What a layer of an image holds, as a value: so that it can be put together, compared and laid out. Paths are
 * absolute in the image; what stands later in a spread replaces what stood before.
 */
import { createHash } from 'node:crypto'
import {
  chmodSync,
  copyFileSync,
  existsSync,
  mkdirSync,
  readFileSync,
  statSync,
  symlinkSync,
  writeFileSync,
} from 'node:fs'
import { dirname, join } from 'node:path'

export type Entry =
  /** A file of this machine; its mode as there unless given. */
  | { file: string; mode?: number }
  | { text: string; mode?: number }
  | { link: string }
  | { folder: true; mode?: number }

export type Contents = Readonly<Record<string, Entry>>

/** Names the contents: the same for the same paths, bytes and modes, whenever and wherever they are read. */
export function fingerprint(contents: Contents): string {
  const hash = createHash('sha256')
  for (const path of Object.keys(contents).sort()) hash.update(`${path}\0${digest(contents[path]!)}\0`)
  return hash.digest('hex')
}

function digest(entry: Entry): string {
  if (!('file' in entry)) return JSON.stringify(entry)
  const bytes = createHash('sha256').update(readFileSync(entry.file)).digest('hex')
  return `${bytes} ${modeOf(entry)}`
}

const modeOf = (entry: { file: string; mode?: number }): number =>
  entry.mode ?? statSync(entry.file).mode & 0o777

/** Makes them below an empty folder. @throws Error: a file that is not there */
export function layOut(contents: Contents, root: string): void {
  for (const path of Object.keys(contents).sort()) {
    makeFolders(root, dirname(path))
    put(contents[path]!, join(root, path))
  }
}

/** Those that the contents do not name: open to all, as in any image. */
function makeFolders(root: string, path: string): void {
  if (existsSync(join(root, path))) return
  makeFolders(root, dirname(path))
  mkdirSync(join(root, path))
  chmodSync(join(root, path), 0o755)
}

function put(entry: Entry, target: string): void {
  if ('link' in entry) symlinkSync(entry.link, target)
  else if ('folder' in entry) mkdirSync(target, { recursive: true })
  else if ('text' in entry) writeFileSync(target, entry.text)
  else copyFileSync(entry.file, target)
  // What the umask took away.
  if (!('link' in entry)) chmodSync(target, permissions(entry))
}

function permissions(entry: Exclude<Entry, { link: string }>): number {
  if ('file' in entry) return modeOf(entry)
  return entry.mode ?? ('folder' in entry ? 0o755 : 0o644)
}
