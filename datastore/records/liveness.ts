/** liveness/<node uid>: who stands behind a UID, that it still moves, and the mark of its removal. Watched by nobody. */
import { z } from 'zod'

export const livenessRecord = z.object({
  v: z.literal(1),
  uid: z.string().min(1),
  name: z.string().min(1),
  /** Product UUID and MACs; not machine-id, which clones share. */
  hardware: z.string().min(1),
  /** Raised by every heartbeat. Observers judge movement by their own clock. */
  heartbeat: z.number().int().nonnegative(),
  /** Interval at which the counter moves, for observers. */
  heartbeatMs: z.number().int().positive(),
  allowanceMs: z.number().int().nonnegative(),
  removed: z
    .object({
      /** Fence id that the parts of this UID get. */
      fence: z.string().min(1),
      /** Who removed it, for people. */
      by: z.string(),
      /** What ends the removal: the owner's own return, or only the re-creation of its Node object (rule 13). */
      endsWith: z.enum(['return', 'recreation']),
    })
    .nullable(),
})

export type LivenessRecord = z.infer<typeof livenessRecord>
