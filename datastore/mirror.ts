/**
 * A parsed copy of everything under one prefix, kept up by a watch. Changes reach the listener as exact
 * differences, also across a fresh snapshot: what vanished while nobody watched is told as deleted.
 *
 * A record that does not parse stands in `aside` and in the log. If it was readable before, its last readable
 * value stays in `entries`, under its old modRevision: a commit over it fails its comparison, so that nothing
 * overwrites what it cannot read.
 */
import { isDeepStrictEqual } from 'node:util'
import { isTwillError, messageOf } from '../lib/errors.ts'
import type { Log } from '../lib/log.ts'
import type { RecordProblem } from './record.ts'
import type { KeyValue, Store, StoreEvent, Watch, WatchMessage } from './store.ts'

export interface MirrorEntry<T> {
  readonly value: T
  readonly modRevision: number
}

/** before null: created; after null: deleted. */
export interface MirrorChange<T> {
  readonly key: string
  readonly before: MirrorEntry<T> | null
  readonly after: MirrorEntry<T> | null
  /** The watch showed each change of the key, this one too, and each was readable: `before` is what it was until now. */
  readonly gapless: boolean
}

export interface AsideRecord {
  readonly key: string
  readonly text: string
  readonly modRevision: number
  readonly problem: RecordProblem
  readonly reason: string
}

/** After `entries` is up to date; never with an empty list. A throw is logged and stops nothing. */
export type MirrorListener<T> = (changes: readonly MirrorChange<T>[]) => void

export interface MirrorOptions<T> {
  readonly prefix: string
  /** Throws what it cannot read; see recordParser. */
  readonly parse: (text: string, key: string) => T
  readonly onChange?: MirrorListener<T>
  readonly onConnection?: (connected: boolean, reason: string | null) => void
  readonly onAside?: (record: AsideRecord) => void
}

export class Mirror<T> {
  readonly #options: MirrorOptions<T>
  readonly #log: Log
  readonly #entries = new Map<string, MirrorEntry<T>>()
  readonly #aside = new Map<string, AsideRecord>()
  readonly #listeners = new Set<MirrorListener<T>>()
  readonly #synced: Promise<void>
  #resolveSynced = () => {}
  readonly #watch: Watch
  #connected = false
  #revision = 0

  /** Watches from here on, until `close`. */
  constructor(options: MirrorOptions<T>, modules: { store: Store; log: Log }) {
    this.#options = options
    this.#log = modules.log
    if (options.onChange !== undefined) this.#listeners.add(options.onChange)
    this.#synced = new Promise(resolve => {
      this.#resolveSynced = resolve
    })
    this.#watch = modules.store.watch(options.prefix, message => this.#receive(message))
  }

  get entries(): ReadonlyMap<string, MirrorEntry<T>> {
    return this.#entries
  }

  get aside(): ReadonlyMap<string, AsideRecord> {
    return this.#aside
  }

  get connected(): boolean {
    return this.#connected
  }

  /** Of the last message; 0: none yet. Goes back when an older snapshot was restored. */
  get revision(): number {
    return this.#revision
  }

  /** Resolves after the first snapshot; does not reject. */
  synced(): Promise<void> {
    return this.#synced
  }

  /** One listener more, told at once of what is there already as if it were created now. Returns the end of it. */
  subscribe(listener: MirrorListener<T>): () => void {
    this.#listeners.add(listener)
    const present = [...this.#entries].map(([key, after]) => ({ key, before: null, after, gapless: false }))
    if (present.length > 0) this.#tell(() => listener(present))
    return () => this.#listeners.delete(listener)
  }

  close(): Promise<void> {
    return this.#watch.close()
  }

  #receive(message: WatchMessage): void {
    if (message.type === 'connection') this.#setConnected(message.connected, message.reason)
    else this.#follow(message)
  }

  #follow(message: Exclude<WatchMessage, { type: 'connection' }>): void {
    const changes =
      message.type === 'snapshot' ? this.#replace(message.entries) : this.#applyAll(message.events)
    this.#revision = message.revision
    // Whoever subscribes meanwhile is told by that.
    if (changes.length > 0) for (const listener of [...this.#listeners]) this.#tell(() => listener(changes))
    this.#resolveSynced()
  }

  #setConnected(connected: boolean, reason: string | null): void {
    this.#connected = connected
    this.#tell(() => this.#options.onConnection?.(connected, reason))
  }

  #applyAll(events: readonly StoreEvent[]): MirrorChange<T>[] {
    return events.map(event => this.#apply(event, true)).filter(change => change !== null)
  }

  #replace(entries: readonly KeyValue[]): MirrorChange<T>[] {
    const present = new Set(entries.map(entry => entry.key))
    const gone = [...this.#entries.keys(), ...this.#aside.keys()].filter(key => !present.has(key))
    const deleted = [...new Set(gone)].map(key => this.#delete(key, false))
    const upserted = entries.map(entry => this.#apply(entry, false)).filter(change => !isSame(change))
    return [...deleted, ...upserted].filter(change => change !== null)
  }

  #apply({ key, value, modRevision }: StoreEvent, isEvent: boolean): MirrorChange<T> | null {
    if (value === null) return this.#delete(key, isEvent)
    const parsed = this.#parse(key, value, modRevision)
    if (parsed === null) return null
    const before = this.#entries.get(key) ?? null
    const after = { value: parsed.value, modRevision }
    const gapless = !this.#aside.delete(key) && isEvent
    this.#entries.set(key, after)
    return { key, before, after, gapless }
  }

  #parse(key: string, text: string, modRevision: number): { value: T } | null {
    const known = this.#aside.get(key)
    if (known?.modRevision === modRevision && known.text === text) return null
    try {
      return { value: this.#options.parse(text, key) }
    } catch (error) {
      const problem = isTwillError(error) && error.data.problem === 'newer' ? 'newer' : 'damaged'
      const record: AsideRecord = { key, text, modRevision, problem, reason: messageOf(error) }
      this.#aside.set(key, record)
      this.#log.error(
        { key, modRevision, problem, reason: record.reason },
        'record set aside: cannot be read',
      )
      this.#tell(() => this.#options.onAside?.(record))
      return null
    }
  }

  #delete(key: string, isEvent: boolean): MirrorChange<T> | null {
    const gapless = !this.#aside.delete(key) && isEvent
    const before = this.#entries.get(key) ?? null
    this.#entries.delete(key)
    return before === null ? null : { key, before, after: null, gapless }
  }

  #tell(call: () => void): void {
    try {
      call()
    } catch (error) {
      this.#log.error({ prefix: this.#options.prefix, err: messageOf(error) }, 'listener of a mirror threw')
    }
  }
}

/** Revisions alone do not tell: after a restore the same one may stand for another value. */
function isSame<T>(change: MirrorChange<T> | null): boolean {
  const { before, after } = change ?? { before: null, after: null }
  return before?.modRevision === after?.modRevision && isDeepStrictEqual(before?.value, after?.value)
}
