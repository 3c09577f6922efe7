/** Executes the changes of a plan that may be executed now, and says what became of each. Decides nothing else. */
import type { Kernel, KernelStep } from '../../kernel/kernel.ts'
import type { Change } from '../plan/observed.ts'
import type { Pacing } from './pacing.ts'

export interface Applied {
  readonly done: readonly Change[]
  /** Each object once, by what failed first: what follows fails for lack of it, and says nothing. */
  readonly failed: readonly { readonly change: Change; readonly error: Error }[]
  /** Left out for now: a failure or a dispute is being waited out. */
  readonly waiting: readonly { readonly change: Change; readonly waitMs: number }[]
}

/** Names the object of a change among all kinds: what pacing and repairs go by. */
export const objectOf = ({ kind, key }: Pick<Change, 'kind' | 'key'>): string => `${kind} ${key}`

export async function applyChanges(
  changes: readonly Change[],
  modules: { kernel: Kernel; pacing: Pacing },
): Promise<Applied> {
  const { pacing, kernel } = modules
  const paced = changes.map(change => ({ change, waitMs: pacing.waitMs(objectOf(change)) }))
  const stalled = stalledDevices(paced)
  const isNow = ({ change, waitMs }: { change: Change; waitMs: number }) =>
    waitMs === 0 && !stalled.has(deviceOf(change.step) ?? '')
  const now = paced.filter(isNow).map(({ change }) => change)
  const waiting = paced.filter(each => !isNow(each))
  if (now.length === 0) return { done: [], failed: [], waiting }
  const outcomes = await kernel.apply(now.map(({ step }) => step))
  const failed = now.flatMap((change, index) => {
    const error = outcomes[index]?.error
    return error ? [{ change, error }] : []
  })
  const done = now.filter((_, index) => !outcomes[index]?.error)
  return { done, failed: firstOfEach(failed), waiting }
}

function firstOfEach<T extends { readonly change: Change }>(failed: readonly T[]): T[] {
  const objects = new Set<string>()
  return failed.filter(({ change }) => {
    const object = objectOf(change)
    return !objects.has(object) && objects.add(object)
  })
}

/** What stands on a device waits with the device. */
function stalledDevices(paced: readonly { change: Change; waitMs: number }[]): ReadonlySet<string> {
  return new Set(
    paced.flatMap(({ change, waitMs }) => (change.kind === 'link' && waitMs > 0 ? [change.key] : [])),
  )
}

function deviceOf(step: KernelStep): string | undefined {
  if (step.type === 'sysctl.set') return undefined
  if (step.type === 'vxlan.add') return step.name
  return 'route' in step ? step.route.device : step.device
}
