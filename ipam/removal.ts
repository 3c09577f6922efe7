/**
 * What is left to do once a node's liveness record bears the mark of its removal (ADDRESSES.md rules 9, 11 and 12): its
 * parts are fenced, its name is withdrawn, and its liveness record goes with its last part. Each step may be
 * repeated: a removal that stopped halfway is finished by the next.
 */
import { livenessKey, nodeKey, PREFIX } from '../datastore/keys.ts'
import { recordParser } from '../datastore/record.ts'
import { type LivenessRecord, livenessRecord } from '../datastore/records/liveness.ts'
import { type NodeRecord, nodeRecord } from '../datastore/records/node.ts'
import { type SlotRecord, slotRecord } from '../datastore/records/slot.ts'
import type { KeyValue, Store } from '../datastore/store.ts'
import { isTwillError } from '../lib/errors.ts'
import { changeRecord, KEEP } from './change-record.ts'
import { fenceParts } from './slot.ts'

/**
 * Whole minutes until addresses under a fence that was set now are free: the owner's allowance, then the margin of
 * whoever frees them.
 */
export const minutesUntilFree = (allowanceMs: number, marginMs: number): number =>
  Math.ceil((allowanceMs + marginMs) / 60_000)

const parseSlot = recordParser(slotRecord)
const parseNode = recordParser(nodeRecord)
const parseLiveness = recordParser(livenessRecord)

/**
 * Puts the fence of its mark into each of its parts. Returns how many it has. A slot that cannot be read keeps nothing from
 * being removed: the daemons fence it once it can (`Fences`). @throws store.*
 */
export async function fenceAll(removed: LivenessRecord, store: Store): Promise<number> {
  const { entries } = await store.list(PREFIX.slots)
  let fenced = 0
  for (const entry of entries) fenced += (await ifReadable(() => fenceIn(entry, removed, store))) ?? 0
  return fenced
}

async function fenceIn(
  { key, value, modRevision }: KeyValue,
  { uid, removed, allowanceMs }: LivenessRecord,
  store: Store,
): Promise<number> {
  const record = parseSlot(value, key)
  if (!record.parts.some(({ owner }) => owner === uid)) return 0
  const fence = { id: removed?.fence ?? '', allowanceMs }
  const changed = await changeRecord<SlotRecord>(store, {
    key,
    parse: parseSlot,
    known: { value: record, modRevision },
    step: current => (current === null ? KEEP : (fenceParts(current, uid, fence) ?? KEEP)),
  })
  return changed.value?.parts.filter(({ owner }) => owner === uid).length ?? 0
}

async function ifReadable<T>(work: () => Promise<T>): Promise<T | null> {
  try {
    return await work()
  } catch (error) {
    if (isTwillError(error, 'document.invalid')) return null
    throw error
  }
}

/** Others stop routing to it. A record that another machine has written under the name meanwhile stays. @throws store.* */
export async function withdrawName(name: string, uids: ReadonlySet<string>, store: Store): Promise<void> {
  await changeRecord<NodeRecord>(store, {
    key: nodeKey(name),
    parse: parseNode,
    step: current => (current !== null && uids.has(current.uid) ? null : KEEP),
  })
}

/** Of a removed node no last part will take the liveness record along, if it has none by now. @throws store.* */
export async function forgetIfPartless(uid: string, store: Store): Promise<void> {
  const { entries } = await store.list(PREFIX.slots)
  if (!entries.some(entry => mayHaveParts(uid, entry))) await forgetNode(uid, store)
}

function mayHaveParts(uid: string, { key, value }: KeyValue): boolean {
  try {
    return parseSlot(value, key).parts.some(({ owner }) => owner === uid)
  } catch {
    return true
  }
}

/** Of a node without parts nothing is left to wait for. One that is back keeps its record. @throws store.* */
export async function forgetNode(uid: string, store: Store): Promise<void> {
  await changeRecord<LivenessRecord>(store, {
    key: livenessKey(uid),
    parse: parseLiveness,
    step: current => (current === null || current.removed === null ? KEEP : null),
  })
}
