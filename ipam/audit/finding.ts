/**
 * What an audit says: one disagreement between two things that ought to agree. What the kinds mean and who mends them is
 * in docs/audit.md; their names are for programs and are not changed.
 */

export type FindingKind =
  // Judged from the datastore alone, by whoever reads it.
  | 'record.unreadable'
  | 'pool.not-entered'
  | 'pool.changed'
  | 'pool.without-document'
  | 'slot.damaged'
  | 'slot.outside-pool'
  | 'slot.of-no-pool'
  | 'part.of-nobody'
  | 'node.not-routed'
  | 'node.removed-without-parts'
  | 'ledger.of-nobody'
  | 'ledger.foreign-owner'
  | 'ledger.old-generation'
  | 'ledger.outside-part'
  | 'address.held-twice'
  // Judged by a node's own daemon.
  | 'attachment.dead'
  | 'attachment.namespace-gone'
  | 'attachment.interface-wrong'
  | 'attachment.link-missing'
  | 'attachment.unknown-to-runtime'
  | 'attachment.not-in-ledger'
  | 'lease.dead'
  | 'holder.only-in-ledger'
  | 'sandbox.not-attached'
  | 'kernel.link-of-nobody'
  | 'kernel.route-missing'
  | 'kernel.route-of-nobody'
  | 'kernel.neighbour-wrong'

export interface Finding {
  readonly kind: FindingKind
  /** With the kind: the same disagreement at the next look. */
  readonly object: string
  readonly message: string
  /** Epoch milliseconds, from the records or since it was first seen; null: nobody knows. */
  readonly since: number | null
  /** What would mend it: a sentence. */
  readonly mend: string
}

export const findingId = ({ kind, object }: Pick<Finding, 'kind' | 'object'>): string => `${kind} ${object}`
