/** Status conditions as Kubernetes has them (metav1.Condition). */
export interface Condition {
  readonly type: string
  readonly status: 'True' | 'False' | 'Unknown'
  readonly reason: string
  readonly message: string
  readonly observedGeneration?: number
  readonly lastTransitionTime: string
}

export type Wanted = Pick<Condition, 'type' | 'status' | 'reason' | 'message'>

const MESSAGE_MAX = 32_768

/**
 * What should stand there; null: it does. Conditions of others stay, of ours those that are no longer wanted go. The time
 * is that of the last change of `status`; the default in the definition, which bears no generation, has none.
 * @param own types that are ours
 */
export function mergedConditions(
  present: readonly Condition[],
  wanted: readonly Wanted[],
  {
    own,
    generation,
    now,
  }: { readonly own: readonly string[]; readonly generation: number; readonly now: string },
): Condition[] | null {
  const kept = present.filter(({ type }) => !own.includes(type))
  const ours = wanted.map((each): Condition => {
    const before = present.find(({ type }) => type === each.type)
    const isSame = before?.status === each.status && before.observedGeneration !== undefined
    const lastTransitionTime = isSame ? before.lastTransitionTime : now
    const message = each.message.slice(0, MESSAGE_MAX)
    return { ...each, message, observedGeneration: generation, lastTransitionTime }
  })
  const merged = [...kept, ...ours]
  const isThere = (each: Condition) => present.some(other => textOf(other) === textOf(each))
  return merged.length === present.length && merged.every(isThere) ? null : merged
}

const textOf = ({ type, status, reason, message, observedGeneration }: Condition): string =>
  JSON.stringify([type, status, reason, message, observedGeneration])
