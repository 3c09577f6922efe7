/**
 * The system calls that twill-offline makes through bun:ffi: blocking, on the only thread. Far cheaper than
 * Bun's own sockets (DEPENDENCIES: 5 ms in all against 10 to 19), and the only way to netlink in a single file.
 *
 * Trap: pointers into a Buffer are taken at each call, so a Buffer must not be resized during one.
 */
import { dlopen, type Pointer, read } from 'bun:ffi'
import { TwillError } from '../lib/errors.ts'

export interface Libc {
  /** A close-on-exec socket whose sends and connects give up after `timeoutMs`. @throws kernel.failed */
  socket(domain: number, type: number, protocol: number, timeoutMs: number): number
  /** False when it cannot be reached. `address` is a struct sockaddr. */
  connect(fd: number, address: Uint8Array): boolean
  /** True when there is something to read or the end is reached, false after `timeoutMs` of silence. */
  readable(fd: number, timeoutMs: number): boolean
  /** Bytes written; negative on error. */
  write(fd: number, bytes: Uint8Array): number
  /** Bytes read, 0 at the end; negative on error. */
  read(fd: number, bytes: Uint8Array): number
  close(fd: number): void
  /** SO_NETNS_COOKIE of the calling process's namespace, decimal. null on kernels before 5.14. */
  ownNetnsCookie(): string | null
  /** What lib/clock.ts calls boot time; Bun's hrtime begins with the process instead. */
  boottimeMs(): number
}

const SOCK_CLOEXEC = 0o2000000
const SOL_SOCKET = 1
const SO_SNDTIMEO = 21
const SO_SNDBUFFORCE = 32
/** A whole frame fits: SO_SNDTIMEO begins anew with each piece that is taken. */
const SEND_BUFFER_BYTES = 16 * 1024 * 1024
const SO_NETNS_COOKIE = 71
const AF_UNIX = 1
const SOCK_STREAM = 1
const POLLIN = 1
const EINTR = 4
const CLOCK_MONOTONIC = 1

const SIGNATURES = {
  socket: { args: ['i32', 'i32', 'i32'], returns: 'i32' },
  connect: { args: ['i32', 'ptr', 'u32'], returns: 'i32' },
  poll: { args: ['ptr', 'u64', 'i32'], returns: 'i32' },
  write: { args: ['i32', 'ptr', 'u64'], returns: 'i64_fast' },
  read: { args: ['i32', 'ptr', 'u64'], returns: 'i64_fast' },
  close: { args: ['i32'], returns: 'i32' },
  setsockopt: { args: ['i32', 'i32', 'i32', 'ptr', 'u32'], returns: 'i32' },
  getsockopt: { args: ['i32', 'i32', 'i32', 'ptr', 'ptr'], returns: 'i32' },
  clock_gettime: { args: ['i32', 'ptr'], returns: 'i32' },
  __errno_location: { args: [], returns: 'ptr' },
} as const

type Symbols = Readonly<Record<keyof typeof SIGNATURES, (...args: readonly unknown[]) => number>>

export function openLibc(): Libc {
  const c = dlopen('libc.so.6', SIGNATURES).symbols as Symbols
  return {
    socket: (domain, type, protocol, timeoutMs) => openSocket(c, domain, type, protocol, timeoutMs),
    connect: (fd, address) => c.connect(fd, address, address.length) === 0,
    readable: (fd, timeoutMs) => waitReadable(c, fd, timeoutMs),
    write: (fd, bytes) => uninterrupted(c, () => c.write(fd, bytes, bytes.length)),
    read: (fd, bytes) => uninterrupted(c, () => c.read(fd, bytes, bytes.length)),
    close: fd => void c.close(fd),
    ownNetnsCookie: () => readCookie(c),
    boottimeMs: () => readClock(c),
  }
}

const errnoOf = (c: Symbols): number => read.i32(c.__errno_location() as Pointer)

function uninterrupted(c: Symbols, call: () => number): number {
  for (;;) {
    const result = call()
    if (result >= 0 || errnoOf(c) !== EINTR) return result
  }
}

function openSocket(c: Symbols, domain: number, type: number, protocol: number, timeoutMs: number): number {
  const fd = c.socket(domain, type | SOCK_CLOEXEC, protocol)
  if (fd < 0)
    throw new TwillError('kernel.failed', `socket: errno ${errnoOf(c)}`, {
      operation: 'socket',
      errno: errnoOf(c),
    })
  const room = Buffer.alloc(4)
  room.writeInt32LE(SEND_BUFFER_BYTES)
  c.setsockopt(fd, SOL_SOCKET, SO_SNDBUFFORCE, room, room.length)
  const timeval = Buffer.alloc(16)
  timeval.writeBigInt64LE(BigInt(Math.floor(timeoutMs / 1000)))
  timeval.writeBigInt64LE(BigInt((timeoutMs % 1000) * 1000), 8)
  c.setsockopt(fd, SOL_SOCKET, SO_SNDTIMEO, timeval, timeval.length)
  return fd
}

function waitReadable(c: Symbols, fd: number, timeoutMs: number): boolean {
  const deadline = readClock(c) + timeoutMs
  const pollfd = Buffer.alloc(8)
  pollfd.writeInt32LE(fd)
  pollfd.writeInt16LE(POLLIN, 4)
  for (;;) {
    const ready = c.poll(pollfd, 1, Math.max(0, deadline - readClock(c)))
    if (ready >= 0) return ready > 0
    if (errnoOf(c) !== EINTR) return false
  }
}

function readCookie(c: Symbols): string | null {
  const fd = openSocket(c, AF_UNIX, SOCK_STREAM, 0, 1000)
  const cookie = Buffer.alloc(8)
  const length = Buffer.from([8, 0, 0, 0])
  const failed = c.getsockopt(fd, SOL_SOCKET, SO_NETNS_COOKIE, cookie, length) !== 0
  c.close(fd)
  return failed ? null : cookie.readBigUInt64LE().toString()
}

function readClock(c: Symbols): number {
  const timespec = Buffer.alloc(16)
  c.clock_gettime(CLOCK_MONOTONIC, timespec)
  return Number(timespec.readBigInt64LE()) * 1000 + Math.floor(Number(timespec.readBigInt64LE(8)) / 1e6)
}
