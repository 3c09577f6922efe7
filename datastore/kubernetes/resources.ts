/**
 * The keys below resources/ in Kubernetes: pools and reservations are custom resources of ours, Namespaces and Nodes are
 * Kubernetes' own, of which labels and annotations are shown here and nothing can be written.
 *
 * A pool's uid is the one under which it was entered in the address space. It stands in an annotation, with the uid of the
 * very object: a copy of the document, or one that was deleted and applied again, is another pool. A pool without it was
 * written by kubectl and is not entered yet; whoever gives it its uid (`admitPool`) also puts a finalizer on it, so that
 * `kubectl delete` closes it and waits until nobody holds addresses of it.
 *
 * An update keeps what is not ours: other annotations, finalizers, owners.
 */
import type { Random } from '../../lib/clock.ts'
import { isTwillError, TwillError } from '../../lib/errors.ts'
import { PREFIX } from '../keys.ts'
import type { ResourceKind } from '../resources/kinds.ts'
import { API_VERSION } from '../resources/metadata.ts'
import { COMMIT, ENTERED, POOL_FINALIZER } from '../resources/server-fields.ts'
import type { KubernetesClient, KubernetesObject, ObjectMeta, Query } from './client.ts'
import { type Collection, revisionOf, type StoredRecord } from './collection.ts'
import { CUSTOM_KINDS, GROUP, VERSION } from './definitions/definitions.ts'
import { APPLY_DEFINITIONS, changedMeanwhile, nothingSent } from './store-failure.ts'

const HIDDEN = [ENTERED, COMMIT]
/** Else the server drops in silence what an older definition does not know. */
const STRICT = { fieldValidation: 'Strict' }
const DOMAIN = 'twill.network/'

interface ResourceMeta extends ObjectMeta {
  readonly creationTimestamp?: string
  readonly finalizers?: readonly string[]
}

export interface ResourceObject extends KubernetesObject {
  readonly metadata: ResourceMeta
  readonly spec?: unknown
}

interface Document {
  readonly metadata: Pick<ResourceMeta, 'name' | 'labels' | 'annotations'> & { readonly uid?: string }
  readonly spec: unknown
}

const keyPrefix = (plural: string) => `${PREFIX.resources}${plural}/`

export interface CustomResourcesModules {
  readonly client: KubernetesClient
  readonly random: Random
}

export class CustomResources implements Collection {
  readonly prefix: string
  readonly path: string
  readonly #kind: ResourceKind
  readonly #isPool: boolean
  readonly #lastRevision: () => number
  readonly #client: KubernetesClient
  readonly #random: Random

  constructor(
    options: { readonly kind: ResourceKind; readonly lastRevision: () => number },
    modules: CustomResourcesModules,
  ) {
    this.#kind = options.kind
    this.#isPool = options.kind.kind === 'IPPool'
    this.prefix = keyPrefix(options.kind.plural)
    this.path = pathOf(options.kind)
    this.#lastRevision = options.lastRevision
    this.#client = modules.client
    this.#random = modules.random
  }

  nameOf(key: string): string {
    return key.slice(this.prefix.length)
  }

