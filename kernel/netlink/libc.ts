/**
 * The system calls Twill makes by itself, synchronous, through koffi.
 *
 * Invariant: every call runs on the calling thread and is over when it returns, so a buffer passed in needs to
 * live no longer than the call. Trap: never use koffi's `.async` here; it keeps raw pointers.
 */
import { constants } from 'node:os'
import koffi from 'koffi'
import { TwillError } from '../../lib/errors.ts'

export interface Libc {
  socket(domain: number, type: number, protocol: number): number
  bind(fd: number, address: Buffer, length: number): number
  getsockname(fd: number, address: Buffer, length: Buffer): number
  setsockopt(fd: number, level: number, option: number, value: Buffer, length: number): number
  getsockopt(fd: number, level: number, option: number, value: Buffer, length: Buffer): number
  send(fd: number, data: Buffer, length: number, flags: number): number
  recv(fd: number, data: Buffer, length: number, flags: number): number
  recvmsg(fd: number, header: Buffer, flags: number): number
  /** struct pollfd { i32 fd · i16 events · i16 revents } in a row. */
  poll(fds: Buffer, count: number, timeoutMs: number): number
  eventfd(initial: number, flags: number): number
  close(fd: number): number
  setns(fd: number, type: number): number
  /** Ends the whole process, every thread of it, at once. */
  _exit(status: number): void
  /** Of the call just made on this thread. */
  errno(): number
  /** For structures that carry pointers; the buffer must be off-heap (over 64 bytes) and kept alive. */
  addressOf(buffer: Buffer): bigint
}

export function loadLibc(): Libc {
  const lib = koffi.load('libc.so.6')
  return {
    socket: lib.func('int socket(int domain, int type, int protocol)'),
    bind: lib.func('int bind(int fd, const void *address, uint32_t length)'),
    getsockname: lib.func('int getsockname(int fd, void *address, void *length)'),
    setsockopt: lib.func('int setsockopt(int fd, int level, int option, const void *value, uint32_t length)'),
    getsockopt: lib.func('int getsockopt(int fd, int level, int option, void *value, void *length)'),
    send: lib.func('int64_t send(int fd, const void *data, size_t length, int flags)'),
    recv: lib.func('int64_t recv(int fd, void *data, size_t length, int flags)'),
    recvmsg: lib.func('int64_t recvmsg(int fd, void *header, int flags)'),
    poll: lib.func('int poll(void *fds, unsigned long count, int timeoutMs)'),
    eventfd: lib.func('int eventfd(unsigned int initial, int flags)'),
    close: lib.func('int close(int fd)'),
    setns: lib.func('int setns(int fd, int type)'),
    _exit: lib.func('void _exit(int status)'),
    errno: () => koffi.errno(),
    addressOf: buffer => BigInt(koffi.address(buffer)),
  }
}

const ERRNO_NAMES: ReadonlyMap<number, string> = new Map(
  Object.entries(constants.errno)
    .filter(([name]) => name !== 'EWOULDBLOCK')
    .map(([name, number]) => [number, name]),
)

/** 'ENOENT' for 2; 'E524' for what has no name in libc (netlink passes kernel-internal numbers through). */
export const errnoName = (errno: number): string => ERRNO_NAMES.get(errno) ?? `E${errno}`

/** @param message the kernel's own words, or '' when it said nothing */
export function kernelFailed(operation: string, errno: number, message: string): TwillError {
  const name = errnoName(errno)
  const detail = message === '' ? name : `${name}: ${message}`
  return new TwillError(
    'kernel.failed',
    `${operation}: ${detail}`,
    { operation, errno: name, message },
    { retryable: true },
  )
}

/** True for kernel.failed with one of these errno names. */
export function failedWith(error: unknown, ...errnos: readonly string[]): boolean {
  return (
    error instanceof TwillError && error.code === 'kernel.failed' && errnos.includes(String(error.data.errno))
  )
}
