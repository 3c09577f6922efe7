/**
 * The embedded store as its daemon gives it to other processes of the node, over the API socket: POST, JSON in and
 * out, one path for each call of the Store.
 *
 *   /v1/store/get     {key}      → {entry, revision}
 *   /v1/store/list    {prefix}   → {entries, revision}
 *   /v1/store/commit  {commit}   → CommitOutcome
 *   /v1/store/watch   {prefix}   → WatchMessages, one per line, until either side closes
 *
 * Each may bear `cluster`, the UID that the store must have. A failure is status 503 with a StoreFailure; 404
 * says that this daemon's datastore is another one.
 */
import { z } from 'zod'

const cluster = z.string().nullable()

export const STORE_PATH = '/v1/store/'

export const storeRequests = {
  get: z.strictObject({ cluster, key: z.string() }),
  list: z.strictObject({ cluster, prefix: z.string() }),
  commit: z.strictObject({
    cluster,
    commit: z.strictObject({
      key: z.string().min(1),
      expected: z.number().int().min(0),
      value: z.string().nullable(),
    }),
  }),
  watch: z.strictObject({ cluster, prefix: z.string() }),
}

export type StoreCall = keyof typeof storeRequests

export const storeFailure = z.object({
  code: z.enum(['store.unavailable', 'store.in-doubt', 'store.foreign-cluster']),
  message: z.string(),
  data: z.record(z.string(), z.unknown()),
  retryable: z.boolean(),
})

export type StoreFailure = z.infer<typeof storeFailure>