  recordIn(object: ResourceObject): StoredRecord {
    const { name } = object.metadata
    return { key: this.prefix + name, value: JSON.stringify(documentOf(this.#kind, object)) }
  }

  selectorFor(): Query {
    return {}
  }

  async create(key: string, value: string): Promise<number> {
    const { metadata, spec } = JSON.parse(value) as Document
    const { labels, annotations, uid } = metadata
    const finalizers = this.#isPool ? [POOL_FINALIZER] : []
    const body = {
      apiVersion: API_VERSION,
      kind: this.#kind.kind,
      metadata: { name: this.nameOf(key), labels, annotations, finalizers },
      spec,
    }
    const created = await this.#client
      .request<ResourceObject>('POST', this.path, { body, query: STRICT })
      .catch(refusedByRules)
    if (!this.#isPool || uid === undefined) return revisionOf(created)
    return this.#step(async () => {
      const entered = entering(created, uid)
      return revisionOf(await this.#put(entered).catch(error => afterwards(error, created)))
    })
  }

  async replace(key: string, value: string, expected: number): Promise<number> {
    const current = await this.#current(key, expected)
    const document = JSON.parse(value) as Document
    const changed = await this.#put(this.#changed(current, document)).catch(refusedByRules)
    if (revisionOf(changed) !== expected) return revisionOf(changed)
    // The server wrote nothing: a commit under way that was decided before could still land after this one.
    return this.#step(async () =>
      revisionOf(await this.#put(annotated(changed, { [COMMIT]: this.#random.hex(8) }))),
    )
  }

  async remove(key: string, expected: number): Promise<number> {
    const known = Math.max(this.#lastRevision(), expected)
    const current = await this.#current(key, expected)
    const isGoing = current.metadata.deletionTimestamp !== undefined
    const going = isGoing ? current : await this.#delete(current)
    if (going?.metadata.finalizers?.includes(POOL_FINALIZER))
      await this.#step(() => this.#put(withoutFinalizer(going)), isGoing)
    return known + 1
  }

  /** null: it is gone at once. */
  async #delete({ metadata }: ResourceObject): Promise<ResourceObject | null> {
    const { name, uid, resourceVersion } = metadata
    const body = { kind: 'DeleteOptions', apiVersion: 'v1', preconditions: { uid, resourceVersion } }
    const answer = await this.#client.request<ResourceObject & { kind?: string }>(
      'DELETE',
      `${this.path}/${name}`,
      { body },
    )
    return answer.kind === 'Status' ? null : answer
  }

  /** @throws kubernetes.conflict: of another revision; kubernetes.not-found */
  async #current(key: string, expected: number): Promise<ResourceObject> {
    const path = `${this.path}/${this.nameOf(key)}`
    const current = await this.#client.request<ResourceObject>('GET', path).catch(nothingSent)
    if (revisionOf(current) !== expected) throw changedMeanwhile(key)
    return current
  }

  #put(object: ResourceObject): Promise<ResourceObject> {
    const path = `${this.path}/${object.metadata.name}`
    return this.#client.request('PUT', path, { body: object, query: STRICT })
  }

  #changed(current: ResourceObject, { metadata, spec }: Document): ResourceObject {
    const { managedFields: _, ...kept } = current.metadata as ResourceMeta & { managedFields?: unknown }
    const hidden = Object.entries(current.metadata.annotations ?? {}).filter(([name]) => isHidden(name))
    const annotations = { ...metadata.annotations, ...Object.fromEntries(hidden) }
    const changed = { ...current, metadata: { ...kept, labels: metadata.labels ?? {}, annotations }, spec }
    const isEntered = metadata.uid === undefined || metadata.uid === enteredUid(current)
    return isEntered || !this.#isPool ? changed : entering(changed, metadata.uid as string)
  }

  /** After something was written: whatever happens now, the change has begun. */
  async #step<T>(write: () => Promise<T>, isFirst = false): Promise<T> {
    try {
      return await write()
    } catch (error) {
      if (isFirst || !isTwillError(error)) throw error
      throw new TwillError(
        'kubernetes.unavailable',
        error.message,
        { ...error.data, sent: true },
        { retryable: true, cause: error },
      )
    }
  }
}

/** Of Kubernetes' own kinds: labels and annotations, which are its API server's alone to say. */
export class CoreObjects implements Collection {
  readonly prefix: string
  readonly path: string
  readonly #kind: ResourceKind

  constructor(options: { readonly kind: ResourceKind }) {
    this.prefix = keyPrefix(options.kind.plural)
    this.path = `/api/v1/${options.kind.plural}`
    this.#kind = options.kind
  }

  nameOf(key: string): string {
    return key.slice(this.prefix.length)
  }

  recordIn({ metadata }: ResourceObject): StoredRecord {
    const { name, uid, creationTimestamp, labels } = metadata
    const annotations = this.#kind.kind === 'Namespace' ? ownAnnotations(metadata) : undefined
    const document = {
      apiVersion: API_VERSION,
      kind: this.#kind.kind,
      metadata: { name, uid, creationTimestamp, labels, annotations },
      spec: {},
    }
    return { key: this.prefix + name, value: JSON.stringify(document) }
  }

  /** A name is asked for as such: whose names only begin so are not meant by anybody. */
  selectorFor(prefix: string): Query {
    const name = prefix.slice(this.prefix.length)
    return name === '' ? {} : { fieldSelector: `metadata.name=${name}` }
  }

