/**
 * slots/<pool uid>/<base>-<prefix>: who owns which part of a slot (ADDRESSES.md, Records and rules 1 and 2).
 * The parts cover the slot without overlap, in order of address. Never deleted, the counter never reset.
 */
import { z } from 'zod'

export const fence = z.object({
  /** Random: a daemon counts the time for which it saw this one id. */
  id: z.string().min(1),
  /** The owner's offlineAllowance. */
  allowanceMs: z.number().int().nonnegative(),
})

export const part = z.object({
  cidr: z.string(),
  /** Node UID; null: free. */
  owner: z.string().nullable(),
  /** Of the slot's counter when the part last changed owner. */
  generation: z.number().int().positive(),
  /** Id of the claim or request that yielded the part: journaled before it was sent (rule 3). */
  claim: z.string().nullable(),
  fence: fence.nullable(),
  /** Address → seconds of cool-down left when the part was given (rule 5). */
  cooling: z.record(z.string(), z.number().nonnegative()),
})

/**
 * A wish for addresses that other nodes own, answered through this same record: an owner who can gives a part
 * that bears the request's id as its claim and drops the request; one who cannot enters himself in `refusals`.
 */
export const request = z.object({
  id: z.string().min(1),
  /** UID of the node that asks. */
  owner: z.string().min(1),
  /** What is asked for, down to one address; null: any piece. */
  cidr: z.string().nullable(),
  /** Nothing that still cools. A daemon that does not know this gives, and may write the record without it. */
  fresh: z.boolean().optional(),
  refusals: z.array(z.object({ owner: z.string().min(1), reason: z.string() })),
})

export const slotRecord = z.object({
  v: z.literal(1),
  generation: z.number().int().positive(),
  parts: z.array(part).min(1),
  requests: z.array(request),
})

export type Fence = z.infer<typeof fence>
export type Part = z.infer<typeof part>
export type SlotRecord = z.infer<typeof slotRecord>
