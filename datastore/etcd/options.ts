/** What an operator may say about etcd, with every default in one place. */
import { TwillError } from '../../lib/errors.ts'

export interface EtcdOptions {
  /** URLs: http://10.0.0.1:2379 or https://…, all of one scheme. */
  readonly endpoints: readonly string[]
  /** In front of every key. Default '/twill/v1/'. */
  readonly prefix?: string
  /** PEM. Absent with https: the system's authorities. */
  readonly tls?: { readonly ca: Buffer; readonly key?: Buffer; readonly cert?: Buffer }
  readonly auth?: { readonly username: string; readonly password: string }
  /** Longest time for one call. Default 5000. */
  readonly callTimeoutMs?: number
  /** A silent connection is probed after this time. Servers refuse less than 5 s by default. Default 10000. */
  readonly keepaliveMs?: number
  /** A probe unanswered for this long ends the connection. Default 5000. */
  readonly keepaliveTimeoutMs?: number
  /** Keys asked for at a time by `list`. Default 500; halved where an answer exceeds maxMessageBytes. */
  readonly pageSize?: number
  /** Default 16 MiB. */
  readonly maxMessageBytes?: number
  /** Bounds of the wait before a watch is opened anew. Default 100 and 5000. */
  readonly backoffMs?: { readonly first: number; readonly last: number }
}

export type ResolvedEtcdOptions = Required<Omit<EtcdOptions, 'tls' | 'auth'>> &
  Pick<EtcdOptions, 'tls' | 'auth'>

/** @throws TwillError config.invalid */
export function resolveEtcdOptions(options: EtcdOptions): ResolvedEtcdOptions {
  const refuse = (field: string, expected: string) =>
    new TwillError('config.invalid', `etcd.${field}: expected ${expected}`, {
      field: `etcd.${field}`,
      expected,
    })
  if (options.endpoints.length === 0) throw refuse('endpoints', 'at least one URL')
  for (const endpoint of options.endpoints)
    if (!/^https?:\/\/[^/]+$/.test(endpoint))
      throw refuse('endpoints', `http://HOST:PORT or https://HOST:PORT, not ${JSON.stringify(endpoint)}`)
  if (new Set(options.endpoints.map(endpoint => endpoint.slice(0, 5))).size > 1)
    throw refuse('endpoints', 'all http or all https')
  if (options.prefix === '') throw refuse('prefix', 'a prefix such as /twill/v1/')
  return {
    ...options,
    prefix: options.prefix ?? '/twill/v1/',
    callTimeoutMs: options.callTimeoutMs ?? 5000,
    keepaliveMs: options.keepaliveMs ?? 10_000,
    keepaliveTimeoutMs: options.keepaliveTimeoutMs ?? 5000,
    pageSize: options.pageSize ?? 500,
    maxMessageBytes: options.maxMessageBytes ?? 16 * 1024 * 1024,
    backoffMs: options.backoffMs ?? { first: 100, last: 5000 },
  }
}
