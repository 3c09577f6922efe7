/** How this process was called, as the frame has it: program, CNI_* variables, stdin, and the namespace, opened. */
import { constants, fstatSync, openSync, readSync, statSync } from 'node:fs'
import { basename } from 'node:path'
import { messageOf } from '../lib/errors.ts'
import { MAX_ENTRIES_BYTES, MAX_STDIN_BYTES, type Request } from './frame.ts'
import type { RequestContext } from './request.ts'

export interface Invocation {
  readonly request: Request
  readonly context: RequestContext
}

/** Never throws: what could not be read is told in `context`. The namespace stays open until the process ends. */
export function readInvocation(program: string, environment: NodeJS.ProcessEnv): Invocation {
  const stdin = readStdin()
  const variables = Object.entries(environment).filter(([name]) => name.startsWith('CNI_')) as [
    string,
    string,
  ][]
  const netns = identityOf(() => {
    const path = environment.CNI_NETNS
    // Not blocking, in case that it is a pipe.
    return path
      ? fstatSync(openSync(path, constants.O_RDONLY | constants.O_NONBLOCK), { bigint: true })
      : null
  })
  return {
    request: {
      program: basename(program),
      environment: new Map(variables),
      stdin: stdin.bytes,
      netnsDev: netns?.dev ?? null,
      netnsIno: netns?.ino ?? null,
    },
    context: {
      ownNetns: identityOf(() => statSync('/proc/self/ns/net', { bigint: true })),
      stdinFailure: stdin.failure ?? oversize(variables),
    },
  }
}

function identityOf(read: () => { dev: bigint; ino: bigint } | null): { dev: string; ino: string } | null {
  try {
    const seen = read()
    return seen === null ? null : { dev: seen.dev.toString(), ino: seen.ino.toString() }
  } catch {
    return null
  }
}

function readStdin(): { bytes: Buffer; failure: string | null } {
  const chunks: Buffer[] = []
  let length = 0
  try {
    for (;;) {
      const chunk = Buffer.alloc(65536)
      const read = readSync(0, chunk)
      if (read === 0) return { bytes: Buffer.concat(chunks), failure: null }
      chunks.push(chunk.subarray(0, read))
      length += read
      if (length > MAX_STDIN_BYTES)
        return { bytes: Buffer.alloc(0), failure: `more than ${MAX_STDIN_BYTES} bytes` }
    }
  } catch (error) {
    return { bytes: Buffer.alloc(0), failure: messageOf(error) }
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
