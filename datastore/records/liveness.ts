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
  removed: z.object({ fence: z.string(), by: z.string() }).nullable(),
})

export type LivenessRecord = z.infer<typeof livenessRecord>
