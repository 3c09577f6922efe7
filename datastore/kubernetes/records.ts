/**
 * Twill's records as custom resources, one kind for each part of the keys, so that who watches slots hears nothing of
 * ledgers. The record's text stands in one field, the key in another; the object's name is made of both what people can
 * read of the key and what tells it apart for certain.
 *
 * Trap: a PUT that changes nothing is not written, and leaves the resourceVersion as it was: a commit that is still under
 * way could land after it. So each write bears a random mark.
 */
import { createHash } from 'node:crypto'
import type { Random } from '../../lib/clock.ts'
import { isTwillError, TwillError } from '../../lib/errors.ts'
import { PREFIX } from '../keys.ts'
import type { KubernetesClient, KubernetesObject, ObjectMeta, Query } from './client.ts'
import { type Collection, revisionOf, type StoredRecord } from './collection.ts'
import { changedMeanwhile, nothingSent } from './store-failure.ts'

export const RECORDS_GROUP = 'records.twill.network'
export const RECORDS_VERSION = 'v1'

export interface RecordKind {
  readonly kind: string
  readonly plural: string
  readonly singular: string
  readonly prefix: string
}

export const RECORD_KINDS: readonly RecordKind[] = [
  { kind: 'Ledger', plural: 'ledgers', singular: 'ledger', prefix: PREFIX.ledgers },
  { kind: 'Liveness', plural: 'livenesses', singular: 'liveness', prefix: PREFIX.liveness },
  { kind: 'NodeRecord', plural: 'noderecords', singular: 'noderecord', prefix: PREFIX.nodes },
  { kind: 'Slot', plural: 'slots', singular: 'slot', prefix: PREFIX.slots },
  { kind: 'ClusterRecord', plural: 'clusterrecords', singular: 'clusterrecord', prefix: '' },
]

/** By which all records of a pool are listed without the others: the part of a key between its collection and the next slash. */
const UNDER_LABEL = `${RECORDS_GROUP}/under`
const LABEL_VALUE = /^[A-Za-z0-9]([-A-Za-z0-9_.]{0,61}[A-Za-z0-9])?$/

/** What the definition says when the mark of the cluster would change. */
export const OTHER_CLUSTER = 'expected the cluster that wrote it'

interface RecordObject extends KubernetesObject {
  readonly spec?: { readonly key?: unknown; readonly value?: unknown; readonly cluster?: unknown }
}

export interface RecordsOptions {
  readonly kind: RecordKind
  /** Between any revision known and those to come. */
  readonly lastRevision: () => number
  /** Whose records these are; null: not known yet. */
  readonly cluster: () => string | null
}

export class Records implements Collection {
  readonly prefix: string
  readonly path: string
  readonly #options: RecordsOptions
  readonly #client: KubernetesClient
  readonly #random: Random

  constructor(
    options: RecordsOptions,
    modules: { readonly client: KubernetesClient; readonly random: Random },
  ) {
    this.prefix = options.kind.prefix
    this.path = `/apis/${RECORDS_GROUP}/${RECORDS_VERSION}/${options.kind.plural}`
    this.#options = options
    this.#client = modules.client
    this.#random = modules.random
  }

  nameOf(key: string): string {
    return recordName(key.slice(this.prefix.length), key)
  }

  recordIn({ spec }: RecordObject): StoredRecord | null {
    const { key, value, cluster } = spec ?? {}
    if (typeof key !== 'string' || typeof value !== 'string') return null
    return { key, value, cluster: typeof cluster === 'string' ? cluster : undefined }
  }

  selectorFor(prefix: string): Query {
    const under = this.#under(prefix)
    return under === null ? {} : { labelSelector: `${UNDER_LABEL}=${under}` }
  }

  async create(key: string, value: string): Promise<number> {
    const { cluster: _, ...body } = this.#body(key, value, null)
    return revisionOf(await this.#client.request('POST', this.path, { body }))
  }

  async replace(key: string, value: string, expected: number): Promise<number> {
    const { cluster, ...body } = this.#body(key, value, expected)
    const path = `${this.path}/${this.nameOf(key)}`
    return revisionOf(
      await this.#client.request('PUT', path, { body }).catch(error => asForeign(error, cluster)),
    )
  }

  async remove(key: string, expected: number): Promise<number> {
    const known = Math.max(this.#options.lastRevision(), expected)
    const { uid } = await this.#current(key, expected)
    const preconditions = { uid, resourceVersion: String(expected) }
    const body = { kind: 'DeleteOptions', apiVersion: 'v1', preconditions }
    await this.#client.request('DELETE', `${this.path}/${this.nameOf(key)}`, { body })
    // The answer does not say. It came later than all that was known before.
    return known + 1
  }

  /** Its uid is no other object's: what becomes of the server after this, nothing of another cluster is deleted. */
  async #current(key: string, expected: number): Promise<ObjectMeta> {
    const query = { fieldSelector: `metadata.name=${this.nameOf(key)}` }
    const { items } = await this.#client
      .request<{ readonly items?: readonly RecordObject[] }>('GET', this.path, { query })
      .catch(nothingSent)
    const current = items?.find(object => this.recordIn(object)?.key === key)
    if (current === undefined || revisionOf(current) !== expected) throw changedMeanwhile(key)
    const [own, mark] = [this.#options.cluster(), this.recordIn(current)?.cluster]
    if (own !== null && mark !== undefined && mark !== own) throw foreign(own, `it is of cluster ${mark}`)
    return current.metadata
  }

  #body(key: string, value: string, expected: number | null) {
    const cluster = this.#options.cluster()
    const under = this.#under(key)
    return {
      cluster,
      apiVersion: `${RECORDS_GROUP}/${RECORDS_VERSION}`,
      kind: this.#options.kind.kind,
      metadata: {
        name: this.nameOf(key),
        ...(expected === null ? {} : { resourceVersion: String(expected) }),
        ...(under === null ? {} : { labels: { [UNDER_LABEL]: under } }),
      },
      spec: { key, value, commit: this.#random.hex(8), ...(cluster === null ? {} : { cluster }) },
    }
  }

  #under(key: string): string | null {
    if (!key.startsWith(this.prefix)) return null
    const [under = '', ...rest] = key.slice(this.prefix.length).split('/')
    return rest.length > 0 && LABEL_VALUE.test(under) ? under : null
  }
}

const SLUG_MAX = 150

/** A DNS subdomain (RFC 1123), in lower case. */
function recordName(shown: string, key: string): string {
  const slug = shown
    .toLowerCase()
    .replaceAll(/[^a-z0-9]+/g, '-')
    .slice(0, SLUG_MAX)
    .replaceAll(/^-|-$/g, '')
  const hash = createHash('sha256').update(key).digest('hex').slice(0, 32)
  return slug === '' ? hash : `${slug}-${hash}`
}

function asForeign(error: unknown, expected: string | null): never {
  if (!isTwillError(error, 'kubernetes.invalid') || !error.message.includes(OTHER_CLUSTER)) throw error
  throw foreign(expected, error.message, error)
}

function foreign(expected: string | null, why: string, cause?: TwillError): TwillError {
  const message = `this node belongs to cluster ${expected}; the API server has the record of another: ${why}`
  return new TwillError('store.foreign-cluster', message, { expected }, { retryable: true, cause })
}
