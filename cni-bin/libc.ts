/**
 * The system calls that twill-offline makes through bun:ffi: blocking, on the only thread. Far cheaper than Bun's
 * own sockets and files (node:fs alone takes as long to load as all that an answered call does), and the only way
 * to netlink in a single file.
 *
 * Trap: pointers into a Buffer are taken at each call, so a Buffer must not be resized during one. The dynamic
 * linker may change errno: functions are looked up before the call whose errno is wanted.
 */
import { dlopen, type Pointer, read } from 'bun:ffi'
import { TwillError } from '../lib/errors.ts'

/** Which file a descriptor is: st_dev and st_ino, decimal. */
export interface Identity {
  readonly dev: string
  readonly ino: string
}

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
  /** For reading, without waiting for the other end of a pipe; negative on error. */
  open(path: string): number
  /** What stat(2) says; null on error. */
  identity(fd: number): Identity | null
  /** What went wrong in the call before, in words. */
  lastError(): string
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
const O_NONBLOCK = 0o4000
const O_CLOEXEC = 0o2000000
const AT_EMPTY_PATH = 0x1000
const STATX_INO = 0x100
/** struct statx, the same on every architecture: u64 stx_ino at 32, u32 stx_dev_major and _minor at 136 and 140. */
const STATX_BYTES = 256

/** Every call needs these; each costs 50 µs, since Bun compiles a function for it. */
const SIGNATURES = {
  socket: { args: ['i32', 'i32', 'i32'], returns: 'i32' },
  connect: { args: ['i32', 'ptr', 'u32'], returns: 'i32' },
  poll: { args: ['ptr', 'u64', 'i32'], returns: 'i32' },
  write: { args: ['i32', 'ptr', 'u64'], returns: 'i64_fast' },
  read: { args: ['i32', 'ptr', 'u64'], returns: 'i64_fast' },
  close: { args: ['i32'], returns: 'i32' },
  setsockopt: { args: ['i32', 'i32', 'i32', 'ptr', 'u32'], returns: 'i32' },
  open: { args: ['ptr', 'i32'], returns: 'i32' },
  statx: { args: ['i32', 'ptr', 'i32', 'u32', 'ptr'], returns: 'i32' },
  __errno_location: { args: [], returns: 'ptr' },
} as const

const RARE_SIGNATURES = {
  getsockopt: { args: ['i32', 'i32', 'i32', 'ptr', 'ptr'], returns: 'i32' },
  clock_gettime: { args: ['i32', 'ptr'], returns: 'i32' },
  strerror: { args: ['i32'], returns: 'cstring' },
} as const

type Functions<Names extends string> = Readonly<Record<Names, (...args: readonly unknown[]) => number>>
type Symbols = Functions<keyof typeof SIGNATURES>
type RareSymbols = Functions<keyof typeof RARE_SIGNATURES>

const LIBRARY = 'libc.so.6'

export function openLibc(): Libc {
  const c = dlopen(LIBRARY, SIGNATURES).symbols as Symbols
  return {
    socket: (domain, type, protocol, timeoutMs) => openSocket(c, domain, type, protocol, timeoutMs),
    connect: (fd, address) => c.connect(fd, address, address.length) === 0,
    readable: (fd, timeoutMs) => waitReadable(c, fd, timeoutMs),
    write: (fd, bytes) => uninterrupted(c, () => c.write(fd, bytes, bytes.length)),
    read: (fd, bytes) => uninterrupted(c, () => c.read(fd, bytes, bytes.length)),
    close: fd => void c.close(fd),
    open: path => uninterrupted(c, () => c.open(text(path), O_NONBLOCK | O_CLOEXEC)),
    identity: fd => identityOf(c, fd),
    lastError: () => describe(errnoOf(c)),
    ownNetnsCookie: () => readCookie(c),
    boottimeMs: () => readClock(),
  }
}

const openRare = (): RareSymbols => dlopen(LIBRARY, RARE_SIGNATURES).symbols as RareSymbols

const text = (value: string): Buffer => Buffer.from(`${value}\0`)

const describe = (errno: number): string => `${openRare().strerror(errno)} (errno ${errno})`

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
  const deadline = performance.now() + timeoutMs
  const pollfd = Buffer.alloc(8)
  pollfd.writeInt32LE(fd)
  pollfd.writeInt16LE(POLLIN, 4)
  for (;;) {
    const ready = c.poll(pollfd, 1, Math.max(0, Math.ceil(deadline - performance.now())))
    if (ready >= 0) return ready > 0
    if (errnoOf(c) !== EINTR) return false
  }
}

function identityOf(c: Symbols, fd: number): Identity | null {
  const status = Buffer.alloc(STATX_BYTES)
  if (c.statx(fd, text(''), AT_EMPTY_PATH, STATX_INO, status) !== 0) return null
  const dev = encodeDevice(BigInt(status.readUInt32LE(136)), BigInt(status.readUInt32LE(140)))
  return { dev: dev.toString(), ino: status.readBigUInt64LE(32).toString() }
}

/** gnu_dev_makedev of sys/sysmacros.h: st_dev as stat(2) has it. */
function encodeDevice(major: bigint, minor: bigint): bigint {
  return (
    ((major & 0xfffff000n) << 32n) |
    ((major & 0xfffn) << 8n) |
    ((minor & 0xffffff00n) << 12n) |
    (minor & 0xffn)
  )
}

function readCookie(c: Symbols): string | null {
  const fd = openSocket(c, AF_UNIX, SOCK_STREAM, 0, 1000)
  const cookie = Buffer.alloc(8)
  const length = Buffer.from([8, 0, 0, 0])
  const failed = openRare().getsockopt(fd, SOL_SOCKET, SO_NETNS_COOKIE, cookie, length) !== 0
  c.close(fd)
  return failed ? null : cookie.readBigUInt64LE().toString()
}

function readClock(): number {
  const timespec = Buffer.alloc(16)
  openRare().clock_gettime(CLOCK_MONOTONIC, timespec)
  return Number(timespec.readBigInt64LE()) * 1000 + Math.floor(Number(timespec.readBigInt64LE(8)) / 1e6)
}
