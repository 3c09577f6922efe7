/**
 * This node in Kubernetes: once runtimes are told of the network, its Node object says that the network is there and loses the
 * startup taint, in this order. Both are kept so, whoever changes them, but slowly: two who disagree must not write in turns.
 * Neither is taken back when the daemon ends: a restart concerns nobody. NetworkUnavailable becomes True while the data path
 * is broken, by the very judgement of STATUS, which older runtimes never ask for.
 *
 * A Node object that is gone is believed only when a read of its own says so: a watch may have been cut.
 */
import type { KubernetesClient } from '../../datastore/kubernetes/client.ts'
import { Reflector } from '../../datastore/kubernetes/reflector.ts'
import type { Clock, Random, Timer } from '../../lib/clock.ts'
import { isTwillError, messageOf } from '../../lib/errors.ts'
import type { Log } from '../../lib/log.ts'
import {
  conditionPatch,
  nodePath,
  nodeStands,
  type OwnNode,
  ownNodeOf,
  taintPatch,
  type WantedCondition,
} from './own-node.ts'

export interface NodeLifeOptions {
  readonly name: string
  /** How often it is looked at without an event, and how soon what was undone is done again. Default 10 s. */
  readonly everyMs?: number
}

export interface NodeLifeModules {
  readonly client: KubernetesClient
  readonly clock: Clock
  readonly random: Random
  readonly log: Log
  /** Runtimes have their network configuration. */
  readonly announced: () => boolean
  /** Why the data path is broken; null: it is not, or not for long. */
  readonly trouble: () => string | null
  /** `node` or `isDeleted` is another. */
  readonly changed: () => void
}

const EVERY_MS = 10_000
const RETRY_MS = 1_000

export class NodeLife {
  readonly #options: Required<NodeLifeOptions>
  readonly #modules: NodeLifeModules
  #reflector: Reflector<OwnNode> | null = null
  /** BOOTTIME before which the same is not written again. */
  readonly #notBeforeMs = new Map<string, number>()
  #deleted = false
  #problem: string | null = null
  #timer: Timer | null = null
  #attending: Promise<void> | null = null
  #again = false
  readonly #stopping = new AbortController()

  constructor(options: NodeLifeOptions, modules: NodeLifeModules) {
    this.#options = { everyMs: EVERY_MS, ...options }
    this.#modules = modules
  }

  start(): void {
    const onChange = () => {
      this.#modules.changed()
      this.check()
    }
    const fieldSelector = `metadata.name=${this.#options.name}`
    this.#reflector = new Reflector(
      { path: '/api/v1/nodes', fieldSelector, slim: ownNodeOf, onChange },
      this.#modules,
    )
    this.#reflector.synced().then(() => this.check())
    this.#schedule(this.#options.everyMs)
  }

  async stop(): Promise<void> {
    this.#stopping.abort()
    this.#timer?.cancel()
    await this.#reflector?.close()
    await this.#attending
  }

  /** As last seen; null: not seen yet, or there is none. */
  get node(): OwnNode | null {
    return this.#reflector?.entries.get(this.#options.name) ?? null
  }

  /** Kubernetes has no such Node, as a read has confirmed: this node was removed. */
  get isDeleted(): boolean {
    return this.#deleted
  }

  conditions(): { type: string; message: string }[] {
    const problem = this.#problem ?? this.#reflector?.problem() ?? null
    const deleted = `Kubernetes has no Node ${this.#options.name}: this node was removed; its pods run on until their addresses are given to others`
    return [
      ...(this.#deleted ? [{ type: 'NodeDeleted', message: deleted }] : []),
      ...(problem === null ? [] : [{ type: 'Kubernetes', message: problem }]),
    ]
  }

  /** Is there such a Node object, now? @throws kubernetes.* */
  standsNow(signal = this.#stopping.signal): Promise<boolean> {
    return nodeStands(this.#options.name, this.#modules.client, signal)
  }

  /** Something may be due: runtimes were told, or the object is another. */
  check(): void {
    if (this.#stopping.signal.aborted) return
    if (this.#attending !== null) {
      this.#again = true
      return
    }
    this.#attending = this.#attend()
      .then(
        () => {
          this.#problem = null
          this.#schedule(this.#options.everyMs)
        },
        error => this.#failed(error),
      )
      .finally(() => {
        this.#attending = null
        const again = this.#again
        this.#again = false
        if (again) this.check()
      })
  }

  #schedule(delayMs: number): void {
    this.#timer?.cancel()
    if (!this.#stopping.signal.aborted)
      this.#timer = this.#modules.clock.setTimer(delayMs, () => this.check())
  }

  #failed(error: unknown): void {
    if (this.#stopping.signal.aborted) return
    const problem = messageOf(error)
    if (problem !== this.#problem)
      this.#modules.log.warn({ error: problem }, 'the Node object cannot be seen to')
    this.#problem = problem
    const { random } = this.#modules
    // The taints were changed under our hands, which is no failure: soon again.
    const isRace = isTwillError(error, 'kubernetes.invalid') || isTwillError(error, 'kubernetes.conflict')
    this.#schedule((isRace ? RETRY_MS : this.#options.everyMs) * (0.5 + random.fraction() / 2))
  }

  async #attend(): Promise<void> {
    if (!this.#reflector?.isSynced) return
    const node = this.node
    this.#setDeleted(node === null && !(await this.standsNow()))
    if (node === null || !this.#modules.announced()) return
    await this.#keepCondition(node)
    await this.#removeTaint(node)
  }

  #setDeleted(deleted: boolean): void {
    if (deleted === this.#deleted) return
    this.#deleted = deleted
    const { log, changed } = this.#modules
    if (deleted) log.error({}, 'the Node object is gone: this node was removed')
    else log.warn({}, 'the Node object is back')
    changed()
  }

  async #keepCondition({ networkUnavailable }: OwnNode): Promise<void> {
    const { clock, log } = this.#modules
    const wanted = wantedCondition(this.#modules.trouble())
    const patch = conditionPatch(networkUnavailable, wanted, new Date(clock.realtimeMs()).toISOString())
    if (patch === null || !this.#isDue(wanted.reason)) return
    await this.#patch('/status', 'application/strategic-merge-patch+json', patch)
    this.#rest(wanted.reason)
    log.info({ ...wanted, before: networkUnavailable }, 'NetworkUnavailable is set')
  }

  async #removeTaint({ taints }: OwnNode): Promise<void> {
    const patch = taintPatch(taints)
    if (patch === null || !this.#isDue('taint')) return
    await this.#patch('', 'application/json-patch+json', patch)
    this.#rest('taint')
    this.#modules.log.info({}, 'the startup taint is removed')
  }

  async #patch(subresource: string, contentType: string, body: object): Promise<void> {
    const path = nodePath(this.#options.name) + subresource
    const { signal } = this.#stopping
    await this.#modules.client.request('PATCH', path, { body, contentType, signal })
  }

  #isDue(what: string): boolean {
    return this.#modules.clock.boottimeMs() >= (this.#notBeforeMs.get(what) ?? 0)
  }

  #rest(what: string): void {
    this.#notBeforeMs.set(what, this.#modules.clock.boottimeMs() + this.#options.everyMs)
  }
}

function wantedCondition(trouble: string | null): WantedCondition {
  if (trouble !== null) return { status: 'True', reason: 'TwillDataPathBroken', message: trouble }
  return { status: 'False', reason: 'TwillIsUp', message: 'Twill serves this node' }
}
