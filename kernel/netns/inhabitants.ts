/**
 * Does anybody visible still have a network namespace, whose path is gone? A thread that is in it, or a mount of it in the
 * mount namespace of any process.
 *
 * Trap: only processes of our PID namespace and below are seen, and an open descriptor alone keeps a namespace too: what
 * this finds proves that it lives; that it finds nothing is a strong hint, for a person who asked.
 */
import { readdir, readFile, readlink } from 'node:fs/promises'

/** @param inode st_ino of the namespace, in decimal. @param proc the node's /proc */
export async function isInhabited(inode: string, proc: string): Promise<boolean> {
  const name = `net:[${inode}]`
  const seenMounts = new Set<string>()
  for (const pid of (await readdir(proc)).filter(entry => /^\d+$/.test(entry))) {
    const mounts = await orNull(readlink(`${proc}/${pid}/ns/mnt`))
    if (mounts !== null && !seenMounts.has(mounts)) {
      seenMounts.add(mounts)
      const table = await orNull(readFile(`${proc}/${pid}/mountinfo`, 'utf8'))
      if (table?.includes(` ${name} `)) return true
    }
    for (const thread of (await orNull(readdir(`${proc}/${pid}/task`))) ?? [])
      if ((await orNull(readlink(`${proc}/${pid}/task/${thread}/ns/net`))) === name) return true
  }
  return false
}

/** It ended meanwhile. */
async function orNull<T>(reading: Promise<T>): Promise<T | null> {
  try {
    return await reading
  } catch {
    return null
  }
}
