/**
 * This node's record, nodes/<name>: written when it is missing or differs, from whatever reason (first start, a
 * changed address, somebody's deletion), and never otherwise. A failed write is tried again until it stands.
 *
 * A record of our UID under another name goes as soon as ours stands: it is that of before this node was renamed, and others
 * would route by whichever of the two they come upon.
 */
import { isDeepStrictEqual } from 'node:util'
import { nodeKey } from '../../datastore/keys.ts'
import { recordParser } from '../../datastore/record.ts'
import { type NodeRecord, nodeRecord } from '../../datastore/records/node.ts'
import type { Store } from '../../datastore/store.ts'
import { changeRecord, KEEP } from '../../ipam/change-record.ts'
import { withdrawName } from '../../ipam/removal.ts'
import type { Clock, Timer } from '../../lib/clock.ts'
import { isTwillError, messageOf, TwillError } from '../../lib/errors.ts'
import type { Log } from '../../lib/log.ts'

export interface RegistrationModules {
  readonly store: Store
  readonly clock: Clock
  readonly log: Log
  /** What the record should say now; null while that is not known. */
  readonly wanted: () => NodeRecord | null
  /** All, as the watch has them. */
  readonly nodes: () => readonly NodeRecord[]
  /** Another UID has our name now: this daemon must not go on. */
  readonly nameLost: (error: TwillError) => void
}

const RETRY_MS = 1_000
const parse = recordParser(nodeRecord)

export class Registration {
  readonly #modules: RegistrationModules
  #timer: Timer | null = null
  #writing = false
  #again = false
  #stopped = false

  constructor(modules: RegistrationModules) {
    this.#modules = modules
  }

  /** Compares and writes if needed; call whenever a part of either may have changed. */
  check(): void {
    const wanted = this.#modules.wanted()
    if (this.#stopped || wanted === null) return
    const nodes = this.#modules.nodes()
    const stands = isDeepStrictEqual(wanted, ofName(wanted.name, nodes))
    const strays = stands ? nodes.filter(({ name, uid }) => uid === wanted.uid && name !== wanted.name) : []
    if (stands && strays.length === 0) return
    if (this.#writing) {
      this.#again = true
      return
    }
    this.#writing = true
    const work = stands ? this.#withdraw(strays) : this.#write(wanted)
    work
      .catch(error => {
        if (isTwillError(error, 'node.name-taken')) return this.#modules.nameLost(error)
        this.#modules.log.warn(
          { error: messageOf(error) },
          "this node's record could not be written; trying again",
        )
        this.#timer = this.#modules.clock.setTimer(RETRY_MS, () => this.check())
      })
      .finally(() => {
        this.#writing = false
        if (this.#again) {
          this.#again = false
          this.check()
        }
      })
  }

  async #write(wanted: NodeRecord): Promise<void> {
    const changed = await changeRecord<NodeRecord>(this.#modules.store, {
      key: nodeKey(wanted.name),
      parse,
      step: current => {
        if (current !== null && current.uid !== wanted.uid) throw nameTaken(current, wanted)
        return isDeepStrictEqual(current, wanted) ? KEEP : wanted
      },
    })
    if (changed.wrote) this.#modules.log.info({ record: wanted }, "this node's record was written")
  }

  async #withdraw(strays: readonly NodeRecord[]): Promise<void> {
    for (const { name, uid } of strays) {
      await withdrawName(name, new Set([uid]), this.#modules.store)
      this.#modules.log.warn({ name, uid }, 'the record of this node under another name is deleted')
    }
  }

  stop(): void {
    this.#stopped = true
    this.#timer?.cancel()
  }
}

const ofName = (name: string, nodes: readonly NodeRecord[]): NodeRecord | undefined =>
  nodes.find(node => node.name === name)

function nameTaken(current: NodeRecord, wanted: NodeRecord): TwillError {
  const { name, uid } = wanted
  return new TwillError(
    'node.name-taken',
    `the name ${name} belongs to another machine now (UID ${current.uid}); this one was ${uid}`,
    {
      name,
      uid,
      other: current.uid,
    },
  )
}
