/**
 * address-space: the CIDRs of all pools in one key, so that overlapping pools cannot both be in it. A pool is
 * entered here by compare-and-swap before it is used, closed here first, and leaves when a later list shows no
 * part of it.
 */
import { z } from 'zod'

export const addressSpaceRecord = z.object({
  v: z.literal(1),
  pools: z.array(
    z.object({
      uid: z.string().min(1),
      name: z.string().min(1),
      cidr: z.string(),
      state: z.enum(['open', 'closed']),
    }),
  ),
})

export type AddressSpaceRecord = z.infer<typeof addressSpaceRecord>
