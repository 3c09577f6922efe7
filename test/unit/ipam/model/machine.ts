/**
 * A machine of the model: a node of the rig with what its daemon does about who it is. It starts as daemon/node/identify.ts
 * and daemon/compose.ts do: asks the store, or goes on under the journaled UID while that is away; its heart beats once
 * the store has said who it is; whoever has lost name or UID ends, and its pods are cut off.
 */

import { nodeKey } from '../../../../datastore/keys.ts'
import { recordParser } from '../../../../datastore/record.ts'
import { type NodeRecord, nodeRecord } from '../../../../datastore/records/node.ts'
import { changeRecord, KEEP } from '../../../../ipam/change-record.ts'
import { Heartbeat } from '../../../../ipam/heartbeat.ts'
import type { Identity } from '../../../../ipam/identity.ts'
import { establishIdentity } from '../../../../ipam/identity.ts'
import { replay } from '../../../../ipam/journal-records.ts'
import type { IpamOptions, NodeIpam } from '../../../../ipam/node-ipam.ts'
import { isTwillError } from '../../../../lib/errors.ts'
import { silentLog } from '../../../../lib/log.ts'
import type { ManualClock, SeededRandom } from '../../../fixtures/manual-clock.ts'
import { RigNode } from '../rig.ts'
import type { ModelCluster } from './protocol.ts'

const MINUTE = 60_000
export const HEARTBEAT_MS = 2 * MINUTE
/** Longer than it takes to see that another machine's heart stands still. */
export const SILENCE_MS = 2.5 * HEARTBEAT_MS + MINUTE
const RETRY_MS = 20_000

const parseNode = recordParser(nodeRecord)

export interface MachineModules {
  readonly cluster: ModelCluster
  readonly clock: ManualClock
  readonly random: SeededRandom
}

export class Machine extends RigNode {
  readonly hardware: string
  /** null: no journal, or a new machine. */
  journaledUid: string | null = null
  /** A daemon runs, or tries to. */
  isOn = false
  /** The name is another's: the daemon has ended, and every start ends so too. */
  isRefused = false
  /** Its journal was lost once: what it sent before is in no journal. */
  hasForgotten = false
  /** For ever: the machine was thrown away. */
  isGone = false
  /** Pods that the journal has forgotten. */
  readonly #survivors: Machine['attachments'] = new Map()
  readonly #random: SeededRandom
  #life = 0

  constructor(name: string, hardware: string, options: Partial<IpamOptions>, modules: MachineModules) {
    super(name, modules.cluster, modules.random, modules.clock, options)
    this.hardware = hardware
    this.boot = `boot of ${hardware}`
    this.uid = ''
    this.#random = modules.random
    const unknown = (part: string) => {
      if (!this.hasForgotten) modules.cluster.judgeUnknown(`${name} does not know its own part ${part}`)
    }
    this.log = {
      ...silentLog,
      warn: (data, text) => {
        if (text === 'part is ours and unknown here') unknown(JSON.stringify(data))
      },
    }
  }

  /** Of the store, as it remembers it. */
  get knownRevision(): number {
    return Math.max(replay(this.records).lastRevision, this.store.status().lastRevision)
  }

  /** Its heart beats: a removal by name is refused. */
  get moves(): boolean {
    return this.ipam !== null && !this.isCutOff && !this.clock.isPaused
  }

  /** The daemon starts. */
  launch(): void {
    if (this.isOn || this.isGone) return
    this.isOn = true
    this.isRefused = false
    void this.#identify(this.#life)
  }

  override reboot(): void {
    this.#survivors.clear()
    super.reboot()
  }

  override kill(): void {
    this.#life++
    this.isOn = false
    this.watches.forget()
    super.kill()
  }

  /** Nothing is left of it, and it never comes back. */
  discard(): void {
    this.kill()
    this.landLate()
    this.attachments.clear()
    this.isGone = true
  }

  /** The state folder is gone; pods run on. */
  loseJournal(): void {
    this.kill()
    this.hasForgotten = true
    this.records.length = 0
    this.journaledUid = null
  }

  /** The state folder of another machine. Should both come to bear its UID, one after the other, neither journal tells all. */
  copyFrom(other: Machine): void {
    this.hasForgotten = true
    other.hasForgotten = true
    this.records.push(...other.records)
    this.journaledUid = other.journaledUid
  }

