/** How the datastore and Kubernetes are reached: the same words in the daemon's configuration and for the CLI. */
import { z } from 'zod'
import { absolutePath } from '../lib/absolute-path.ts'

/** Without a user, whose password would stand in every message about it. */
const endpoint = z.string().regex(/^https?:\/\/[^/@\s]+$/, 'expected http://HOST:PORT or https://HOST:PORT')

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

/** In the daemon itself, below its state folder. */
export const embeddedDatastore = z.strictObject({ type: z.literal('embedded') })

/** In custom resources, at the API server that the section `kubernetes` says. */
export const kubernetesDatastore = z.strictObject({ type: z.literal('kubernetes') })

export const datastoreSettings = z.discriminatedUnion('type', [
  etcdDatastore,
  embeddedDatastore,
  kubernetesDatastore,
])

/** The cluster whose pods these are; without it the node knows only what runtimes say. */
export const kubernetesSettings = z.strictObject({
  enabled: z.boolean().default(false),
  /** null: the service account of the pod in which this program runs. */
  kubeconfig: absolutePath.nullable().default(null),
})

export type KubernetesSettings = z.infer<typeof kubernetesSettings>
export type EtcdSettings = z.infer<typeof etcdDatastore>
export type DatastoreSettings = z.infer<typeof datastoreSettings>

/** What only works with the other; null: nothing. */
export const problemOfSettings = (settings: {
  readonly datastore: DatastoreSettings
  readonly kubernetes: KubernetesSettings
}): string | null =>
  settings.datastore.type === 'kubernetes' && !settings.kubernetes.enabled
    ? 'expected etcd or embedded unless kubernetes.enabled is true'
    : null

/** Before validation: nothing said is the embedded one; anything said without a type is about etcd. */
export function withDatastoreType(written: unknown): unknown {
  if (written === undefined || written === null) return { type: 'embedded' }
  return typeof written === 'object' && !('type' in written) ? { type: 'etcd', ...written } : written
}
