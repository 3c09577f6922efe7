/**
 * get, list and commit on objects of the API server.
 *
 * A read is always a list, also of one object: only lists say at which revision of the whole store they were made. The
 * API server has single-object compare-and-swap (resourceVersion in a PUT, as a precondition of a DELETE), and nothing
 * that spans two.
 */
import { isTwillError, TwillError } from '../../lib/errors.ts'
import type { Health } from '../health.ts'
import { compareAsBytes } from '../keys.ts'
import type { Commit, CommitOutcome, KeyValue } from '../store.ts'
import type { KubernetesClient, KubernetesObject, Query } from './client.ts'
import {
  type Collection,
  collectionOf,
  collectionsUnder,
  revisionOf,
  type StoredRecord,
} from './collection.ts'
import { type Page, readPage } from './page.ts'
import { commitFailure, readFailure } from './store-failure.ts'

/** Which cluster this is; see identity.ts. */
export interface Recognition {
  /** @param records what was read. @throws store.foreign-cluster */
  recognise(records: readonly StoredRecord[]): Promise<void>
  /** Before what no comparison on the server guards. @throws store.foreign-cluster */
  beforeWrite(): Promise<void>
}

export interface ObjectCallsModules {
  readonly client: KubernetesClient
  readonly health: Health
  readonly recognition: Recognition
}

/** Lists begun anew before giving up, each because a compaction came between two pages. */
const LIST_ATTEMPTS = 5
const PAGE_SIZE = 500

export class ObjectCalls {
  readonly #collections: readonly Collection[]
  readonly #modules: ObjectCallsModules

  constructor(options: { readonly collections: readonly Collection[] }, modules: ObjectCallsModules) {
    this.#collections = options.collections
    this.#modules = modules
  }

