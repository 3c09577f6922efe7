/**
 * The removal of a node by name (ADDRESSES.md rules 9, 11 and 13), whoever asks for it: marks its liveness records, puts a
 * fence into each of its parts, then takes away what others route by. Each step may be repeated: a removal that stopped
 * halfway is finished by the next, because the name goes last.
 */
import { livenessKey, PREFIX } from '../datastore/keys.ts'
import { recordParser } from '../datastore/record.ts'
import { type LivenessRecord, livenessRecord } from '../datastore/records/liveness.ts'
import type { Store } from '../datastore/store.ts'
import type { Random } from '../lib/clock.ts'
import { messageOf } from '../lib/errors.ts'
import { type Changed, changeRecord, KEEP } from './change-record.ts'
import { fenceAll, forgetIfPartless, withdrawName } from './removal.ts'

export interface NodeIdentity {
  readonly value: LivenessRecord
  readonly modRevision: number
}

export interface RemovalTerms {
  /** Who removes it, for people. */
  readonly by: string
  readonly endsWith: 'return' | 'recreation'
  /** Throws what forbids it, of a record that has changed since it was read. */
  readonly mayMark?: (before: LivenessRecord, now: LivenessRecord) => void
}

export interface RemovalModules {
  readonly store: Store
  readonly random: Random
}

const parseLiveness = recordParser(livenessRecord)

export interface NameIdentities {
  readonly identities: readonly NodeIdentity[]
  /** Of liveness records that do not say whose they are, each why: what such a node owns is fenced once it can be read. */
  readonly unreadable: readonly string[]
}

/**
 * A replaced machine leaves its earlier identity behind under the same name.
 * @param registered uids that the name is known to have
 * @throws store.*; document.invalid: the record of one of `registered`
 */
export async function identitiesOf(
  name: string,
  registered: readonly string[],
  store: Store,
): Promise<NameIdentities> {
  const identities: NodeIdentity[] = []
  const unreadable: string[] = []
  const own = new Set(registered.map(livenessKey))
  for (const { key, value: text, modRevision } of (await store.list(PREFIX.liveness)).entries)
    try {
      const value = parseLiveness(text, key)
      if (value.name === name) identities.push({ value, modRevision })
    } catch (error) {
      if (own.has(key)) throw error
      unreadable.push(messageOf(error))
    }
  return { identities, unreadable }
}

/**
 * @param alsoUids of the name, of which no liveness record is left
 * @returns parts that are fenced now
 * @throws what `mayMark` does; store.*
 */
export async function removeIdentities(
  name: string,
  identities: readonly NodeIdentity[],
  alsoUids: readonly string[],
  terms: RemovalTerms,
  modules: RemovalModules,
): Promise<number> {
  const { store } = modules
  let fencedParts = 0
  for (const identity of identities) {
    const marked = await mark(identity, terms, modules)
    const fenced = await fenceAll(marked, store)
    if (fenced === 0) await forgetIfPartless(marked.uid, store)
    fencedParts += fenced
  }
  const uids = identities.map(({ value }) => value.uid)
  await withdrawName(name, new Set([...alsoUids, ...uids]), store)
  return fencedParts
}

async function mark(
  identity: NodeIdentity,
  { by, endsWith, mayMark }: RemovalTerms,
  { store, random }: RemovalModules,
): Promise<LivenessRecord> {
  const removed = { fence: random.uuid(), by, endsWith }
  const changed: Changed<LivenessRecord> = await changeRecord<LivenessRecord>(store, {
    key: livenessKey(identity.value.uid),
    parse: parseLiveness,
    known: identity,
    step: current => {
      if (current === null) return KEEP
      mayMark?.(identity.value, current)
      if (current.removed === null) return { ...current, removed }
      // The fences stand under its id; of the two ends the harder one counts.
      const isHarder = endsWith === 'recreation' && current.removed.endsWith === 'return'
      return isHarder ? { ...current, removed: { ...removed, fence: current.removed.fence } } : KEEP
    },
  })
  return changed.value ?? { ...identity.value, removed }
}

/** The node's Node object is there again (rule 13). The owner lifts the fences (rule 11). @throws store.* */
export async function endRemoval(uid: string, fence: string, store: Store): Promise<boolean> {
  const { wrote } = await changeRecord<LivenessRecord>(store, {
    key: livenessKey(uid),
    parse: parseLiveness,
    step: current =>
      current?.removed?.fence === fence && current.removed.endsWith === 'recreation'
        ? { ...current, removed: null }
        : KEEP,
  })
  return wrote
}
