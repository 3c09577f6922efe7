/**
 * A clean leave (ADDRESSES.md rule 12), for a node whose daemon has ended: parts in which nobody lives are free at once,
 * struck and journaled first; the others are fenced like those of a removed node. The mark comes first, so that
 * whatever stops it halfway leaves a removed node behind, and the next leave, or the others, go on from there.
 */
import { ledgerKey, livenessKey, PREFIX } from '../datastore/keys.ts'
import { recordParser } from '../datastore/record.ts'
import { type LedgerRecord, ledgerRecord } from '../datastore/records/ledger.ts'
import { type LivenessRecord, livenessRecord } from '../datastore/records/liveness.ts'
import type { Store } from '../datastore/store.ts'
import { parseCidr } from '../lib/address.ts'
import type { Random } from '../lib/clock.ts'
import { TwillError } from '../lib/errors.ts'
import { faultPoint } from '../lib/fault.ts'
import { changeRecord, KEEP } from './change-record.ts'
import { sameHardware } from './hardware.ts'
import type { OwnPart } from './ipam.ts'
import type { NodeIpam } from './node-ipam.ts'
import { fenceAll, forgetIfPartless, withdrawName } from './removal.ts'

export interface LeaveOptions {
  readonly uid: string
  readonly name: string
  /** hardwareText: a copied state folder must not empty the machine that it was copied from. */
  readonly hardware: string
}

export interface LeaveModules {
  readonly store: Store
  readonly random: Random
  /** Started, with those who live here restored; stopped when the node has left. */
  readonly ipam: Pick<NodeIpam, 'ready' | 'leave' | 'ownParts' | 'stop'>
}

export interface Leave {
  readonly freed: number
  readonly fenced: number
  readonly allowanceMs: number
  /** No other node is in the cluster. */
  readonly last: boolean
}

const parseLedger = recordParser(ledgerRecord)
const parseLiveness = recordParser(livenessRecord)

/** @throws node.name-taken: these are another machine's; store.*, journal.write-failed: again, later */
export async function leaveCluster(options: LeaveOptions, modules: LeaveModules): Promise<Leave> {
  const { store, ipam } = modules
  await mark(options, modules)
  faultPoint('leave.marked')
  await ipam.ready()
  const owned = ipam.ownParts().length
  const kept = await ipam.leave()
  await ipam.stop()
  faultPoint('leave.given')
  await dropLedgers(options.uid, kept, store)
  // Fences of a leave that stopped halfway were lifted on the way, and the mark with them.
  const marked = await mark(options, modules)
  const fenced = marked === null ? 0 : await fenceAll(marked, store)
  faultPoint('leave.fenced')
  await withdrawName(options.name, new Set([options.uid]), store)
  if (fenced === 0) await forgetIfPartless(options.uid, store)
  const { entries: others } = await store.list(PREFIX.nodes)
  const allowanceMs = marked?.allowanceMs ?? 0
  return { freed: owned - kept.length, fenced, allowanceMs, last: others.length === 0 }
}

/** Of slots in which nothing is ours any more, also those that an earlier leave did not come to. */
async function dropLedgers(uid: string, kept: readonly OwnPart[], store: Store): Promise<void> {
  const still = new Set(kept.map(({ poolUid, slot }) => ledgerKey(poolUid, parseCidr(slot), uid)))
  const { entries } = await store.list(PREFIX.ledgers)
  const left = entries.filter(({ key }) => key.endsWith(`/${uid}`) && !still.has(key))
  for (const { key } of left)
    await changeRecord<LedgerRecord>(store, {
      key,
      parse: parseLedger,
      step: current => (current === null ? KEEP : null),
    })
}

/** null: no record of this node is left. */
async function mark(
  { uid, name, hardware }: LeaveOptions,
  { store, random }: LeaveModules,
): Promise<LivenessRecord | null> {
  const fence = random.uuid()
  const changed = await changeRecord<LivenessRecord>(store, {
    key: livenessKey(uid),
    parse: parseLiveness,
    step: current => {
      if (current === null) return KEEP
      if (!sameHardware(current.hardware, hardware)) throw anotherMachine(name, hardware, current)
      if (current.removed !== null) return KEEP
      return { ...current, removed: { fence, by: `left by itself (${name})`, endsWith: 'return' } }
    },
  })
  return changed.value
}

function anotherMachine(name: string, hardware: string, other: LivenessRecord): TwillError {
  return new TwillError(
    'node.name-taken',
    `the identity in this state folder belongs to another machine (${other.hardware}); this one is ${hardware}: nothing was changed`,
    { name, uid: other.uid, hardware, otherHardware: other.hardware },
  )
}
