/**
 * This node's heartbeat: raises the counter in its liveness record, which nobody watches, and notices when the
 * record shows that somebody else is this node. It confirms no ownership (ADDRESSES.md rule 6).
 */
import { livenessKey, nodeKey } from '../datastore/keys.ts'
import { recordParser } from '../datastore/record.ts'
import { type LivenessRecord, livenessRecord } from '../datastore/records/liveness.ts'
import { nodeRecord } from '../datastore/records/node.ts'
import type { Store } from '../datastore/store.ts'
import type { Clock, Timer } from '../lib/clock.ts'
import { isTwillError, messageOf, TwillError } from '../lib/errors.ts'
import type { Log } from '../lib/log.ts'
import { changeRecord } from './change-record.ts'
import { endRemoval } from './node-removal.ts'

export interface HeartbeatOptions {
  readonly uid: string
  readonly name: string
  readonly hardware: string
  readonly heartbeatMs: number
  readonly allowanceMs: number
  /** Name or UID belong to another machine now (rule 15). Called once; the heart has stopped. */
  readonly onTaken: (reason: TwillError) => void
  /** Is the Node object there whose deletion removed this node? Asked when its record says so; absent: there are none. */
  readonly isRecreated?: () => Promise<boolean>
  /** The counter is lower than the store said it had written: it went back to an older state (rule 16). */
  readonly onBehind?: (reason: string) => void
}

export interface HeartbeatModules {
  readonly store: Store
  readonly clock: Clock
  readonly log: Log
}

const parseLiveness = recordParser(livenessRecord)
const parseNode = recordParser(nodeRecord)

export class Heartbeat {
  readonly #options: HeartbeatOptions
  readonly #modules: HeartbeatModules
  /** Highest counter that we have sent, whether or not it arrived; null before the first. */
  #sent: number | null = null
  /** Highest counter that the store said it has. */
  #written = 0
  #complaint = ''
  #timer: Timer | null = null
  #beating: Promise<void> | null = null
  #stopped = false

  constructor(options: HeartbeatOptions, modules: HeartbeatModules) {
    this.#options = options
    this.#modules = modules
  }

  start(): void {
    this.#schedule(0)
  }

  async stop(): Promise<void> {
    this.#stopped = true
    this.#timer?.cancel()
    await this.#beating
  }

  #schedule(delayMs: number): void {
    if (this.#stopped) return
    this.#timer = this.#modules.clock.setTimer(delayMs, () => {
      this.#beating = this.#beat().finally(() => {
        this.#beating = null
        this.#schedule(this.#options.heartbeatMs)
      })
    })
  }

  async #beat(): Promise<void> {
    try {
      const nameIsOurs = await this.#nameIsOurs()
      const { value } = await changeRecord<LivenessRecord>(this.#modules.store, {
        key: livenessKey(this.#options.uid),
        parse: parseLiveness,
        step: current => this.#next(current, nameIsOurs),
      })
      this.#written = value?.heartbeat ?? 0
      if (value?.removed?.endsWith === 'recreation') await this.#returnIfRecreated(value.removed.fence)
    } catch (error) {
      if (isTwillError(error, 'node.name-taken')) this.#taken(error)
      else this.#notWritten(error)
    }
  }

  async #returnIfRecreated(fence: string): Promise<void> {
    if (!(await this.#options.isRecreated?.())) return
    if (await endRemoval(this.#options.uid, fence, this.#modules.store))
      this.#modules.log.warn({ fence }, 'this node was removed and has a Node object again: it is back')
  }

  /** While the store is away others say so; a record that cannot be read is for people. */
  #notWritten(error: unknown): void {
    const err = messageOf(error)
    const { log } = this.#modules
    if (isTwillError(error, 'document.invalid') && err !== this.#complaint)
      log.error({ err }, 'no heartbeat: a record of this node cannot be read')
    else log.debug({ err }, 'heartbeat not written')
    this.#complaint = err
  }

  #taken(reason: TwillError): void {
    this.#stopped = true
    this.#modules.log.error({ err: reason.message }, 'this node has lost its name')
    this.#options.onTaken(reason)
  }

  /** A node without record was removed by name: it may come back. */
  async #nameIsOurs(): Promise<boolean> {
    const { name, uid } = this.#options
    const { entry } = await this.#modules.store.get(nodeKey(name))
    if (entry === null) return true
    const other = parseNode(entry.value, entry.key).uid
    if (other === uid) return true
    throw this.#lost(`node name ${name} went to another machine (UID ${other})`, other)
  }

  #next(current: LivenessRecord | null, nameIsOurs: boolean): LivenessRecord {
    const { uid, name, hardware, heartbeatMs, allowanceMs } = this.#options
    if (current !== null && current.hardware !== hardware)
      throw this.#lost(`UID ${uid} of node ${name} is used by other hardware: ${current.hardware}`, uid)
    // Nobody else raises the counter, unless he is our exact copy.
    if (current !== null && this.#sent !== null && current.heartbeat > this.#sent)
      throw this.#lost(`another machine with the same hardware (${hardware}) runs as node ${name}`, uid)
    if (current !== null && current.heartbeat < this.#written) {
      this.#options.onBehind?.(`our heartbeat was ${this.#written} and is ${current.heartbeat}`)
      this.#written = 0
    }
    this.#sent = Math.max(current?.heartbeat ?? 0, this.#sent ?? 0) + 1
    const removed = current?.removed ?? null
    return {
      v: 1,
      uid,
      name,
      hardware,
      heartbeat: this.#sent,
      heartbeatMs,
      allowanceMs,
      removed: removed?.endsWith === 'return' && nameIsOurs ? null : removed,
    }
  }

  #lost(message: string, otherUid: string): TwillError {
    const { name, hardware } = this.#options
    return new TwillError('node.name-taken', message, { name, uid: otherUid, hardware })
  }
}
