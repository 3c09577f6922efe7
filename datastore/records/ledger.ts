/**
 * ledgers/<pool uid>/<slot>/<node uid>: who holds which address of a slot, written by its owner alone, in group
 * commits. Entries stand under the generation of the part they were given from; those of another generation
 * count for nothing.
 */
import { z } from 'zod'

export const ledgerEntry = z.object({
  /** Attachment id, or 'tunnel'. */
  holder: z.string().min(1),
  kind: z.enum(['pod', 'tunnel']),
  network: z.string(),
  containerId: z.string(),
  ifName: z.string(),
  pod: z.object({ namespace: z.string(), name: z.string(), uid: z.string() }).nullable(),
  /** Epoch milliseconds; for people, never for decisions. */
  since: z.number().int(),
  /** Boot that the holder lives in: entries of an earlier boot are dead pods (rule 17). */
  boot: z.string(),
})

export const ledgerRecord = z.object({
  v: z.literal(1),
  owner: z.string().min(1),
  /** generation → address → entry */
  generations: z.record(z.string(), z.record(z.string(), ledgerEntry)),
})

export type LedgerEntry = z.infer<typeof ledgerEntry>
export type LedgerRecord = z.infer<typeof ledgerRecord>
