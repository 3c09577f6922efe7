/** What every part of a starting daemon works with. */
import type { Store } from '../datastore/store.ts'
import type { Kernel } from '../kernel/kernel.ts'
import type { Log } from '../lib/log.ts'
import type { Config } from './config.ts'
import type { KubernetesWatching } from './kubernetes/watching.ts'
import type { LocalState } from './local-state.ts'

export interface Base {
  readonly config: Config
  readonly log: Log
  readonly fail: (error: unknown) => void
  readonly kernel: Kernel
  readonly boot: string
  readonly local: LocalState
  readonly store: Store
  /** null: not enabled. */
  readonly kubernetes: KubernetesWatching | null
  readonly startedAt: string
}
