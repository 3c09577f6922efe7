/**
 * Puts our executables where the runtime looks, and takes them away: by a temporary file of the same folder and a rename, so that a
 * running one is never overwritten and nobody sees half of one. Whatever the source has, the file is root's with
 * mode 0755: never setuid. `twill-offline` comes first, because `twill` becomes it.
 *
 * What is there is compared byte by byte, once: afterwards a glance at both files tells whether either has changed.
 */
import { type FileHandle, link, lstat, mkdir, open, readdir, rename, statfs, unlink } from 'node:fs/promises'
import { dirname, join } from 'node:path'
import { faultPoint } from '../../lib/fault.ts'

export const EXECUTABLES = ['twill-offline', 'twill', 'twill-ipam'] as const
const MODE = 0o755
const CHUNK = 1 << 20

/** Those of the build that this daemon is of; from source, of dist/. */
export function builtExecutables(): string {
  const path = import.meta.url.endsWith('.mjs') ? '../bin' : '../../dist/bin'
  return new URL(path, import.meta.url).pathname
}

const temporaryOf = (folder: string, name: string) => join(folder, `.${name}.new`)

export class ExecutableFiles {
  readonly #source: string
  readonly #folder: string
  /** By name, how both files looked when they were equal. */
  readonly #equal = new Map<string, string>()

  constructor(options: { readonly source: string; readonly folder: string }) {
    this.#source = options.source
    this.#folder = options.folder
  }

  /** @returns names of the files that were put there. @throws Error of the file system; then nothing half is left */
  async install(): Promise<readonly string[]> {
    await mkdir(this.#folder, { recursive: true })
    const put: string[] = []
    /** The source may be one file by several names; so is the copy. */
    const placed = new Map<string, string>()
    for (const name of EXECUTABLES) {
      const { ino } = await lstat(join(this.#source, name))
      const twin = placed.get(String(ino)) ?? null
      if (await this.#ensure(name, twin)) put.push(name)
      placed.set(String(ino), name)
    }
    return put
  }

  async #ensure(name: string, twin: string | null): Promise<boolean> {
    const [source, target] = [join(this.#source, name), join(this.#folder, name)]
    if ((await this.#signs(name)) === this.#equal.get(name)) return false
    const isDue = !(await isInstalled(source, target))
    if (isDue) await this.#put(name, twin)
    this.#equal.set(name, await this.#signs(name))
    return isDue
  }

  async #put(name: string, twin: string | null): Promise<void> {
    const temporary = temporaryOf(this.#folder, name)
    // Of an earlier attempt that was killed.
    await unlink(temporary).catch(() => undefined)
    try {
      if (twin !== null) await link(join(this.#folder, twin), temporary)
      else await copy(join(this.#source, name), temporary)
      faultPoint('install.written')
      await rename(temporary, join(this.#folder, name))
      faultPoint('install.renamed')
    } catch (error) {
      await unlink(temporary).catch(() => undefined)
      throw error
    }
  }

  async #signs(name: string): Promise<string> {
    const paths = [join(this.#source, name), join(this.#folder, name)]
    return (await Promise.all(paths.map(signOf))).join(' ')
  }
}

/** @returns what was there and is gone */
export async function removeExecutables(folder: string): Promise<readonly string[]> {
  const present = new Set<string>(await readdir(folder).catch(() => []))
  const paths = [...EXECUTABLES].reverse().flatMap(name => [join(folder, name), temporaryOf(folder, name)])
  const gone: string[] = []
  for (const path of paths.filter(each => present.has(each.slice(folder.length + 1)))) {
    await unlink(path)
    gone.push(path)
  }
  return gone
}

async function signOf(path: string): Promise<string> {
  const found = await lstat(path, { bigint: true }).catch(() => null)
  return found === null ? 'none' : [found.dev, found.ino, found.size, found.mtimeNs, found.ctimeNs].join(':')
}

/** A link, a mode of its own or another owner is none of ours. */
async function isInstalled(source: string, target: string): Promise<boolean> {
  const [want, have] = [await lstat(source), await lstat(target).catch(() => null)]
  if (have === null || !have.isFile() || have.size !== want.size) return false
  if ((have.mode & 0o7777) !== MODE || have.uid !== 0 || have.gid !== 0) return false
  return sameContent(source, target)
}

async function sameContent(a: string, b: string): Promise<boolean> {
  return withFile(a, one =>
    withFile(b, async other => {
      for (;;) {
        const [x, y] = [await read(one), await read(other)]
        if (!x.equals(y)) return false
        if (x.length === 0) return true
      }
    }),
  )
}

/** An attempt on a full disk would take the last of it from others, again and again. @throws ENOSPC */
async function refuseFull(source: string, target: string): Promise<void> {
  const [{ size }, { blocks, bfree, bsize }] = [await lstat(source), await statfs(dirname(target))]
  // Some file systems do not say.
  if (blocks === 0 || bfree * bsize >= size) return
  const message = `ENOSPC: ${target} takes ${size} bytes, and ${bfree * bsize} are free there`
  throw Object.assign(new Error(message), { code: 'ENOSPC' })
}

/** Written whole, on disk, with its mode and owner, before it gets a name that is looked for. */
async function copy(source: string, target: string): Promise<void> {
  await refuseFull(source, target)
  await withFile(source, async from => {
    const to = await open(target, 'wx', 0o600)
    try {
      for (let chunk = await read(from); chunk.length > 0; chunk = await read(from)) await to.writeFile(chunk)
      await to.chown(0, 0)
      await to.chmod(MODE)
      await to.sync()
    } finally {
      await to.close()
    }
  })
}

/** Up to CHUNK bytes, fewer only at the end. */
async function read(file: FileHandle): Promise<Buffer> {
  const buffer = Buffer.allocUnsafe(CHUNK)
  let length = 0
  for (;;) {
    const { bytesRead } = await file.read(buffer, length, CHUNK - length)
    length += bytesRead
    if (bytesRead === 0 || length === CHUNK) return buffer.subarray(0, length)
  }
}

async function withFile<T>(path: string, use: (file: FileHandle) => Promise<T>): Promise<T> {
  const file = await open(path, 'r')
  try {
    return await use(file)
  } finally {
    await file.close()
  }
}
