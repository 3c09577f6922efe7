/**
 * The iptables programs, run by argument vector. There are two of them for each family, with tables of their own
 * in the kernel: `legacy` and `nft`; both may be in use at once.
 *
 * Trap: merely listing a table with the legacy program makes it, and hooks it in. So the kernel is asked first
 * whether there is one.
 */
import { execFileSync } from 'node:child_process'
import { readFileSync } from 'node:fs'
import type { Family } from '../../lib/address.ts'
import { TwillError } from '../../lib/errors.ts'

export type Variant = 'legacy' | 'nft'

export const programOf = (family: Family, variant: Variant): string =>
  `${family === 4 ? 'iptables' : 'ip6tables'}-${variant}`

const LOCK_WAIT_SECONDS = '5'

/** True when the legacy filter table stands in the calling thread's network namespace. */
export function hasLegacyTable(family: Family): boolean {
  const path = `/proc/thread-self/net/${family === 4 ? 'ip' : 'ip6'}_tables_names`
  try {
    return readFileSync(path, 'utf8').split('\n').includes('filter')
  } catch {
    // No such file: the module was never loaded.
    return false
  }
}

/** `-S` of the filter table; null when the program is not installed. @throws TwillError kernel.failed */
export function listFilter(family: Family, variant: Variant): string | null {
  return run(programOf(family, variant), ['-w', LOCK_WAIT_SECONDS, '-S'], '')
}

/** One transaction. @throws TwillError kernel.failed */
export function restoreFilter(family: Family, variant: Variant, text: string): void {
  run(`${programOf(family, variant)}-restore`, ['-w', LOCK_WAIT_SECONDS, '--noflush'], text)
}

function run(program: string, args: readonly string[], input: string): string | null {
  try {
    return execFileSync(program, args, { input, encoding: 'utf8', stdio: ['pipe', 'pipe', 'pipe'] })
  } catch (error) {
    const { code, stderr } = error as { code?: string; stderr?: unknown }
    if (code === 'ENOENT') return null
    const message = String(stderr ?? error).trim()
    throw new TwillError(
      'kernel.failed',
      `${program}: ${message}`,
      { operation: program, errno: code ?? 'EINVAL', message },
      { retryable: true },
    )
  }
}
