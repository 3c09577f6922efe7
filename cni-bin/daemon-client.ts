/** One request to twilld over its socket, as the conduit makes it, with the same idea of what "away" means. */
import { type Answer, decodeAnswer } from './frame.ts'
import type { Libc } from './libc.ts'

export type DaemonReply =
  | { readonly answer: Answer }
  /** away: no connection, or it broke. silent: nothing came for the whole time. */
  | { readonly answer: null; readonly reason: 'away' | 'silent' }

const AF_UNIX = 1
const SOCK_STREAM = 1
/** struct sockaddr_un: sun_family, then 108 bytes of path. */
const SUN_PATH_BYTES = 108
const MAX_STATUS = 255
const MAX_ANSWER_BYTES = 4 * 1024 * 1024

/** `frame` is an encoded request. Never throws for what the daemon does. */
export function askDaemon(libc: Libc, path: string, frame: Uint8Array, silenceMs: number): DaemonReply {
  const fd = libc.socket(AF_UNIX, SOCK_STREAM, 0, silenceMs)
  try {
    if (!libc.connect(fd, socketAddress(path))) return { answer: null, reason: 'away' }
    const written = libc.write(fd, frame)
    // A blocking socket takes all at once, unless its time-out has struck.
    if (written < frame.length) return { answer: null, reason: written < 0 ? 'away' : 'silent' }
    return readAnswer(libc, fd, silenceMs)
  } finally {
    libc.close(fd)
  }
}

function socketAddress(path: string): Uint8Array {
  const address = Buffer.alloc(2 + SUN_PATH_BYTES)
  address.writeUInt16LE(AF_UNIX)
  address.write(path, 2, SUN_PATH_BYTES - 1)
  return address
}

function readAnswer(libc: Libc, fd: number, silenceMs: number): DaemonReply {
  const chunk = Buffer.alloc(65536)
  let received = Buffer.alloc(0)
  for (;;) {
    if (!libc.readable(fd, silenceMs)) return { answer: null, reason: 'silent' }
    const length = libc.read(fd, chunk)
    if (length <= 0) return { answer: null, reason: 'away' }
    received = Buffer.concat([received, chunk.subarray(0, length)])
    if (isJunk(received)) return { answer: null, reason: 'away' }
    const answer = decodeAnswer(received)
    if (answer !== null) return { answer }
  }
}

/** The header says what no daemon says. */
function isJunk(bytes: Buffer): boolean {
  return bytes.length >= 8 && (bytes.readUInt32LE(0) > MAX_STATUS || bytes.readUInt32LE(4) > MAX_ANSWER_BYTES)
}
