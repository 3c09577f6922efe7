/**
 * Read, decide, compare-and-swap, again on conflict: how every record that several nodes write is changed.
 *
 * A commit in doubt is settled here as ADDRESSES.md rule 4 asks: by a further successful commit of the same
 * key, even when the record read meanwhile shows what was wanted.
 */
import type { KeyValue, Store } from '../datastore/store.ts'
import { isTwillError, TwillError } from '../lib/errors.ts'

/** The new value; KEEP leaves the record as it is; null deletes. */
export type NextValue<T> = T | null | typeof KEEP
export const KEEP = Symbol('keep')

export interface ChangeOptions<T> {
  readonly key: string
  readonly parse: (text: string, key: string) => T
  /** Pure; may be called several times; a throw refuses the change and reaches the caller. */
  readonly step: (current: T | null) => NextValue<T>
  /** What is believed to be there: saves the read when it is true. */
  readonly known?: { readonly value: T | null; readonly modRevision: number }
}

export interface Changed<T> {
  readonly value: T | null
  /** modRevision of the record now; 0: it does not exist. */
  readonly modRevision: number
  readonly wrote: boolean
}

/** Conflicts in a row after which something must be wrong: each one means that somebody else succeeded. */
const CONFLICTS_MAX = 200

/**
 * @throws store.unavailable: nothing changed; store.in-doubt: it may have, or may yet, change;
 *   store.conflict after CONFLICTS_MAX lost races; what `parse` and `step` throw
 */
export async function changeRecord<T>(store: Store, options: ChangeOptions<T>): Promise<Changed<T>> {
  let current = options.known ?? (await read(store, options))
  let doubt: { readonly error: unknown; readonly expected: number } | null = null
  for (let conflicts = 0; conflicts < CONFLICTS_MAX; conflicts++) {
    const next = options.step(current.value)
    const value = next === KEEP ? current.value : next
    if (next === KEEP && doubt === null) return { value, modRevision: current.modRevision, wrote: false }
    // Nothing can be written over a creation that may still land but something.
    if (value === null && current.modRevision === 0 && doubt?.expected === 0) throw doubt.error
    try {
      const outcome = await store.commit({
        key: options.key,
        expected: current.modRevision,
        value: value === null ? null : JSON.stringify(value),
      })
      if (outcome.committed) return { value, modRevision: value === null ? 0 : outcome.revision, wrote: true }
      current = parsed(outcome.current, options)
    } catch (error) {
      if (!isTwillError(error, 'store.in-doubt') && doubt === null) throw error
      if (doubt !== null) throw doubt.error
      doubt = { error, expected: current.modRevision }
      current = await read(store, options).catch(() => {
        throw error
      })
    }
  }
  throw new TwillError(
    'store.conflict',
    `${options.key} was changed by others ${CONFLICTS_MAX} times in a row`,
    {
      key: options.key,
    },
  )
}

async function read<T>(store: Store, options: ChangeOptions<T>) {
  return parsed((await store.get(options.key)).entry, options)
}

function parsed<T>(entry: KeyValue | null, options: ChangeOptions<T>) {
  return entry === null
    ? { value: null, modRevision: 0 }
    : { value: options.parse(entry.value, options.key), modRevision: entry.modRevision }
}
