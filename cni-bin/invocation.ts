/** How this process was called, as the frame has it: program, CNI_* variables, stdin, and the namespace, opened. */
import { MAX_ENTRIES_BYTES, MAX_STDIN_BYTES, type Request } from './frame.ts'
import type { Libc } from './libc.ts'

export interface Invocation {
  readonly request: Request
  /** Why stdin could not be read to its end; null when it was. */
  readonly stdinFailure: string | null
}

type Variables = Readonly<Record<string, string | undefined>>

/** Never throws. The namespace stays open until the process ends. */
export function readInvocation(libc: Libc, program: string, environment: Variables): Invocation {
  const stdin = readStdin(libc)
  const variables = Object.entries(environment).filter(
    (entry): entry is [string, string] => entry[0].startsWith('CNI_') && entry[1] !== undefined,
  )
  const netns = environment.CNI_NETNS ? openNetns(libc, environment.CNI_NETNS) : null
  return {
    request: {
      program: program.slice(program.lastIndexOf('/') + 1),
      environment: new Map(variables),
      stdin: stdin.bytes,
      netnsDev: netns?.dev ?? null,
      netnsIno: netns?.ino ?? null,
    },
    stdinFailure: stdin.failure ?? oversize(variables),
  }
}

function openNetns(libc: Libc, path: string) {
  const fd = libc.open(path)
  return fd < 0 ? null : libc.identity(fd)
}

function readStdin(libc: Libc): { bytes: Buffer; failure: string | null } {
  const chunks: Buffer[] = []
  let length = 0
  for (;;) {
    const chunk = Buffer.alloc(65536)
    const read = libc.read(0, chunk)
    if (read < 0) return { bytes: Buffer.alloc(0), failure: libc.lastError() }
    if (read === 0) return { bytes: Buffer.concat(chunks), failure: null }
    chunks.push(chunk.subarray(0, read))
    length += read
    if (length > MAX_STDIN_BYTES)
      return { bytes: Buffer.alloc(0), failure: `more than ${MAX_STDIN_BYTES} bytes` }
  }
}

function oversize(variables: readonly [string, string][]): string | null {
  const bytes = variables.reduce(
    (sum, [name, value]) => sum + Buffer.byteLength(name) + Buffer.byteLength(value) + 2,
    0,
  )
  return bytes > MAX_ENTRIES_BYTES - 4096
    ? `the CNI_* variables take more than ${MAX_ENTRIES_BYTES} bytes`
    : null
}
