/**
 * Other network namespaces: opened by path, proven by device and inode, entered for the instant of a call.
 *
 * Invariant: outside `within` the calling thread is in the namespace it was in when this object was made.
 * Trap: setns moves the calling thread only, so this must run on one thread and never across an await; and a
 * thread that cannot come back would do its next work on a pod's network, so the process ends at once.
 */
import { closeSync, constants, fstatSync, openSync } from 'node:fs'
import { isTwillError, messageOf, TwillError } from '../../lib/errors.ts'
import type { HostPaths } from '../host-paths.ts'
import type { NetnsRef } from '../kernel.ts'
import { CLONE_NEWNET, SO_NETNS_COOKIE, SOL_SOCKET } from '../netlink/constants.ts'
import { errnoName, kernelFailed, type Libc } from '../netlink/libc.ts'

/** sysexits.h: an internal inconsistency. */
const EX_SOFTWARE = 70
const PROC_NET = '/proc/thread-self/ns/net'

export class Namespaces {
  readonly #libc: Libc
  readonly #proc: string | null
  readonly #home: number
  readonly #homeInode: string

  /** @param options.proc the node's /proc; null: its processes are not seen */
  constructor(options: Pick<HostPaths, 'proc'>, modules: { libc: Libc }) {
    this.#libc = modules.libc
    this.#proc = options.proc
    this.#home = openSync(PROC_NET, 'r')
    this.#homeInode = inodeOf(this.#home).ino
  }

  /**
   * Opens the namespace at the path; the caller closes it.
   * @throws TwillError kernel.netns-gone, kernel.netns-mismatch (also when it is the node's own)
   */
  open(ref: NetnsRef): number {
    const fd = openPath(ref.path, this.#proc)
    try {
      this.#prove(ref, inodeOf(fd))
      return fd
    } catch (error) {
      closeSync(fd)
      throw error
    }
  }

  close(fd: number): void {
    closeSync(fd)
  }

  /**
   * Runs `work`, synchronous, with this thread inside the namespace.
   * @throws TwillError kernel.netns-gone when the descriptor is no network namespace; whatever `work` throws
   */
  within<T>(fd: number, path: string, work: () => T): T {
    if (this.#libc.setns(fd, CLONE_NEWNET) !== 0) throw enterFailed(path, this.#libc.errno())
    try {
      return work()
    } finally {
      if (this.#libc.setns(this.#home, CLONE_NEWNET) !== 0) this.#lost()
    }
  }

  /** SO_NETNS_COOKIE of the namespace that the socket was made in, in decimal: never used twice on one boot. */
  cookieOf(socket: number): string {
    const value = Buffer.alloc(8)
    const size = Buffer.from([8, 0, 0, 0])
    if (this.#libc.getsockopt(socket, SOL_SOCKET, SO_NETNS_COOKIE, value, size) !== 0)
      throw kernelFailed('read namespace cookie', this.#libc.errno(), '')
    return value.readBigUInt64LE(0).toString()
  }

  dispose(): void {
    closeSync(this.#home)
  }

  #prove(ref: NetnsRef, actual: { dev: string; ino: string }): void {
    if ((ref.dev !== null && ref.dev !== actual.dev) || (ref.ino !== null && ref.ino !== actual.ino))
      throw new TwillError(
        'kernel.netns-mismatch',
        `${ref.path} is namespace ${actual.dev}:${actual.ino} here, the caller opened ${ref.dev}:${ref.ino}`,
        { path: ref.path, expected: { dev: ref.dev, ino: ref.ino }, actual },
      )
    if (actual.ino === this.#homeInode)
      throw new TwillError('kernel.netns-mismatch', `${ref.path} is the node's own network namespace`, {
        path: ref.path,
        own: true,
        actual,
      })
  }

  #lost(): void {
    process.stderr.write(
      `fatal: cannot return from a pod's network namespace: ${errnoName(this.#libc.errno())}
`,
    )
    // Not process.exit, which ends a worker thread only.
    this.#libc._exit(EX_SOFTWARE)
  }
}

/** True for what says that there is no such namespace for us to touch. */
export function isNamespaceAbsent(error: unknown): boolean {
  return isTwillError(error, 'kernel.netns-gone') || isTwillError(error, 'kernel.netns-mismatch')
}

function openPath(path: string, proc: string | null): number {
  try {
    // A pipe would keep this thread, and with it every pod of the node, waiting for a writer.
    return openSync(pathHere(path, proc), constants.O_RDONLY | constants.O_NONBLOCK)
  } catch (error) {
    throw new TwillError(
      'kernel.netns-gone',
      `network namespace ${path} cannot be opened: ${messageOf(error)}`,
      { path },
      { cause: error },
    )
  }
}

/** A runtime may give the namespace of one of the node's processes: /proc/PID/ns/net. @throws Error */
function pathHere(path: string, proc: string | null): string {
  const below = /^\/proc(\/\d+\/.*)$/.exec(path)?.[1]
  if (below === undefined) return path
  if (proc === null) throw new Error("the node's processes are not seen from here (host.proc)")
  return `${proc}${below}`
}

function enterFailed(path: string, errno: number): TwillError {
  if (errnoName(errno) !== 'EINVAL') return kernelFailed(`enter ${path}`, errno, '')
  return new TwillError('kernel.netns-gone', `${path} is not a network namespace`, { path })
}

function inodeOf(fd: number): { dev: string; ino: string } {
  const stat = fstatSync(fd, { bigint: true })
  return { dev: stat.dev.toString(), ino: stat.ino.toString() }
}
