/**
 * This node's record, nodes/<name>: written when it is missing or differs, from whatever reason (first start, a
 * changed address, somebody's deletion), and never otherwise. A failed write is tried again until it stands.
 */
import { isDeepStrictEqual } from 'node:util'
import { nodeKey } from '../../datastore/keys.ts'
import { recordParser } from '../../datastore/record.ts'
import { type NodeRecord, nodeRecord } from '../../datastore/records/node.ts'
import type { Store } from '../../datastore/store.ts'
import { changeRecord, KEEP } from '../../ipam/change-record.ts'
import type { Clock, Timer } from '../../lib/clock.ts'
import { isTwillError, messageOf, TwillError } from '../../lib/errors.ts'
import type { Log } from '../../lib/log.ts'

export interface RegistrationModules {
  readonly store: Store
  readonly clock: Clock
  readonly log: Log
  /** What the record should say now; null while that is not known. */
  readonly wanted: () => NodeRecord | null
  /** As the watch has it; undefined: no record. */
  readonly published: () => NodeRecord | undefined
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
    if (this.#stopped || wanted === null || isDeepStrictEqual(wanted, this.#modules.published())) return
    if (this.#writing) {
      this.#again = true
      return
    }
    this.#writing = true
    this.#write(wanted)
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

  stop(): void {
    this.#stopped = true
    this.#timer?.cancel()
  }
}

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
