/**
 * The Kernel on a real one. "Own" is the network namespace that the process is in when this is called.
 *
 * Invariant: nothing here blocks the calling thread; every call is a job for one of two threads (worker/jobs.ts).
 */

import { existsSync } from 'node:fs'
import { TwillError } from '../lib/errors.ts'
import type { Log } from '../lib/log.ts'
import { type HostPaths, OWN_PATHS } from './host-paths.ts'
import type { Kernel, KernelEvent, PodEndpoint, PodEndpointSpec, SetElement, StepOutcome } from './kernel.ts'
import { receivedError, type SentError } from './worker/jobs.ts'
import { KernelThread } from './worker/thread.ts'

export interface RealKernelOptions {
  /** Of the built worker (dist/lib/kernel-worker.mjs). Left out: the source, through tsx. */
  readonly workerUrl?: URL
  /** Default: the daemon runs on the node itself. */
  readonly host?: HostPaths
}

export interface RealKernelModules {
  readonly log: Log
  /** Told once when a thread died: the daemon should end, a new one takes over the data path untouched. */
  readonly onDead?: (error: Error) => void
}

/** An attach that meets a link awaiting deletion has it deleted, this often at most. */
const REAP_ATTEMPTS = 3

/** @throws TwillError kernel.failed when a thread cannot start (no netlink, no permission); config.invalid */
export async function createKernel(options: RealKernelOptions, modules: RealKernelModules): Promise<Kernel> {
  const { sysctls } = options.host ?? OWN_PATHS
  // Else every switch would pass for one that this kernel does not have.
  if (!existsSync(`${sysctls}/net`))
    throw new TwillError('config.invalid', `host.sysctls: there is no ${sysctls}/net`, { sysctls })
  const kernel = new ThreadedKernel(options, modules)
  try {
    await kernel.start()
    return kernel
  } catch (error) {
    await kernel.close()
    throw error
  }
}

class ThreadedKernel implements Kernel {
  readonly #pods: KernelThread<'pods'>
  readonly #node: KernelThread<'node'>
  readonly #listeners = new Set<(event: KernelEvent) => void>()

  constructor(options: RealKernelOptions, modules: RealKernelModules) {
    const url = options.workerUrl ?? new URL('./worker/under-tsx.mjs', import.meta.url)
    const host = options.host ?? OWN_PATHS
    const threadModules = {
      onEvent: (event: KernelEvent) => this.#emit(event),
      onEnd: (error: Error) => {
        modules.log.error({ error: error.message }, 'a kernel thread died')
        modules.onDead?.(error)
      },
    }
    this.#pods = new KernelThread({ role: 'pods', url, host }, threadModules)
    this.#node = new KernelThread({ role: 'node', url, host }, threadModules)
  }

  async start(): Promise<void> {
    await Promise.all([this.#pods.ready, this.#node.ready])
    await this.#node.run('watch', await this.#pods.run('ports'))
  }

  readLinks() {
    return this.#node.run('readLinks')
  }
  readAddresses() {
    return this.#node.run('readAddresses')
  }
  readRoutes(filter?: { protocol?: number; table?: number }) {
    return this.#node.run('readRoutes', filter)
  }
  readNeighbours() {
    return this.#node.run('readNeighbours')
  }
  readFdb(device: string) {
    return this.#node.run('readFdb', device)
  }
  readSysctl(path: string) {
    return this.#node.run('readSysctl', path)
  }
  lookupRoute(destination: string) {
    return this.#node.run('lookupRoute', destination)
  }
  async apply(steps: Parameters<Kernel['apply']>[0]) {
    return (await this.#node.run('apply', steps)).map(withError)
  }

  async attachPod(spec: PodEndpointSpec, elements: readonly SetElement[]): Promise<PodEndpoint> {
    for (let attempt = 0; attempt < REAP_ATTEMPTS; attempt++) {
      const endpoint = await this.#pods.run('attach', spec, elements)
      if (endpoint !== 'awaiting-reap') return endpoint
      // Whose link that is still owes its addresses to a call of its own.
      await this.#node.run('reapLinks', [])
    }
    throw new TwillError(
      'kernel.failed',
      `${spec.podInterface} in ${spec.netns.path} awaits deletion and cannot be deleted`,
      { operation: 'attach', errno: 'EBUSY', message: '' },
      { retryable: true },
    )
  }
  detachPod(...args: Parameters<Kernel['detachPod']>) {
    return this.#pods.run('detach', ...args)
  }
  reapLinks(addresses: readonly string[]) {
    return this.#node.run('reapLinks', addresses)
  }
  inspectPod(...args: Parameters<Kernel['inspectPod']>) {
    return this.#pods.run('inspect', ...args)
  }
  netnsCookie(...args: Parameters<Kernel['netnsCookie']>) {
    return this.#pods.run('netnsCookie', ...args)
  }
  ownNetnsCookie() {
    return this.#pods.run('ownNetnsCookie')
  }

  replaceRuleset(...args: Parameters<Kernel['replaceRuleset']>) {
    return this.#pods.run('replaceRuleset', ...args)
  }
  changeElements(...args: Parameters<Kernel['changeElements']>) {
    return this.#pods.run('changeElements', ...args)
  }
  rulesetIntact() {
    return this.#pods.run('rulesetIntact')
  }
  removeRuleset() {
    return this.#pods.run('removeRuleset')
  }
  ensureAcceptChains(...args: Parameters<Kernel['ensureAcceptChains']>) {
    return this.#node.run('ensureAcceptChains', ...args)
  }
  readForeignFilters() {
    return this.#node.run('readForeignFilters')
  }
  glanceAtLegacyFilters() {
    return this.#node.run('glanceAtLegacyFilters')
  }

  watch(listener: (event: KernelEvent) => void) {
    this.#listeners.add(listener)
    // A thread that has died is reported by itself.
    this.#node.run('askPodMacs').catch(() => undefined)
    return {
      close: async () => {
        this.#listeners.delete(listener)
      },
    }
  }

  async close(): Promise<void> {
    await Promise.all([this.#pods.close(), this.#node.close()])
  }

  #emit(event: KernelEvent): void {
    for (const listener of this.#listeners) listener(event)
  }
}

function withError(outcome: StepOutcome): StepOutcome {
  if (outcome.error === null) return outcome
  return { step: outcome.step, error: receivedError(outcome.error as unknown as SentError) }
}
