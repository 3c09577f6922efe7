/**
 * A slimmed, live copy of the objects of one path: list, then watch, for ever. Changes reach the listener as exact
 * differences, each once, also across a fresh list: what vanished while nobody watched is told as deleted, and an
 * object that was replaced by one of the same name (another uid) as deleted and then created.
 *
 * - Lists come in pages, so that a large cluster never stands in memory as text, and ask for the newest state
 *   (resourceVersion unset): a list from any server's cache (`0`) may show pods that are long gone, and comes whole.
 *   API servers since 1.31 answer it from their watch cache too.
 * - The watch goes on from the last event or bookmark. It is listed anew only when the server no longer has that past
 *   (410), or was restored to an older state, never because a connection was lost.
 * - An object that `slim` cannot read stands in the log and in `problem()`; what it was before stays.
 */

import { Backoff } from '../../lib/backoff.ts'
import type { Clock, Random } from '../../lib/clock.ts'
import { isTwillError, messageOf } from '../../lib/errors.ts'
import type { Log } from '../../lib/log.ts'
import type { KubernetesClient, KubernetesObject, ObjectEvent } from './client.ts'
import { type Page, readPage } from './page.ts'

/** before null: created; after null: deleted. `key` is "namespace/name", or "name" of what has no namespace. */
export interface ReflectorChange<T> {
  readonly key: string
  readonly before: T | null
  readonly after: T | null
}

export interface ReflectorOptions<T> {
  /** Such as /api/v1/pods. */
  readonly path: string
  readonly fieldSelector?: string
  readonly labelSelector?: string
  /** What is kept of an object; nothing of its parsed text may be held otherwise. Throws what it cannot read. */
  readonly slim: (object: KubernetesObject) => T
  /** After `entries` is up to date; never with an empty list. A throw is logged and stops nothing. */
  readonly onChange?: (changes: readonly ReflectorChange<T>[]) => void
  /** Objects in one page of a list: bounds what a list takes of memory. */
  readonly pageSize?: number
}

export interface ReflectorModules {
  readonly client: KubernetesClient
  readonly clock: Clock
  readonly random: Random
  readonly log: Log
}

interface Entry<T> {
  readonly uid: string
  readonly resourceVersion: string
  readonly value: T
}

interface Found<T> {
  readonly uid: string
  /** null: it cannot be read. */
  readonly entry: Entry<T> | null
}

const PAGE_SIZE = 250
/** The server ends a watch after so long: between this and twice as much, so that watches do not end together. */
const WATCH_SECONDS = 300
/** A watch that stood so long was no failure, even if it brought nothing. */
const STOOD_MS = 10_000

export class Reflector<T> {
  readonly #options: ReflectorOptions<T>
  readonly #modules: ReflectorModules
  readonly #known = new Map<string, Entry<T>>()
  readonly #values = new Map<string, T>()
  /** By key: why it cannot be read. */
  readonly #unreadable = new Map<string, string>()
  readonly #closing = new AbortController()
  readonly #backoff: Backoff
  readonly #synced: Promise<void>
  readonly #done: Promise<void>
  #resolveSynced = () => {}
  #isSynced = false
  #resourceVersion: string | null = null
  #lost: string | null = 'not listed yet'
  #lists = 0

