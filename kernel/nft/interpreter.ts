/**
 * nft's own language, executed: by libnftables in this process, or, where the library cannot be loaded, by
 * spawning `nft` (some 20 ms instead of under 1 ms).
 *
 * Invariant: one call is one transaction. Trap: a context's netlink socket belongs to the network namespace in
 * which the context was made, a spawned nft to the one its thread is in.
 */
import { execFileSync } from 'node:child_process'
import koffi from 'koffi'
import { TwillError } from '../../lib/errors.ts'

export interface NftInterpreter {
  readonly kind: 'library' | 'process'
  /** Answers what nft prints. @throws TwillError kernel.failed {operation, errno, message}, nft's words in message */
  run(commands: string): string
  close(): void
}

/** The library if it is there, else the program. */
export function openNft(): NftInterpreter {
  return openLibrary() ?? nftProcess()
}

/** null when libnftables.so.1 cannot be loaded or gives no context. */
export function openLibrary(): NftInterpreter | null {
  const nft = bindLibrary()
  const context = nft?.open(0)
  if (nft === null || !context) return null
  nft.bufferOutput(context)
  nft.bufferError(context)
  return {
    kind: 'library',
    run(commands) {
      const status = nft.run(context, commands)
      // Reading a buffer empties it, so both are read whatever happened.
      const [output, errors] = [nft.output(context), nft.error(context)]
      if (status !== 0) throw refused(errors)
      return output
    },
    close: () => nft.close(context),
  }
}

function bindLibrary() {
  try {
    const library = koffi.load('libnftables.so.1')
    return {
      open: library.func('void *nft_ctx_new(uint32_t flags)'),
      close: library.func('void nft_ctx_free(void *context)'),
      bufferOutput: library.func('int nft_ctx_buffer_output(void *context)'),
      bufferError: library.func('int nft_ctx_buffer_error(void *context)'),
      output: library.func('const char *nft_ctx_get_output_buffer(void *context)'),
      error: library.func('const char *nft_ctx_get_error_buffer(void *context)'),
      run: library.func('int nft_run_cmd_from_buffer(void *context, const char *commands)'),
    }
  } catch {
    return null
  }
}

export function nftProcess(): NftInterpreter {
  return {
    kind: 'process',
    run(commands) {
      try {
        return execFileSync('nft', ['-f', '-'], {
          input: commands,
          encoding: 'utf8',
          stdio: ['pipe', 'pipe', 'pipe'],
          maxBuffer: 64 << 20,
        })
      } catch (error) {
        throw refused(String((error as { stderr?: unknown }).stderr ?? error))
      }
    },
    close() {},
  }
}

/** nft puts the kernel's errno into words at the end of its message's first line. */
const ERRNO_WORDS: readonly (readonly [RegExp, string])[] = [
  [/No such file or directory/, 'ENOENT'],
  [/File exists|overlaps/, 'EEXIST'],
  [/Operation not permitted/, 'EPERM'],
  [/Device or resource busy/, 'EBUSY'],
  [/Operation not supported/, 'EOPNOTSUPP'],
  [/Interrupted system call/, 'EINTR'],
  [/No buffer space/, 'ENOBUFS'],
]

function refused(errors: string): TwillError {
  const message = errors.trim()
  const errno = ERRNO_WORDS.find(([words]) => words.test(message))?.[1] ?? 'EINVAL'
  return new TwillError(
    'kernel.failed',
    `nft: ${message}`,
    { operation: 'nft', errno, message },
    { retryable: true },
  )
}
