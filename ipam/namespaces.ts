/**
 * Namespaces as the choice of pools needs them: by watch, or, until the store was reached, as the journal remembers
 * them. The journal gets what matters alone: the labels that some pool asks for, and the pools that a namespace names.
 */
import { isDeepStrictEqual } from 'node:util'
import { PREFIX } from '../datastore/keys.ts'
import { Mirror } from '../datastore/mirror.ts'
import { recordParser } from '../datastore/record.ts'
import { ignoredAnnotations } from '../datastore/resources/annotations.ts'
import {
  NAMESPACE_NAME_LABEL,
  type Namespace,
  namespace,
  namespaceLabels,
  namespacePools,
} from '../datastore/resources/namespace.ts'
import {
  keysOf,
  type LabelSelector,
  type Labels,
  selects,
  selectsByKnown,
} from '../datastore/resources/selector.ts'
import type { Store } from '../datastore/store.ts'
import type { Log } from '../lib/log.ts'
import { NO_POOLS, type PoolNames } from '../lib/pool-annotations.ts'
import type { IpamJournal, JournaledNamespace } from './journal-records.ts'

export interface KnownNamespace {
  readonly name: string
  readonly labels: Labels
  /** False: nothing was written of it, as far as is known: labels that are not here may be there. */
  readonly isKnown: boolean
  /** Why what was written of it cannot be read, and never was; else null. */
  readonly problem: string | null
  /** Those that it names for its pods. */
  readonly pools: PoolNames
}

/** Of a namespace of which little is known, nothing is taken for granted: no label, and no label's absence. */
export function means(selector: LabelSelector, { labels, isKnown }: KnownNamespace): boolean {
  return (isKnown ? selects : selectsByKnown)(selector, labels)
}

const PREFIX_NAMESPACES = `${PREFIX.resources}namespaces/`

export class Namespaces {
  readonly #mirror: Mirror<Namespace>
  readonly #journal: IpamJournal
  readonly #journaled: Map<string, JournaledNamespace>
  /** Asked for with each status, of thousands of namespaces. */
  readonly #ignored = new WeakMap<Namespace, readonly string[]>()
  /** Names of those that changed since the journal was brought up to date. */
  readonly #unrecorded = new Set<string>()
  /** Labels that counted then; null: it was not yet. */
  #recordedKeys: ReadonlySet<string> | null = null
  #isSynced = false

  constructor(
    options: { readonly journaled: ReadonlyMap<string, JournaledNamespace>; readonly onChange: () => void },
    modules: { readonly store: Store; readonly log: Log; readonly journal: IpamJournal },
  ) {
    const { onChange } = options
    this.#journaled = new Map(options.journaled)
    this.#journal = modules.journal
    this.#mirror = new Mirror(
      {
        prefix: PREFIX_NAMESPACES,
        parse: recordParser(namespace),
        onChange: changes => {
          for (const { key } of changes) this.#unrecorded.add(key.slice(PREFIX_NAMESPACES.length))
          onChange()
        },
      },
      modules,
    )
    void this.synced().then(() => {
      this.#isSynced = true
    })
  }

  named(name: string): KnownNamespace {
    const key = `${PREFIX_NAMESPACES}${name}`
    const written = this.#mirror.entries.get(key)?.value
    if (this.#isSynced && written !== undefined) {
      const labels = namespaceLabels(name, written.metadata.labels)
      return { name, labels, isKnown: true, problem: null, pools: namespacePools(written) }
    }
    const unread = this.#mirror.aside.get(key)
    const journaled = this.#isSynced && unread === undefined ? undefined : this.#journaled.get(name)
    if (journaled !== undefined) return knownFromJournal(journaled)
    const problem = unread?.reason ?? null
    return { name, labels: namespaceLabels(name), isKnown: false, problem, pools: NO_POOLS }
  }

  /** Records that cannot be read: what they said before, if they were readable then, still counts. */
  allUnreadable(): string[] {
    return [...this.#mirror.aside.values()].map(({ reason }) => reason)
  }

  /** Annotations of our domain that nobody reads, each a sentence: misspelt, or a newer version's. */
  ignoredAnnotations(): string[] {
    return [...this.#mirror.entries.values()].flatMap(({ value }) => this.#ignoredOf(value))
  }

  #ignoredOf(written: Namespace): readonly string[] {
    const known = this.#ignored.get(written)
    if (known !== undefined) return known
    const ignored = ignoredAnnotations(written).map(text => `Namespace ${written.metadata.name}: ${text}`)
    this.#ignored.set(written, ignored)
    return ignored
  }

  synced(): Promise<void> {
    return this.#mirror.synced()
  }

  close(): Promise<void> {
    return this.#mirror.close()
  }

  /**
   * Journals what changed for pools with these selectors. It is asked for in each pass, of thousands of namespaces: those
   * that are as they were are not looked at. @throws journal.write-failed
   */
  async record(selectors: readonly LabelSelector[]): Promise<void> {
    if (!this.#isSynced) return
    const keys = new Set(selectors.flatMap(keysOf))
    keys.delete(NAMESPACE_NAME_LABEL)
    const names = isDeepStrictEqual(keys, this.#recordedKeys) ? [...this.#unrecorded] : this.#allNames()
    const changed: JournaledNamespace[] = []
    const gone: string[] = []
    for (const name of names) {
      const written = this.#mirror.entries.get(PREFIX_NAMESPACES + name)?.value
      const kept = written === undefined ? null : worthKeeping(written, keys)
      const journaled = this.#journaled.get(name)
      if (kept !== null && JSON.stringify(kept) !== JSON.stringify(journaled)) changed.push(kept)
      if (kept === null && journaled !== undefined && !this.#mirror.aside.has(PREFIX_NAMESPACES + name))
        gone.push(name)
    }
    // Before the journal is waited for: what changes meanwhile is for the next time.
    for (const name of names) this.#unrecorded.delete(name)
    if (changed.length > 0 || gone.length > 0)
      await this.#journal.append({ t: 'namespaces', changed, gone }).catch(error => {
        for (const name of names) this.#unrecorded.add(name)
        throw error
      })
    for (const each of changed) this.#journaled.set(each.name, each)
    for (const name of gone) this.#journaled.delete(name)
    this.#recordedKeys = keys
  }

  #allNames(): Set<string> {
    const written = [...this.#mirror.entries.keys()].map(key => key.slice(PREFIX_NAMESPACES.length))
    return new Set([...written, ...this.#journaled.keys()])
  }
}

/** null: a namespace of which nothing was written is the same. */
function worthKeeping(written: Namespace, keys: ReadonlySet<string>): JournaledNamespace | null {
  const { name, labels = {} } = written.metadata
  const pools = namespacePools(written)
  if (keys.size === 0 && pools[4].length === 0 && pools[6].length === 0) return null
  const asked = Object.entries(labels).filter(([key]) => keys.has(key))
  return { name, labels: Object.fromEntries(asked), ipv4: [...pools[4]], ipv6: [...pools[6]] }
}

function knownFromJournal({ name, labels, ipv4, ipv6 }: JournaledNamespace): KnownNamespace {
  const pools = { 4: ipv4, 6: ipv6 }
  return { name, labels: namespaceLabels(name, labels), isKnown: true, problem: null, pools }
}
