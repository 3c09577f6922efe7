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
      /** Prefix length of its slots. Absent: entered by a version that did not say; the first daemon adds it. */
      blockSize: z.number().int().optional(),
      state: z.enum(['open', 'closed']),
      /** Of a closed pool: no pod holds an address of it, so nodes give up theirs on the overlay, replaced or not. */
      emptied: z.boolean().optional(),
      /** Of a closed pool: its document goes, and nobody can take the deletion back. */
      leaving: z.boolean().optional(),
    }),
  ),
  /**
   * Rule 16: set by whoever sees that the store went back to an older state, taken away once it has stood for
   * `allowanceMs` (the longest of any node) plus margin. It stands in this key because every claim reads it.
   */
  restored: z.object({ id: z.string().min(1), allowanceMs: z.number().int().nonnegative() }).nullable(),
})

export type AddressSpaceRecord = z.infer<typeof addressSpaceRecord>
