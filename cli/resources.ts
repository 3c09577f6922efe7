/** Operator resources in the store: read as they stand, written by compare-and-swap. */
import { isDeepStrictEqual } from 'node:util'
import { PREFIX, resourceKey } from '../datastore/keys.ts'
import { completed, fieldOf, kindOf, type Resource, type ResourceKind } from '../datastore/resources/kinds.ts'
import type { Store } from '../datastore/store.ts'
import { asEntered, readSpace } from '../ipam/address-space.ts'
import { changeRecord, KEEP } from '../ipam/change-record.ts'
import { createPool, updatePool } from '../ipam/pools.ts'
import type { Clock, Random } from '../lib/clock.ts'
import { isTwillError, TwillError } from '../lib/errors.ts'
import { validateOrThrow } from '../lib/validation.ts'

export type Applied = 'created' | 'configured' | 'unchanged'

export interface ResourceModules {
  readonly store: Store
  readonly clock: Clock
  readonly random: Random
}

/** @throws document.invalid when what is stored is no such resource */
export function parseStored(kind: ResourceKind, text: string, key: string): Resource {
  let input: unknown
  try {
    input = JSON.parse(text)
  } catch (error) {
    throw new TwillError('document.invalid', `record ${key} is damaged: not JSON`, { key }, { cause: error })
  }
  return completed(validateOrThrow(kind.schema, input, `record ${key}`, 'document.invalid'))
}

/** By name; what cannot be read is told to `warn` and left out. */
export async function listResources(
  kind: ResourceKind,
  store: Store,
  warn: (line: string) => void,
): Promise<Resource[]> {
  const { entries } = await store.list(`${PREFIX.resources}${kind.plural}/`)
  return entries.flatMap(entry => {
    try {
      return [parseStored(kind, entry.value, entry.key)]
    } catch (error) {
      warn((error as Error).message)
      return []
    }
  })
}

export async function getResource(kind: ResourceKind, name: string, store: Store): Promise<Resource | null> {
  const key = resourceKey(kind.plural, name)
  const { entry } = await store.get(key)
  return entry === null ? null : parseStored(kind, entry.value, key)
}

export function notFound(kind: ResourceKind, name: string): TwillError {
  return new TwillError('resource.not-found', `${kind.kind} ${name}: not found`, { kind: kind.kind, name })
}

/**
 * Makes the stored resource what the document says: labels, annotations and specification are replaced as a
 * whole; uid and creation time stay.
 * @throws document.invalid: an immutable field differs, or a uid of another resource; ipam.pool-overlap; ipam.pool-covers; store.*
 */
export async function applyResource(wanted: Resource, modules: ResourceModules): Promise<Applied> {
  const kind = kindOf(wanted)
  const current = await getResource(kind, wanted.metadata.name, modules.store)
  refuseChanges(
    wanted,
    current?.kind === 'IPPool' ? asEntered(current, await readSpace(modules.store)) : current,
  )
  if (current !== null && isDeepStrictEqual(comparable(current), comparable(wanted))) return 'unchanged'
  if (wanted.kind === 'IPPool') return applyPool(wanted, current !== null, modules)
  return applyPlain(kind, wanted, modules)
}

async function applyPool(
  wanted: Extract<Resource, { kind: 'IPPool' }>,
  exists: boolean,
  modules: ResourceModules,
): Promise<Applied> {
  if (!exists) {
    try {
      const { uid: _uid, ...metadata } = wanted.metadata
      await createPool({ ...wanted, metadata }, modules)
      return 'created'
    } catch (error) {
      // Somebody else has created it in between: then it is theirs that is brought up to date.
      if (!isTwillError(error, 'resource.in-use')) throw error
    }
  }
  const { changed } = await updatePool(wanted, modules)
  return changed ? 'configured' : 'unchanged'
}

async function applyPlain(
  kind: ResourceKind,
  wanted: Resource,
  { store, clock, random }: ResourceModules,
): Promise<Applied> {
  const given = { uid: random.uuid(), creationTimestamp: new Date(clock.realtimeMs()).toISOString() }
  let outcome: Applied = 'unchanged'
  await changeRecord<Resource>(store, {
    key: resourceKey(kind.plural, wanted.metadata.name),
    parse: (text, key) => parseStored(kind, text, key),
    step: current => {
      refuseChanges(wanted, current)
      // A create whose answer was lost and that took effect is seen again here, under the uid given above.
      const own = current === null || current.metadata.uid === given.uid
      const { uid, creationTimestamp } = own ? given : current.metadata
      const next = { ...wanted, metadata: { ...wanted.metadata, uid, creationTimestamp } } as Resource
      const same = current !== null && isDeepStrictEqual(comparable(current), comparable(next))
      outcome = own ? 'created' : same ? 'unchanged' : 'configured'
      return same ? KEEP : next
    },
  })
  return outcome
}

/** @throws document.invalid */
function refuseChanges(wanted: Resource, current: Resource | null): void {
  const [first] = refusedChanges(wanted, current)
  if (first !== undefined) throw first
}

/** Of fields that never change, each that does: document.invalid. */
export function refusedChanges(wanted: Resource, current: Resource | null): TwillError[] {
  const paths = [['metadata', 'uid'], ...(current === null ? [] : kindOf(wanted).immutable)]
  return paths.flatMap(path => {
    const [value, was] = [fieldOf(wanted, path), current === null ? undefined : fieldOf(current, path)]
    if (isDeepStrictEqual(value, was) || (path[1] === 'uid' && value === undefined)) return []
    const expected =
      current === null
        ? 'expected none: it is given at creation'
        : `expected ${JSON.stringify(was)}: immutable`
    const message = `${path.join('.')}: ${JSON.stringify(value)}: ${expected}`
    return [new TwillError('document.invalid', message, { field: path.join('.'), value, expected: was })]
  })
}

/** What an operator writes of a resource. */
function comparable({ metadata, spec }: Resource): unknown {
  return { labels: metadata.labels ?? {}, annotations: metadata.annotations ?? {}, spec }
}
