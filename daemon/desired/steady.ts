/**
 * Observing the kernel takes milliseconds, and attachments come and go meanwhile: what was observed of one that
 * changed in between says nothing. Such attachments count as busy for this pass.
 */
import { isDeepStrictEqual } from 'node:util'
import type { AttachmentFacts, Facts } from './facts.ts'

/** The facts after the observation, with every attachment busy that was not the same before it. Pure. */
export function steady(before: Facts, after: Facts): Facts {
  const earlier = new Map(before.attachments.map(attachment => [attachment.id, attachment]))
  const later = new Set(after.attachments.map(({ id }) => id))
  const kept = after.attachments.map(each =>
    isDeepStrictEqual(each, earlier.get(each.id)) ? each : busy(each),
  )
  const gone = before.attachments.filter(({ id }) => !later.has(id))
  return { ...after, attachments: [...kept, ...gone.map(busy)] }
}

const busy = (attachment: AttachmentFacts): AttachmentFacts => ({ ...attachment, busy: true })
