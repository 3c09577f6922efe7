/** IPPool: a range of addresses for pods, and how packets to them travel. */
import { z } from 'zod'
import { type Cidr, parseCidr } from '../../lib/address.ts'
import { poolCidr } from './cidr.ts'
import { API_VERSION, metadata } from './metadata.ts'

/** Bounds of blockSize per family (ADDRESSES.md, Records). */
export const BLOCK_SIZE = {
  4: { min: 20, max: 32, default: 26 },
  6: { min: 116, max: 128, default: 122 },
} as const

function parsed(text: string): Cidr | null {
  try {
    return parseCidr(text)
  } catch {
    return null
  }
}

export const ipPoolSpec = z
  .strictObject({
    cidr: poolCidr.meta({ description: 'Range the pool hands out, IPv4 or IPv6. Immutable.' }),
    blockSize: z.number().int().optional().meta({
      description:
        'Prefix length of a slot: /20 to /32 (default /26), for IPv6 /116 to /128 (default /122). Immutable.',
    }),
    encapsulation: z
      .enum(['Always', 'CrossSubnet', 'Never'])
      .default('Always')
      .meta({ description: 'VXLAN to every node, only to nodes behind a router, or never.' }),
    routes: z
      .enum(['Datastore', 'BGP'])
      .default('Datastore')
      .meta({ description: 'Who tells other nodes the way to a slot.' }),
    natOutgoing: z
      .boolean()
      .default(true)
      .meta({ description: 'Masquerade what leaves the pools, other than to nodes.' }),
    disabled: z
      .boolean()
      .default(false)
      .meta({ description: 'Hand out no new addresses; pods that run keep theirs.' }),
  })
  .superRefine((spec, context) => {
    const cidr = parsed(spec.cidr)
    if (cidr === null) return
    const bounds = BLOCK_SIZE[cidr.family]
    const size = spec.blockSize ?? bounds.default
    if (size < bounds.min || size > bounds.max)
      context.addIssue({
        code: 'custom',
        path: ['blockSize'],
        input: spec.blockSize,
        message: `expected /${bounds.min} to /${bounds.max} for IPv${cidr.family}`,
      })
    else if (size < cidr.prefix)
      context.addIssue({
        code: 'custom',
        path: ['blockSize'],
        input: spec.blockSize,
        message: `expected /${cidr.prefix} or longer: a slot is no larger than its pool`,
      })
  })

export const ipPool = z.strictObject({
  apiVersion: z.literal(API_VERSION),
  kind: z.literal('IPPool'),
  metadata,
  spec: ipPoolSpec,
})

export type IPPool = z.infer<typeof ipPool>

/** Prefix length of the pool's slots: its blockSize, else the default of its family. */
export function slotPrefixOf(pool: IPPool): number {
  return pool.spec.blockSize ?? BLOCK_SIZE[parseCidr(pool.spec.cidr).family].default
}
