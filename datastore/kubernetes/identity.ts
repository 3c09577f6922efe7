/**
 * Ties the records to one cluster. Every record bears the UID of the cluster that wrote it; what was read without any such
 * mark, and what is about to be created or deleted, is looked up in the record `cluster`. A replacement needs no look: the
 * record's definition lets nobody change the mark.
 *
 * Limit: between the look and a creation the server may become another, which then has one record more, of which its mark
 * says whose it is. Nothing of another cluster is ever written over or deleted: a deletion names the object by its uid.
 */
import { messageOf, TwillError } from '../../lib/errors.ts'
import { CLUSTER_KEY } from '../keys.ts'
import { recordParser } from '../record.ts'
import { clusterRecord } from '../records/cluster.ts'
import type { KeyValue } from '../store.ts'
import type { StoredRecord } from './collection.ts'
import type { Recognition } from './object-calls.ts'

const parse = recordParser(clusterRecord)

export const ANY_CLUSTER: Recognition = { recognise: async () => {}, beforeWrite: async () => {} }

export class ClusterIdentity implements Recognition {
  readonly #read: () => Promise<{ readonly entry: KeyValue | null }>
  #expected: string | null = null

  /** `read`: the record `cluster`. */
  constructor(read: () => Promise<{ readonly entry: KeyValue | null }>) {
    this.#read = read
  }

  get expected(): string | null {
    return this.#expected
  }

  expect(uid: string): void {
    this.#expected = uid
  }

  async recognise(records: readonly StoredRecord[]): Promise<void> {
    if (this.#expected === null) return
    const marks = records.flatMap(({ cluster }) => cluster ?? [])
    const foreign = marks.find(mark => mark !== this.#expected)
    if (foreign !== undefined) throw this.#foreign(`has records of cluster ${foreign}`)
    const own = records.find(({ key }) => key === CLUSTER_KEY)
    if (own !== undefined) this.#judge(own.value)
    else if (marks.length === 0) await this.beforeWrite()
  }

  async beforeWrite(): Promise<void> {
    if (this.#expected === null) return
    const { entry } = await this.#read()
    if (entry === null) throw this.#foreign('has no cluster record')
    this.#judge(entry.value)
  }

  #judge(text: string): void {
    let uid: string
    try {
      uid = parse(text, CLUSTER_KEY).uid
    } catch (error) {
      throw this.#foreign(messageOf(error))
    }
    if (uid !== this.#expected) throw this.#foreign(`is ${text}`)
  }

  #foreign(found: string): TwillError {
    const message = `this node belongs to cluster ${this.#expected}; the API server ${found}`
    return new TwillError(
      'store.foreign-cluster',
      message,
      { expected: this.#expected, found },
      { retryable: true },
    )
  }
}
