/**
 * Ties every call to one cluster: the transaction compares the record `cluster`, so that even a server swapped
 * between two calls changes nothing. The id in etcd's answer headers does not serve: it follows from the
 * member's configuration, and a wiped server has the same one again.
 */
import type { ICompare, IRequestOp, IResponseOp } from 'etcd3'
import { CompareResult, CompareTarget } from 'etcd3'
import { messageOf, TwillError } from '../../lib/errors.ts'
import { recordParser } from '../record.ts'
import { clusterRecord } from '../records/cluster.ts'

const parse = recordParser(clusterRecord)

export class Guard {
  readonly #uid: string
  readonly #key: Buffer
  #text: string

  /** `key` as etcd knows it, prefix included. */
  constructor(options: { uid: string; key: string }) {
    this.#uid = options.uid
    this.#key = Buffer.from(options.key)
    this.#text = JSON.stringify({ v: 1, uid: options.uid })
  }

  get compare(): ICompare {
    return {
      key: this.#key,
      target: CompareTarget.Value,
      result: CompareResult.Equal,
      value: Buffer.from(this.#text),
    }
  }

  /** Goes last in a transaction's failure branch; its answer is what `judge` takes. */
  get read(): IRequestOp {
    return { request_range: { key: this.#key } }
  }

  /**
   * ours: the comparison that failed was another one. again: the record says the same in other words, now
   * learned. @throws store.foreign-cluster
   */
  judge(answer: IResponseOp | undefined, clusterId: string): 'ours' | 'again' {
    const value = answer?.response_range?.kvs[0]?.value
    const text = value === undefined ? null : value.toString('utf8')
    if (text === this.#text) return 'ours'
    if (text === null || this.#uidOf(text, clusterId) !== this.#uid)
      throw this.#foreign(text === null ? 'has no cluster record' : `is ${text}`, clusterId)
    this.#text = text
    return 'again'
  }

  #uidOf(text: string, clusterId: string): string {
    try {
      return parse(text, 'cluster').uid
    } catch (error) {
      throw this.#foreign(messageOf(error), clusterId)
    }
  }

  #foreign(found: string, clusterId: string): TwillError {
    const etcd = BigInt(clusterId).toString(16)
    return new TwillError(
      'store.foreign-cluster',
      `this node belongs to cluster ${this.#uid}; the store (etcd cluster ${etcd}) ${found}`,
      { expected: this.#uid, found, etcdClusterId: etcd },
      { retryable: true },
    )
  }
}
