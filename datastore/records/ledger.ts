/**
 * ledgers/<pool uid>/<slot>/<node uid>: who holds which address of a slot, written by its owner alone, in group
 * commits. Entries stand under the generation of the part they were given from; those of another generation
 * count for nothing.
 */
import { z } from 'zod'

export const ledgerEntry = z.object({
  /** Attachment id, or 'tunnel'. */
  holder: z.string().min(1),
  /** 'ipam': an attachment of another plugin's, through twill-ipam. */
  kind: z.enum(['pod', 'tunnel', 'ipam']),
  network: z.string(),
  containerId: z.string(),
  ifName: z.string(),
  pod: z.object({ namespace: z.string(), name: z.string(), uid: z.string() }).nullable(),
  /** Epoch milliseconds; for people, never for decisions. */
  since: z.number().int(),
  /** Boot that the holder lives in: entries of an earlier boot are dead pods (rule 17). */
  boot: z.string(),
})

/** A holder that has gone: who had the address before. Oldest first, bounded by the writer. */
export const pastHolder = z.object({
  address: z.string(),
  holder: z.string().min(1),
  pod: z.object({ namespace: z.string(), name: z.string(), uid: z.string() }).nullable(),
  /** Epoch milliseconds. */
  since: z.number().int(),
  until: z.number().int(),
})

export const ledgerRecord = z.object({
  v: z.literal(1),
  owner: z.string().min(1),
  /** generation → address → entry */
  generations: z.record(z.string(), z.record(z.string(), ledgerEntry)),
  recent: z.array(pastHolder),
})

export type LedgerEntry = z.infer<typeof ledgerEntry>
export type PastHolder = z.infer<typeof pastHolder>
export type LedgerRecord = z.infer<typeof ledgerRecord>