  create = (key: string): Promise<never> => this.#refuse(key)
  replace = (key: string): Promise<never> => this.#refuse(key)
  remove = (key: string): Promise<never> => this.#refuse(key)

  async #refuse(key: string): Promise<never> {
    const { kind, singular } = this.#kind
    const name = this.nameOf(key)
    throw new TwillError(
      'document.invalid',
      `${kind} ${name}: it is Kubernetes' own: kubectl label ${singular} ${name}, kubectl annotate, kubectl delete`,
      { kind, name },
    )
  }
}

export const pathOf = ({ plural }: ResourceKind): string => `/apis/${GROUP}/${VERSION}/${plural}`

export const collectionsOf = (
  kinds: readonly ResourceKind[],
  known: { readonly lastRevision: () => number },
  modules: CustomResourcesModules,
): Collection[] =>
  kinds.map(kind =>
    CUSTOM_KINDS.includes(kind)
      ? new CustomResources({ kind, ...known }, modules)
      : new CoreObjects({ kind }),
  )

/** As twillctl shows it and the address management reads it. */
export function documentOf({ kind }: ResourceKind, object: ResourceObject): Document & { kind: string } {
  const { name, uid, creationTimestamp, deletionTimestamp, labels, annotations = {} } = object.metadata
  const shown = Object.entries(annotations).filter(([key]) => !isHidden(key))
  const metadata = {
    name,
    uid: kind === 'IPPool' ? enteredUid(object) : uid,
    creationTimestamp,
    deletionTimestamp,
    labels,
    annotations: shown.length === 0 ? undefined : Object.fromEntries(shown),
  }
  return { apiVersion: API_VERSION, kind, metadata, spec: object.spec } as Document & { kind: string }
}

/** Of tools, and ours: no operator wrote them. */
const isHidden = (annotation: string): boolean =>
  HIDDEN.includes(annotation) || /^([a-z0-9-]+\.)*(kubernetes|k8s)\.io\//.test(annotation)

function ownAnnotations({ annotations = {} }: ResourceMeta): Record<string, string> | undefined {
  const own = Object.entries(annotations).filter(([name]) => name.startsWith(DOMAIN))
  return own.length === 0 ? undefined : Object.fromEntries(own)
}

/** undefined: not entered yet, or another object was. */
function enteredUid({ metadata }: ResourceObject): string | undefined {
  const [entered, object, ...more] = metadata.annotations?.[ENTERED]?.split('/') ?? []
  const isOwn = object === metadata.uid && more.length === 0 && entered !== ''
  return isOwn && metadata.finalizers?.includes(POOL_FINALIZER) ? entered : undefined
}

function entering(object: ResourceObject, uid: string): ResourceObject {
  const { finalizers = [], uid: own } = object.metadata
  const all = [...new Set([...finalizers, POOL_FINALIZER])]
  const marked = annotated(object, { [ENTERED]: `${uid}/${own}` })
  return { ...marked, metadata: { ...marked.metadata, finalizers: all } }
}

const annotated = (object: ResourceObject, more: Readonly<Record<string, string>>): ResourceObject => ({
  ...object,
  metadata: { ...object.metadata, annotations: { ...object.metadata.annotations, ...more } },
})

export function withoutFinalizer(object: ResourceObject): ResourceObject {
  const finalizers = (object.metadata.finalizers ?? []).filter(each => each !== POOL_FINALIZER)
  return { ...object, metadata: { ...object.metadata, finalizers } }
}

/** Somebody else wrote it in between: the creation stands. */
function afterwards(error: unknown, created: ResourceObject): ResourceObject {
  if (isTwillError(error, 'kubernetes.conflict') || isTwillError(error, 'kubernetes.not-found'))
    return created
  throw error
}

/** What the definition refuses is the operator's mistake. */
function refusedByRules(error: unknown): never {
  if (!isTwillError(error, 'kubernetes.invalid')) throw error
  const isOlder = /unknown field/.test(error.message)
  const hint = isOlder ? `: the definitions are older than this: ${APPLY_DEFINITIONS}` : ''
  throw new TwillError('document.invalid', error.message + hint, error.data, { cause: error })
}
