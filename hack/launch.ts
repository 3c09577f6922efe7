/**
 * How Node is started for a program of dist/lib, by its launcher (hack/build.ts) and in the container image. What keeps
 * the daemon small; docs/performance.md has what each is worth.
 */

interface Launch {
  /** The young generation is in megabytes. */
  readonly nodeFlags: readonly string[]
  /** All threads share one arena of malloc, and give back what they free. */
  readonly environment: Readonly<Record<string, string>>
}

export const LAUNCH: Readonly<Record<'twilld' | 'twillctl', Launch>> = {
  twilld: {
    nodeFlags: ['--max-semi-space-size=1', '--v8-pool-size=1', '--optimize-for-size'],
    environment: { MALLOC_ARENA_MAX: '1', MALLOC_TRIM_THRESHOLD_: '65536', UV_THREADPOOL_SIZE: '2' },
  },
  twillctl: { nodeFlags: [], environment: {} },
}
