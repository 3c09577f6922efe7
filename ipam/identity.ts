/**
 * Who this machine is in the cluster (ADDRESSES.md rule 14): the UID under which it owns parts. The name alone
 * gives no right to them: a machine that finds its name under another UID, or its UID under other hardware,
 * takes the name under a new UID, once the other's heartbeat has stood still, and inherits nothing.
 *
 * Invariant: a name goes to a new UID only by a compare-and-swap of the other's liveness record as it was when it
 * was last seen not to move, so that a heartbeat in between makes the taking fail.
 */
import { livenessKey, nodeKey } from '../datastore/keys.ts'
import { recordParser } from '../datastore/record.ts'
import { type LivenessRecord, livenessRecord } from '../datastore/records/liveness.ts'
import { type NodeRecord, nodeRecord } from '../datastore/records/node.ts'
import type { Store } from '../datastore/store.ts'
import type { Clock, Random } from '../lib/clock.ts'
import { isTwillError, TwillError } from '../lib/errors.ts'
import type { Log } from '../lib/log.ts'
import { changeRecord } from './change-record.ts'
import { sameHardware } from './hardware.ts'
import { forgetIfPartless } from './removal.ts'

export interface IdentityOptions {
  readonly name: string
  /** hardwareText; not machine-id, which clones share. */
  readonly hardware: string
  /** boot_id and cookie of the daemon's network namespace. */
  readonly incarnation: string
  /** null: this machine has no journal. */
  readonly journaledUid: string | null
  readonly heartbeatMs: number
  readonly allowanceMs: number
}

export interface IdentityModules {
  readonly store: Store
  readonly clock: Clock
  readonly random: Random
  readonly log: Log
  /** Journals a new UID; called before anything is written under it. */
  readonly remember: (uid: string) => Promise<void>
  /** Another machine has the name or UID: from now on it is watched for as long as it takes. */
  readonly contested?: () => void
}

export interface Identity {
  readonly uid: string
  /** True: what the journal says of addresses and attachments belongs to another UID and must be dropped. */
  readonly fresh: boolean
  /** UID that had the name before and is now being removed, or null. */
  readonly replaced: string | null
}

/** Heartbeat intervals without movement after which a machine counts as silent. */
const SILENT_INTERVALS = 2.5

const parseNode = recordParser(nodeRecord)
const parseLiveness = recordParser(livenessRecord)

interface Found<T> {
  readonly value: T
  readonly modRevision: number
}

/**
 * Takes as long as SILENT_INTERVALS of the other machine's heartbeats when another one has the name or UID.
 * @throws node.name-taken {name, uid, hardware, otherHardware} while that one lives; store.*; what `remember` throws
 */
export async function establishIdentity(
  options: IdentityOptions,
  modules: IdentityModules,
): Promise<Identity> {
  for (;;) {
    try {
      return await attempt(options, modules)
    } catch (error) {
      // Somebody else took the name at the same instant: look again at who it is.
      if (!isTwillError(error, 'store.conflict')) throw error
    }
  }
}

async function attempt(options: IdentityOptions, modules: IdentityModules): Promise<Identity> {
  const { store } = modules
  const node = await find(store, nodeKey(options.name), parseNode)
  const ours = options.journaledUid
  const own = ours === null ? null : await find(store, livenessKey(ours), parseLiveness)
  const namesake = node === null || node.value.uid === ours ? null : node.value.uid
  if (namesake !== null) return takeFrom(namesake, node, options, modules)
  if (ours === null) return take(modules.random.uuid(), node, options, modules, null)
  if (own === null || sameHardware(own.value.hardware, options.hardware))
    return resume(ours, own, node, options, modules)
  // A copied state directory: under another name the UID is simply not ours, under the same one it is a fight.
  if (own.value.name !== options.name) return take(modules.random.uuid(), node, options, modules, null)
  return takeFrom(ours, node, options, modules)
}

async function find<T>(
  store: Store,
  key: string,
  parse: (text: string, key: string) => T,
): Promise<Found<T> | null> {
  const { entry } = await store.get(key)
  return entry === null ? null : { value: parse(entry.value, key), modRevision: entry.modRevision }
}

/** Another UID has our name, or other hardware our UID. */
async function takeFrom(
  other: string,
  node: Found<NodeRecord> | null,
  options: IdentityOptions,
  modules: IdentityModules,
): Promise<Identity> {
  modules.contested?.()
  const seen = await watchSilence(other, options, modules)
  // The same machine whose journal is gone: it is still the owner, and its ledgers know its addresses.
  if (seen !== null && options.journaledUid === null && sameHardware(seen.value.hardware, options.hardware)) {
    await modules.remember(other)
    await resume(other, seen, node, options, modules)
    return { uid: other, fresh: false, replaced: null }
  }
  if (seen !== null) {
    await markReplaced(seen, options, modules)
    await forgetIfPartless(other, modules.store)
  }
  return take(modules.random.uuid(), node, options, modules, other)
}

