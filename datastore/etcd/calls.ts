/**
 * get, list and commit as etcd transactions: all go through one door, where the guard's comparison, the
 * deadline and the meaning of failures are added.
 */
import type { IRequestOp, IResponseHeader, IResponseOp, ITxnRequest, ITxnResponse } from 'etcd3'
import { CompareResult, CompareTarget } from 'etcd3'
import type { Clock } from '../../lib/clock.ts'
import { isTwillError, type TwillError } from '../../lib/errors.ts'
import type { Health } from '../health.ts'
import type { Commit, CommitOutcome, KeyValue } from '../store.ts'
import type { Connection, Link } from './connection.ts'
import {
  commitFailure,
  isDenied,
  isRevisionGone,
  isServersAnswer,
  isTooLarge,
  readFailure,
  unavailable,
} from './failure.ts'
import type { Guard } from './guard.ts'
import { decode, prefixEnd } from './keys.ts'
import type { ResolvedEtcdOptions } from './options.ts'

interface Answer {
  readonly succeeded: boolean
  readonly responses: IResponseOp[]
  readonly header: IResponseHeader
  readonly link: Link
}

/** Lists begun anew before giving up, each because a compaction or restore came between two pages. */
const LIST_ATTEMPTS = 5

export class Calls {
  readonly #options: ResolvedEtcdOptions
  readonly #connection: Connection
  readonly #clock: Clock
  readonly #health: Health
  #guard: Guard | null = null

  constructor(
    options: ResolvedEtcdOptions,
    modules: { connection: Connection; clock: Clock; health: Health },
  ) {
    this.#options = options
    this.#connection = modules.connection
    this.#clock = modules.clock
    this.#health = modules.health
  }

  setGuard(guard: Guard): void {
    this.#guard = guard
  }

  async get(key: string): Promise<{ entry: KeyValue | null; revision: number; term: number }> {
    const answer = await this.#read([{ request_range: { key: this.#encode(key) } }])
    const [kv] = answer.responses[0]?.response_range.kvs ?? []
    return {
      entry: kv ? decode(kv, this.#options.prefix) : null,
      revision: Number(answer.header.revision),
      term: Number(answer.header.raft_term),
    }
  }

  async list(prefix: string): Promise<{ entries: KeyValue[]; revision: number }> {
    for (let attempt = 1; ; attempt++) {
      try {
        return await this.#listOnce(prefix)
      } catch (error) {
        if (!isTwillError(error) || !isRevisionGone(error.cause) || attempt === LIST_ATTEMPTS) throw error
      }
    }
  }

  async commit(commit: Commit): Promise<CommitOutcome> {
    const key = this.#encode(commit.key)
    const change: IRequestOp =
      commit.value === null
        ? { request_delete_range: { key } }
        : { request_put: { key, value: Buffer.from(commit.value) } }
    const request: ITxnRequest = {
      compare: [
        {
          key,
          target: CompareTarget.Mod,
          result: CompareResult.Equal,
          mod_revision: commit.expected,
        },
      ],
      success: [change],
      failure: [{ request_range: { key } }],
    }
    const answer = await this.#guarded(guard => this.#send(request, guard, commit.key))
    const revision = Number(answer.header.revision)
    if (answer.succeeded) return { committed: true, revision }
    const [kv] = answer.responses[0]?.response_range.kvs ?? []
    return { committed: false, current: kv ? decode(kv, this.#options.prefix) : null, revision }
  }

  async #listOnce(prefix: string): Promise<{ entries: KeyValue[]; revision: number }> {
    const end = prefixEnd(this.#encode(prefix))
    const entries: KeyValue[] = []
    let start = this.#encode(prefix)
    let revision = 0
    for (let limit = this.#options.pageSize; ; ) {
      const page = await this.#page({ key: start, range_end: end, limit, revision })
      if (page === 'too large' && limit > 1) {
        limit = Math.ceil(limit / 2)
        continue
      }
      if (page === 'too large')
        throw unavailable('one record exceeds maxMessageBytes', this.#connection.endpoint)
      revision = page.revision
      for (const kv of page.kvs) entries.push(decode(kv, this.#options.prefix))
      const last = page.kvs.at(-1)
      if (!page.more || last === undefined) return { entries, revision }
      start = Buffer.concat([last.key, Buffer.from([0])])
    }
  }

  /** A page at `revision`; 0: the newest. */
  async #page(range: { key: Buffer; range_end: Buffer; limit: number; revision: number }) {
    try {
      const answer = await this.#read([{ request_range: range }])
      const { kvs = [], more = false } = answer.responses[0]?.response_range ?? {}
      return { kvs, more, revision: range.revision || Number(answer.header.revision) }
    } catch (error) {
      if (isTwillError(error) && isTooLarge(error.cause)) return 'too large'
      throw error
    }
  }

  /** Reads are repeated at another endpoint. */
  async #read(operations: IRequestOp[]): Promise<Answer> {
    for (let tries = 1; ; tries++) {
      try {
        return await this.#guarded(guard =>
          this.#send({ compare: [], success: operations, failure: [] }, guard),
        )
      } catch (error) {
        const final =
          isTwillError(error) && (error.code !== 'store.unavailable' || isServersAnswer(error.cause))
        if (final || tries >= this.#options.endpoints.length) throw error
      }
    }
  }

  /** Sends again where the guard learned the record's wording; a comparison that failed changed nothing. */
  async #guarded(send: (guard: Guard | null) => Promise<Answer>): Promise<Answer> {
    const guard = this.#guard
    const answer = await send(guard)
    if (guard === null || answer.succeeded) return answer
    try {
      return guard.judge(answer.responses.at(-1), answer.header.cluster_id) === 'ours'
        ? answer
        : await send(guard)
    } catch (error) {
      this.#health.lost(error)
      throw error
    }
  }

  /** `committing`: the key, when the transaction changes something. */
  async #send(request: ITxnRequest, guard: Guard | null, committing?: string): Promise<Answer> {
    const link = await this.#connection.ready().catch(error => this.#fail(error))
    if (committing !== undefined) this.#health.commits++
    try {
      const deadline = this.#clock.realtimeMs() + this.#options.callTimeoutMs
      const response: ITxnResponse = await link.kv.txn(withGuard(request, guard), { deadline })
      this.#health.answered(Number(response.header.revision))
      return { succeeded: response.succeeded, responses: response.responses, header: response.header, link }
    } catch (error) {
      if (!isServersAnswer(error)) this.#connection.failed(link)
      return this.#fail(
        committing === undefined
          ? readFailure(error, link.endpoint)
          : commitFailure(error, link.endpoint, committing),
        isServersAnswer(error) && !isDenied(error),
      )
    }
  }

  #fail(error: TwillError, answered = false): never {
    if (!answered) this.#health.lost(error)
    throw error
  }

  #encode(key: string): Buffer {
    return Buffer.from(this.#options.prefix + key)
  }
}

function withGuard(request: ITxnRequest, guard: Guard | null): ITxnRequest {
  if (guard === null) return request
  return {
    ...request,
    compare: [...(request.compare ?? []), guard.compare],
    failure: [...(request.failure ?? []), guard.read],
  }
}
