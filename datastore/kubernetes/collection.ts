/** Where keys of the datastore live in Kubernetes: a part of them each in the objects of one path. */
import type { KubernetesObject, Query } from './client.ts'

export interface Collection {
  /** Of its keys. The one with '' has those that no other has. */
  readonly prefix: string
  /** Such as /apis/twill.network/v1alpha1/ippools. */
  readonly path: string
  /** Of the object that holds this key. */
  nameOf(key: string): string
  /** null: no record of ours. The cluster that wrote it, where it says. */
  recordIn(object: KubernetesObject): StoredRecord | null
  /** What a list or watch of these keys is asked with; may let others through. */
  selectorFor(prefix: string): Query
  /**
   * Each resolves with the revision of the change, or one between that and any known before it was sent.
   * @throws kubernetes.conflict: it is there, or of another revision; kubernetes.not-found: it is not; kubernetes.*
   */
  create(key: string, value: string): Promise<number>
  replace(key: string, value: string, expected: number): Promise<number>
  remove(key: string, expected: number): Promise<number>
}

export interface StoredRecord {
  readonly key: string
  readonly value: string
  readonly cluster?: string | undefined
}

export const revisionOf = ({
  metadata,
}: {
  readonly metadata: { readonly resourceVersion: string }
}): number => Number(metadata.resourceVersion)

/** Those that may hold keys that begin so. */
export function collectionsUnder(collections: readonly Collection[], prefix: string): Collection[] {
  const around = collections.filter(each => each.prefix !== '' && prefix.startsWith(each.prefix))
  return around.length > 0
    ? around
    : collections.filter(each => each.prefix === '' || each.prefix.startsWith(prefix))
}

export const collectionOf = (collections: readonly Collection[], key: string): Collection | undefined =>
  collections.find(each => each.prefix !== '' && key.startsWith(each.prefix)) ??
  collections.find(each => each.prefix === '')
