/**
 * twilld's configuration: a YAML file, then TWILL_* of the environment, then flags, the later winning. Whatever
 * is set has a name here; an unknown key, variable or value stops the daemon before it does anything.
 */
import { z } from 'zod'
import { ipPoolSpec } from '../datastore/resources/ippool.ts'
import { labelKey, labelValue, resourceName } from '../datastore/resources/metadata.ts'
import { datastoreSettings, kubernetesSettings, problemOfSettings } from '../datastore/settings.ts'
import { OWN_PATHS } from '../kernel/host-paths.ts'
import { absolutePath } from '../lib/absolute-path.ts'
import { duration, FENCE_MARGIN } from '../lib/duration.ts'
import { VXLAN_PORT } from '../routing/vxlan/vtep.ts'
import { CHAINABLE, type Chainable } from './cni/chain.ts'

const CHAINED = Object.keys(CHAINABLE) as Chainable[]
const tcpAddress = z.string().regex(/^.+:\d+$/, 'expected HOST:PORT')

const underlay = z
  .strictObject({
    /** Exact name, or a pattern with "*". */
    interface: z.string().min(1).optional(),
    /** The interface by which this address is reached. */
    reach: z.union([z.ipv4(), z.ipv6()]).optional(),
  })
  .refine(
    value => value.interface === undefined || value.reach === undefined,
    'expected "interface" or "reach", not both',
  )

const fields = z.strictObject({
  nodeName: resourceName,
  /** For nodeSelectors; what the operator's Node says of the same label counts more. */
  nodeLabels: z.record(labelKey, labelValue, 'expected labels such as zone=a,rack=r1').default({}),
  datastore: datastoreSettings,
  kubernetes: kubernetesSettings.prefault({}),
  underlay: underlay.default({}),
  vxlan: z
    .strictObject({
      vni: z.number().int().min(1).max(0xffffff).default(84),
      port: z.number().int().min(1).max(65535).default(VXLAN_PORT),
    })
    .prefault({}),
  /** Created by the first daemon that finds no pool at all. */
  firstPools: z.array(z.strictObject({ name: resourceName, spec: ipPoolSpec })).default([]),
  /** How long this node may hand out its own addresses without hearing from the datastore. */
  offlineAllowance: duration.prefault('1h'),
  /** What is added to a removed node's allowance before its addresses are free: clocks run at different speeds. */
  fenceMargin: duration.prefault(FENCE_MARGIN),
  /** How long a freed address rests. */
  coolDown: duration.prefault('60s'),
  /** How much of the pools this node may own, of each family; null: as much as it needs. */
  nodeLimit: z
    .strictObject({
      parts: z.number().int().min(1).nullable().default(null),
      addresses: z.number().int().min(1).nullable().default(null),
    })
    .prefault({}),
  heartbeatInterval: duration.prefault('10s'),
  resyncInterval: duration.prefault('60s'),
  audit: z
    .strictObject({
      /** How often this node compares its records, kernel and runtime. */
      interval: duration.prefault('5m'),
      /** How long a disagreement must stand before it is mended. */
      grace: duration.prefault('5m'),
      /** The runtime's CRI socket; none: it is not asked; null: the first known one that is there. */
      runtime: z
        .union([absolutePath, z.literal('none')])
        .nullable()
        .default(null),
    })
    .prefault({}),
  cni: z
    .strictObject({
      /** Written atomically once the daemon is ready; null: left to others. */
      conflist: absolutePath.nullable().default('/etc/cni/net.d/10-twill.conflist'),
      /** Where the runtime looks for plugins, and the daemon puts its own; null: it puts none anywhere. */
      binDir: absolutePath.nullable().default(null),
      /** Plugins behind twill, where they are installed. */
      chain: z.array(z.enum(CHAINED)).default([...CHAINED]),
      network: z
        .string()
        .regex(/^[A-Za-z0-9][A-Za-z0-9_.-]*$/)
        .default('twill'),
    })
    .prefault({}),
  /** Where a daemon in a container finds what is the node's and not its own (kernel/host-paths.ts). */
  host: z
    .strictObject({
      sysctls: absolutePath.default(OWN_PATHS.sysctls),
      proc: absolutePath.nullable().default(OWN_PATHS.proc),
    })
    .prefault({}),
  runDir: absolutePath.default('/run/twill'),
  stateDir: absolutePath.default('/var/lib/twill'),
  logLevel: z.enum(['debug', 'info', 'warn', 'error']).default('info'),
  /** HOST:PORT on which metrics are served without authentication; null: on the API socket only. */
  metricsAddress: tcpAddress.nullable().default(null),
  /** HOST:PORT on which /v1/live and /v1/ready are answered, and nothing else; null: on the API socket only. */
  healthAddress: tcpAddress.nullable().default(null),
})

export const configSchema = fields.superRefine((config, context) => {
  const message = problemOfSettings(config)
  if (message !== null)
    context.addIssue({
      code: 'custom',
      path: ['datastore', 'type'],
      input: config.datastore.type,
      message,
    })
})

export type Config = z.infer<typeof configSchema>