  /** Watches from here on, until `close`. */
  constructor(options: ReflectorOptions<T>, modules: ReflectorModules) {
    this.#options = options
    this.#modules = modules
    this.#backoff = new Backoff(modules)
    this.#synced = new Promise(resolve => {
      this.#resolveSynced = resolve
    })
    this.#done = this.#run()
  }

  get entries(): ReadonlyMap<string, T> {
    return this.#values
  }

  /** Lists that came to their end: more than one means that history was lost. */
  get lists(): number {
    return this.#lists
  }

  /** Resolves after the first list; does not reject. */
  synced(): Promise<void> {
    return this.#synced
  }

  get isSynced(): boolean {
    return this.#isSynced
  }

  /** Listed once and being watched now: what it holds is at most a moment old. */
  get isConnected(): boolean {
    return this.#isSynced && this.#lost === null
  }

  /** Why `entries` may be old or lack something; null: nothing is wrong. */
  problem(): string | null {
    if (this.#lost !== null) return this.#lost
    const [first] = this.#unreadable
    if (first === undefined) return null
    const others = this.#unreadable.size - 1
    return `${this.#options.path}: ${first[0]} cannot be read: ${first[1]}${others > 0 ? ` (and ${others} more)` : ''}`
  }

  close(): Promise<void> {
    this.#closing.abort()
    return this.#done
  }

  async #run(): Promise<void> {
    // The caller has its reflector before the first change.
    await Promise.resolve()
    while (!this.#closing.signal.aborted) {
      try {
        if (this.#lost !== null && (await this.#wentBack())) this.#resourceVersion = null
        this.#resourceVersion ??= await this.#list()
        await this.#watch(this.#resourceVersion)
      } catch (error) {
        await this.#failed(error)
      }
    }
  }

  async #failed(error: unknown): Promise<void> {
    if (this.#closing.signal.aborted) return
    const { clock, log } = this.#modules
    const { path } = this.#options
    if (isTwillError(error, 'kubernetes.gone')) {
      this.#resourceVersion = null
      log.info({ path, reason: error.message }, 'history is gone: listing anew')
    }
    if (this.#lost === null) log.warn({ path, error: messageOf(error) }, 'no longer watched')
    this.#lost = messageOf(error)
    await clock.sleep(this.#backoff.next(error), this.#closing.signal)
  }

  /**
   * The server was restored to an older state: it would take our version for one of the future, and say nothing until then.
   * Nobody restores one without watches breaking.
   */
  async #wentBack(): Promise<boolean> {
    if (this.#resourceVersion === null) return false
    const { client, log } = this.#modules
    const { path } = this.#options
    const { metadata } = await readPage(client, path, { query: { limit: 1 }, signal: this.#closing.signal })
    const went = { from: this.#resourceVersion, to: metadata.resourceVersion }
    const isOlder = Number(went.to) < Number(went.from)
    if (isOlder) log.warn({ path, ...went }, 'the API server went back to an older state: listing anew')
    return isOlder
  }

  // ---------------------------------------------------------------- list

  /** @returns its resourceVersion */
  async #list(): Promise<string> {
    const found = new Map<string, Found<T>>()
    let page = await this.#page(undefined)
    for (;;) {
      for (const object of page.items) this.#take(object, found)
      if (!page.metadata.continue) break
      page = await this.#page(page.metadata.continue)
    }
    this.#lists++
    this.#tell(this.#replace(found))
    this.#isSynced = true
    this.#resolveSynced()
    return page.metadata.resourceVersion
  }

  #page(token: string | undefined): Promise<Page> {
    const { path, fieldSelector, labelSelector, pageSize = PAGE_SIZE } = this.#options
    const query = { limit: pageSize, continue: token, fieldSelector, labelSelector }
    return readPage(this.#modules.client, path, { query, signal: this.#closing.signal })
  }

  #take(object: KubernetesObject, found: Map<string, Found<T>>): void {
    const key = keyOf(object)
    const known = this.#known.get(key)
    const { uid, resourceVersion } = object.metadata
    const isSame = known?.uid === uid && known.resourceVersion === resourceVersion
    found.set(key, { uid, entry: isSame ? known : this.#slimmed(key, object) })
  }

  #replace(found: ReadonlyMap<string, Found<T>>): ReflectorChange<T>[] {
    const changes: ReflectorChange<T>[] = []
    for (const key of [...this.#known.keys(), ...this.#unreadable.keys()])
      if (!found.has(key)) changes.push(...this.#delete(key))
    for (const [key, { uid, entry }] of found)
      if (entry === null) changes.push(...this.#keep(key, uid))
      else if (entry !== this.#known.get(key)) changes.push(...this.#put(key, entry))
    return changes
  }

  // ---------------------------------------------------------------- watch

  /** Returns when the server ends it, which it does now and then. */
  async #watch(resourceVersion: string): Promise<void> {
    const { path, fieldSelector, labelSelector } = this.#options
    const { client, clock, random } = this.#modules
    const timeoutSeconds = Math.round(WATCH_SECONDS * (1 + random.fraction()))
    const selected = { fieldSelector, labelSelector }
    const query = { ...selected, resourceVersion, timeoutSeconds, allowWatchBookmarks: true }
    const begun = clock.boottimeMs()
    let told = false
    const onEvent = (event: ObjectEvent) => {
      told = true
      this.#follow(event)
    }
    const onOpen = () => {
      if (this.#lost !== null) this.#modules.log.info({ path, objects: this.#known.size }, 'watched')
      this.#lost = null
    }
    try {
      await client.watch(path, query, onEvent, this.#closing.signal, onOpen)
    } finally {
      if (told || clock.boottimeMs() - begun >= STOOD_MS) this.#backoff.reset()
    }
    // One that ends at once must not be asked for without pause, whatever it brought: it may be the same each time.
    if (clock.boottimeMs() - begun < STOOD_MS)
      await clock.sleep(this.#backoff.next(null), this.#closing.signal)
  }

  #follow({ type, object }: ObjectEvent): void {
    if (this.#closing.signal.aborted) return
    if (type !== 'BOOKMARK') this.#tell(this.#apply(type, object))
    this.#resourceVersion = object.metadata.resourceVersion
  }

  #apply(type: ObjectEvent['type'], object: KubernetesObject): ReflectorChange<T>[] {
    const key = keyOf(object)
    if (type === 'DELETED') return this.#delete(key)
    const entry = this.#slimmed(key, object)
    return entry === null ? this.#keep(key, object.metadata.uid) : this.#put(key, entry)
  }

  // ---------------------------------------------------------------- entries

  #put(key: string, entry: Entry<T>): ReflectorChange<T>[] {
    const before = this.#known.get(key)
    this.#known.set(key, entry)
    this.#values.set(key, entry.value)
    this.#unreadable.delete(key)
    if (before === undefined) return [{ key, before: null, after: entry.value }]
    if (before.uid === entry.uid) return [{ key, before: before.value, after: entry.value }]
    return [
      { key, before: before.value, after: null },
      { key, before: null, after: entry.value },
    ]
  }

  /** The object cannot be read: what was known of it stays, not what was known of another one of its name. */
  #keep(key: string, uid: string): ReflectorChange<T>[] {
    const before = this.#known.get(key)
    return before === undefined || before.uid === uid ? [] : this.#forget(key)
  }

  #delete(key: string): ReflectorChange<T>[] {
    this.#unreadable.delete(key)
    return this.#forget(key)
  }

  #forget(key: string): ReflectorChange<T>[] {
    const before = this.#known.get(key)
    this.#known.delete(key)
    this.#values.delete(key)
    return before === undefined ? [] : [{ key, before: before.value, after: null }]
  }

  #slimmed(key: string, object: KubernetesObject): Entry<T> | null {
    const { uid, resourceVersion } = object.metadata
    try {
      return { uid, resourceVersion, value: this.#options.slim(object) }
    } catch (error) {
      const reason = messageOf(error)
      if (this.#unreadable.get(key) !== reason)
        this.#modules.log.error({ path: this.#options.path, key, reason }, 'object cannot be read')
      this.#unreadable.set(key, reason)
      return null
    }
  }

  #tell(changes: readonly ReflectorChange<T>[]): void {
    if (changes.length === 0 || this.#closing.signal.aborted) return
    try {
      this.#options.onChange?.(changes)
    } catch (error) {
      const { path } = this.#options
      this.#modules.log.error({ path, error: messageOf(error) }, 'listener of a reflector threw')
    }
  }
}

export function keyOf({ metadata }: KubernetesObject): string {
  return metadata.namespace === undefined ? metadata.name : `${metadata.namespace}/${metadata.name}`
}
