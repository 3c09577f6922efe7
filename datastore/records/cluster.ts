/** cluster: written once by the first daemon. A node bound to one UID works with no other. */
import { z } from 'zod'

export const clusterRecord = z.object({ v: z.literal(1), uid: z.string().min(1) })