/** @throws node.name-taken when the counter moves */
async function watchSilence(
  uid: string,
  options: IdentityOptions,
  { store, clock, log }: IdentityModules,
): Promise<Found<LivenessRecord> | null> {
  const first = await find(store, livenessKey(uid), parseLiveness)
  if (first === null) return null
  const { heartbeatMs, hardware } = first.value
  log.warn({ name: options.name, uid, hardware }, 'another machine has this name: watching whether it lives')
  const endMs = clock.boottimeMs() + SILENT_INTERVALS * heartbeatMs
  for (;;) {
    await clock.sleep(heartbeatMs / 4)
    const now = await find(store, livenessKey(uid), parseLiveness)
    if (now === null) return null
    if (now.value.heartbeat !== first.value.heartbeat) throw nameTaken(options, now.value)
    if (clock.boottimeMs() >= endMs) return now
  }
}

function nameTaken(options: IdentityOptions, other: LivenessRecord): TwillError {
  const { name, hardware } = options
  return new TwillError(
    'node.name-taken',
    `node name ${name} is taken by a machine that lives: this one is ${hardware}, the other one is ${other.hardware} (UID ${other.uid}). Give one of them another name`,
    { name, uid: other.uid, hardware, otherHardware: other.hardware },
  )
}

/** From now on its parts are those of a removed node. @throws store.conflict: it has moved */
async function markReplaced(
  { value, modRevision }: Found<LivenessRecord>,
  options: IdentityOptions,
  { store, random }: IdentityModules,
): Promise<void> {
  if (value.removed !== null) return
  const by = `replaced by ${options.hardware}`
  const record: LivenessRecord = { ...value, removed: { fence: random.uuid(), by, endsWith: 'return' } }
  await write(store, livenessKey(value.uid), record, modRevision)
}

/** The name goes to a UID that nobody has had. */
async function take(
  uid: string,
  node: Found<NodeRecord> | null,
  options: IdentityOptions,
  modules: IdentityModules,
  replaced: string | null,
): Promise<Identity> {
  await modules.remember(uid)
  await write(modules.store, livenessKey(uid), livenessOf(uid, null, options), 0)
  try {
    await writeName(uid, node, options, modules)
  } catch (error) {
    if (isTwillError(error, 'store.conflict')) await forget(uid, modules.store)
    throw error
  }
  return { uid, fresh: true, replaced }
}

async function forget(uid: string, store: Store): Promise<void> {
  await changeRecord(store, { key: livenessKey(uid), parse: parseLiveness, step: () => null })
}

/** Our own UID; its name may have been removed meanwhile. */
async function resume(
  uid: string,
  own: Found<LivenessRecord> | null,
  node: Found<NodeRecord> | null,
  options: IdentityOptions,
  modules: IdentityModules,
): Promise<Identity> {
  await write(
    modules.store,
    livenessKey(uid),
    livenessOf(uid, own?.value ?? null, options),
    own?.modRevision ?? 0,
  )
  // Kubernetes has removed it: it gets its name back with its Node object.
  const isDeleted = own?.value.removed?.endsWith === 'recreation'
  if (!isDeleted && (node === null || node.value.incarnation !== options.incarnation))
    await writeName(uid, node, options, modules)
  return { uid, fresh: false, replaced: null }
}

function livenessOf(uid: string, before: LivenessRecord | null, options: IdentityOptions): LivenessRecord {
  const { name, hardware, heartbeatMs, allowanceMs } = options
  const heartbeat = (before?.heartbeat ?? 0) + 1
  return { v: 1, uid, name, hardware, heartbeat, heartbeatMs, allowanceMs, removed: before?.removed ?? null }
}

/** The name's record by compare-and-swap; the rest of it is filled in by the daemon once it knows it. */
async function writeName(
  uid: string,
  node: Found<NodeRecord> | null,
  { name, incarnation }: IdentityOptions,
  { store }: IdentityModules,
): Promise<void> {
  const blank: NodeRecord = {
    v: 1,
    name,
    uid,
    incarnation,
    underlay: {},
    hostAddresses: [],
    vteps: [],
    tunnel: {},
  }
  const record = node?.value.uid === uid ? { ...node.value, incarnation } : blank
  await write(store, nodeKey(name), record, node?.modRevision ?? 0)
}

/** @throws store.conflict: it is not as expected any more */
async function write(store: Store, key: string, record: object, expected: number): Promise<void> {
  const value = JSON.stringify(record)
  try {
    const outcome = await store.commit({ key, expected, value })
    if (outcome.committed) return
  } catch (error) {
    if (!isTwillError(error, 'store.in-doubt')) throw error
    // Rule 4: only a further commit tells; what it finds is either ours, or what stood there before.
    const settled = await changeRecord<unknown>(store, {
      key,
      parse: text => JSON.parse(text),
      step: current => (current === null && expected === 0 ? record : current),
    })
    if (JSON.stringify(settled.value) === value) return
  }
  throw new TwillError(
    'store.conflict',
    `${key} was changed by another machine`,
    { key },
    { retryable: true },
  )
}
