/** How the datastore is reached: the same words in the daemon's configuration and for the CLI. */
import { z } from 'zod'

const absolutePath = z.string().regex(/^\//, 'expected an absolute path')

const endpoint = z.string().regex(/^https?:\/\/[^/\s]+$/, 'expected http://HOST:PORT or https://HOST:PORT')

export const etcdDatastore = z.strictObject({
  type: z.literal('etcd').default('etcd'),
  endpoints: z.array(endpoint).min(1),
  /** Everything Twill keeps lies below it; two clusters in one etcd have two prefixes. */
  prefix: z
    .string()
    .regex(/^\/.*\/$/, 'expected a path that begins and ends with "/"')
    .default('/twill/v1/'),
  tls: z
    .strictObject({ ca: absolutePath, cert: absolutePath.optional(), key: absolutePath.optional() })
    .optional(),
  username: z.string().optional(),
  passwordFile: absolutePath.optional(),
})

export type DatastoreSettings = z.infer<typeof etcdDatastore>