  async get(key: string): Promise<{ entry: KeyValue | null; revision: number }> {
    return this.#read(async () => {
      const { entry, records, revision } = await this.getUnrecognised(key)
      await this.#modules.recognition.recognise(records)
      return { entry, revision }
    })
  }

  /** Whatever cluster it is. @throws kubernetes.* */
  async getUnrecognised(key: string) {
    const collection = this.#collectionOf(key)
    const fieldSelector = `metadata.name=${collection.nameOf(key)}`
    const { items, metadata } = await this.#page(collection, { fieldSelector })
    const found = decoded(collection, items).filter(each => each.record.key === key)
    return {
      entry: found[0]?.entry ?? null,
      records: found.map(({ record }) => record),
      revision: Number(metadata.resourceVersion),
    }
  }

  /** Of all collections at one revision. */
  async list(prefix: string): Promise<{ entries: KeyValue[]; revision: number }> {
    return this.#read(async () => {
      for (let attempt = 1; ; attempt++) {
        try {
          return await this.#listOnce(collectionsUnder(this.#collections, prefix), prefix)
        } catch (error) {
          if (!isTwillError(error, 'kubernetes.gone') || attempt === LIST_ATTEMPTS) throw error
        }
      }
    })
  }

  /** The same of one collection, for a watch. */
  async listOf(collection: Collection, prefix: string, signal: AbortSignal): ReturnType<ObjectCalls['list']> {
    return this.#read(() => this.#listOnce([collection], prefix, signal), signal)
  }

  /** The newest revision of the store, which is the cluster's that is expected. */
  async newest(collection: Collection, signal: AbortSignal): Promise<number> {
    const { revision } = await this.#read(async () => {
      const { items, metadata } = await this.#page(collection, { limit: 1 }, signal)
      await this.#modules.recognition.recognise(decoded(collection, items).map(({ record }) => record))
      return { revision: Number(metadata.resourceVersion) }
    }, signal)
    return revision
  }

  async commit({ key, value, expected }: Commit): Promise<CommitOutcome> {
    const { health, recognition } = this.#modules
    const collection = this.#collectionOf(key)
    health.commits++
    // A replacement says whose it is, and the server compares.
    if (expected === 0 || value === null) await this.#before(() => recognition.beforeWrite())
    try {
      if (expected === 0 && value === null) return await this.#absent(key)
      const revision = await this.#write(collection, key, value, expected)
      health.answered(revision)
      return { committed: true, revision }
    } catch (error) {
      if (isRefusal(error)) return this.#refused(key)
      throw this.#lost(commitFailure(error, key))
    }
  }

  #write(collection: Collection, key: string, value: string | null, expected: number): Promise<number> {
    if (value === null) return collection.remove(key, expected)
    return expected === 0 ? collection.create(key, value) : collection.replace(key, value, expected)
  }

  /** Deleting what is not there changes nothing. */
  async #absent(key: string): Promise<CommitOutcome> {
    const { entry, revision } = await this.get(key)
    return entry === null ? { committed: true, revision } : { committed: false, current: entry, revision }
  }

  async #refused(key: string): Promise<CommitOutcome> {
    const { entry, revision } = await this.get(key)
    return { committed: false, current: entry, revision }
  }

  async #before(look: () => Promise<void>): Promise<void> {
    try {
      await look()
    } catch (error) {
      throw this.#lost(readFailure(error))
    }
  }

  async #read<T extends { readonly revision: number }>(
    ask: () => Promise<T>,
    signal?: AbortSignal,
  ): Promise<T> {
    const { health } = this.#modules
    const asked = health.lastRevision
    try {
      const answer = await ask()
      health.answered(answer.revision, asked)
      return answer
    } catch (error) {
      // Whoever asked does not want to know any more, which says nothing of the server.
      if (signal?.aborted) throw readFailure(error)
      throw this.#lost(readFailure(error))
    }
  }

  #lost(error: TwillError): TwillError {
    this.#modules.health.lost(error)
    return error
  }

  async #listOnce(collections: readonly Collection[], prefix: string, signal?: AbortSignal) {
    const entries: KeyValue[] = []
    const records: StoredRecord[] = []
    let revision = 0
    for (const collection of collections) {
      const selector = collection.selectorFor(prefix)
      let page = await this.#page(collection, { ...selector, ...at(revision), limit: PAGE_SIZE }, signal)
      for (;;) {
        for (const { entry, record } of decoded(collection, page.items)) {
          records.push(record)
          if (entry.key.startsWith(prefix)) entries.push(entry)
        }
        if (!page.metadata.continue) break
        const next = { ...selector, limit: PAGE_SIZE, continue: page.metadata.continue }
        page = await this.#page(collection, next, signal)
      }
      if (revision === 0) revision = Number(page.metadata.resourceVersion)
    }
    await this.#modules.recognition.recognise(records)
    entries.sort((a, b) => compareAsBytes(a.key, b.key))
    return { entries, revision }
  }

  #page({ path }: Collection, query: Query, signal?: AbortSignal): Promise<Page> {
    return readPage(this.#modules.client, path, { query, ...(signal && { signal }) })
  }

  #collectionOf(key: string): Collection {
    const found = collectionOf(this.#collections, key)
    if (found === undefined) throw new TwillError('internal', `${key}: no collection holds it`, { key })
    return found
  }
}

/** Somebody else's state stands in the way. */
const isRefusal = (error: unknown): boolean =>
  isTwillError(error, 'kubernetes.conflict') ||
  (isTwillError(error, 'kubernetes.not-found') && error.data.reason !== undefined)

/** 0: the newest. */
const at = (revision: number): Query =>
  revision === 0 ? {} : { resourceVersion: revision, resourceVersionMatch: 'Exact' }

function decoded(collection: Collection, objects: readonly KubernetesObject[]) {
  return objects.flatMap(object => {
    const record = collection.recordIn(object)
    if (record === null) return []
    const { key, value } = record
    return [{ record, entry: { key, value, modRevision: revisionOf(object) } }]
  })
}
