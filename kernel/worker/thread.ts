/**
 * One of the kernel's threads, seen from the main thread: jobs go in, promises come out.
 *
 * Trap: a thread that dies takes its sockets and what it knows of nftables with it. Nothing is restarted here:
 * everything asked of it from then on rejects, and `onEnd` is told, so that the daemon can end and start anew.
 */
import { writeSync } from 'node:fs'
import { Worker } from 'node:worker_threads'
import { messageOf, TwillError } from '../../lib/errors.ts'
import type { HostPaths } from '../host-paths.ts'
import type { KernelEvent } from '../kernel.ts'
import {
  type Answer,
  type Answered,
  isShort,
  type Ready,
  type Request,
  type Role,
  type Roles,
  receivedError,
  type ThreadData,
} from './jobs.ts'

const WAKE = Buffer.from([1, 0, 0, 0, 0, 0, 0, 0])

export interface ThreadOptions<R extends Role> {
  readonly role: R
  /** The built worker, or under-tsx.mjs. */
  readonly url: URL
  readonly host: HostPaths
}

export interface ThreadModules {
  readonly onEvent: (event: KernelEvent) => void
  /** Called once when the thread has ended without `close`. */
  readonly onEnd: (error: Error) => void
}

interface Waiting {
  readonly resolve: (value: never) => void
  readonly reject: (error: Error) => void
}

/** Megabytes. Enough for a ruleset of 20,000 elements; small, because the threads share one memory goal. */
const HEAP = { maxYoungGenerationSizeMb: 2, maxOldGenerationSizeMb: 128, stackSizeMb: 1 }

export class KernelThread<R extends Role> {
  /** Resolves when the thread serves jobs. */
  readonly ready: Promise<void>
  readonly #worker: Worker
  readonly #modules: ThreadModules
  readonly #waiting = new Map<number, Waiting>()
  #unsent: Request[] = []
  #next = 1
  #ended: Error | null = null
  #wakeFd: number | null = null
  #closing = false

  constructor(options: ThreadOptions<R>, modules: ThreadModules) {
    this.#modules = modules
    this.#worker = new Worker(options.url, {
      name: `kernel-${options.role}`,
      workerData: { role: options.role, host: options.host } satisfies ThreadData,
      resourceLimits: HEAP,
    })
    this.ready = new Promise((resolve, reject) => {
      this.#waiting.set(0, { resolve: resolve as Waiting['resolve'], reject })
    })
    this.#worker.on('message', (answer: Answer) => this.#receive(answer))
    this.#worker.on('error', error => this.#end(error))
    this.#worker.on('exit', code => this.#end(new Error(`status ${code}`)))
  }

  run<J extends keyof Roles[R] & string>(
    job: J,
    ...args: JobArgs<Roles[R][J]>
  ): Promise<JobResult<Roles[R][J]>> {
    if (this.#ended !== null) return Promise.reject(this.#ended)
    const id = this.#next++
    return new Promise((resolve, reject) => {
      this.#waiting.set(id, { resolve: resolve as Waiting['resolve'], reject })
      this.#unsent.push({ id, job, args })
      if (!isShort(job)) queueMicrotask(() => this.#send())
      else if (this.#unsent.length === 1) setImmediate(() => this.#send())
    })
  }

  /**
   * What one callback asks for goes out together, since each message to a sleeping thread costs its waking. Short jobs wait
   * for those of all calls whose sockets this turn of the event loop reads.
   */
  #send(): void {
    const requests = this.#unsent
    this.#unsent = []
    if (this.#ended !== null || requests.length === 0) return
    this.#worker.postMessage(requests)
    this.#wake()
  }

  async close(): Promise<void> {
    this.#closing = true
    this.#wake()
    await this.#worker.terminate()
  }

  #receive(answer: Answer): void {
    if ('answers' in answer) for (const each of answer.answers) this.#settle(each)
    else if ('event' in answer) this.#modules.onEvent(answer.event)
    else this.#settle(answer)
  }

  #settle(answer: Answered | Ready): void {
    if ('ready' in answer) this.#wakeFd = answer.wakeFd
    const id = 'ready' in answer ? 0 : answer.id
    const waiting = this.#waiting.get(id)
    this.#waiting.delete(id)
    if ('error' in answer) waiting?.reject(receivedError(answer.error))
    else waiting?.resolve(('value' in answer ? answer.value : undefined) as never)
  }

  /** eventfd(2): eight octets, added to its count. */
  #wake(): void {
    if (this.#wakeFd !== null) writeSync(this.#wakeFd, WAKE)
  }

  #end(cause: Error): void {
    if (this.#ended !== null) return
    this.#ended = new TwillError('kernel.failed', `a kernel thread ended: ${messageOf(cause)}`, {
      operation: 'kernel thread',
      errno: 'EIO',
      message: messageOf(cause),
    })
    for (const { reject } of this.#waiting.values()) reject(this.#ended)
    this.#waiting.clear()
    this.#wakeFd = null
    if (!this.#closing) this.#modules.onEnd(this.#ended)
  }
}

type JobArgs<J> = J extends (...args: infer A) => unknown ? A : never
type JobResult<J> = J extends (...args: never[]) => infer V ? V : never