  async #identify(life: number): Promise<void> {
    const known = this.journaledUid
    while (life === this.#life) {
      try {
        const identity = await this.#ask()
        if (life === this.#life) this.#begin(identity, known === null, life)
        return
      } catch (error) {
        if (life !== this.#life) return
        if (isTwillError(error, 'node.name-taken')) return this.#refuse()
        if (known !== null) {
          this.uid = known
          this.start()
          return this.#confirm(known, life)
        }
      }
      await this.process.sleep(RETRY_MS)
    }
  }

  /** By the journal until the store says who this is. */
  async #confirm(uid: string, life: number): Promise<void> {
    for (;;) {
      await this.process.sleep(RETRY_MS)
      try {
        const identity = await this.#ask()
        if (life !== this.#life) return
        if (identity.uid === uid) return this.#beat(life)
        // Somebody new: it begins anew, as its service does.
        this.kill()
        this.#forget()
        return this.launch()
      } catch (error) {
        if (life !== this.#life) return
        if (isTwillError(error, 'node.name-taken')) return this.#refuse()
      }
    }
  }

  #ask(): Promise<Identity> {
    const { name, hardware, boot, journaledUid, allowanceMs } = this
    const life = this.#life
    return establishIdentity(
      { name, hardware, incarnation: boot, journaledUid, heartbeatMs: HEARTBEAT_MS, allowanceMs },
      {
        store: this.store,
        clock: this.process,
        random: this.#random,
        log: silentLog,
        remember: async uid => {
          if (life !== this.#life) throw new Error('the process is dead')
          if (this.journalFails) throw new Error('disk full')
          // What the journal says belongs to another UID.
          if (this.journaledUid !== null && this.journaledUid !== uid) this.#forget()
          this.journaledUid = uid
        },
      },
    )
  }

  #begin({ uid, fresh }: Identity, forgetful: boolean, life: number): void {
    if (fresh) this.#forget()
    this.uid = uid
    if (forgetful) {
      for (const survivor of this.attachments) this.#survivors.set(...survivor)
      this.attachments.clear()
    }
    const ipam = this.start({ journalIntact: !forgetful })
    void ipam.ready().then(() => {
      if (life === this.#life) this.#audit(ipam)
    })
    this.#beat(life)
  }

  /** Rule 17: pods whom kernel and ledgers know are kept; the audit ends the others, and holders that are no pods. */
  #audit(ipam: NodeIpam): void {
    for (const { holder, addresses } of ipam.holders())
      if (this.#survivors.has(holder.id))
        this.attachments.set(holder.id, { holder, addresses: [...addresses] })
      else if (!this.attachments.has(holder.id) && !this.adding.has(holder.id)) ipam.release(holder.id)
    this.#survivors.clear()
  }

  /** The journal and the pods of another identity. */
  #forget(): void {
    this.records.length = 0
    this.attachments.clear()
    this.#survivors.clear()
  }

  #beat(life: number): void {
    const { uid, name, hardware, store, process, allowanceMs } = this
    const taken = () => {
      if (life === this.#life) this.#refuse()
    }
    const onBehind = (reason: string) => {
      if (life === this.#life) this.ipam?.suspectRestore(reason)
    }
    const options = { uid, name, hardware, heartbeatMs: HEARTBEAT_MS, allowanceMs, onTaken: taken, onBehind }
    new Heartbeat(options, { store, clock: process, log: silentLog }).start()
    store.watch(nodeKey(name), message => {
      if (message.type !== 'connection') this.#publish(uid)
    })
  }

  /** As the daemon's registration does: the record stands again when somebody has removed it. What fails is for the next change. */
  #publish(uid: string): void {
    const { name, boot: incarnation } = this
    const blank = { underlay: {}, hostAddresses: [], vteps: [], tunnel: {} }
    changeRecord<NodeRecord>(this.store, {
      key: nodeKey(name),
      parse: parseNode,
      step: current => (current === null ? { v: 1, name, uid, incarnation, ...blank } : KEEP),
    }).catch(() => {})
  }

  #refuse(): void {
    this.kill()
    this.isRefused = true
  }
}
