/** Thousands of records may be wrong in the same way: of each type of condition the first few are shown, and how many more there are. */
import type { Status } from './api/types.ts'

const SHOWN_MAX = 10

export function capped(conditions: Status['conditions']): Status['conditions'] {
  const counts = new Map<string, number>()
  const shown = conditions.filter(({ type }) => {
    const count = (counts.get(type) ?? 0) + 1
    counts.set(type, count)
    return count <= SHOWN_MAX
  })
  const left = [...counts].filter(([, count]) => count > SHOWN_MAX)
  return [...shown, ...left.map(([type, count]) => ({ type, message: `and ${count - SHOWN_MAX} more` }))]
}
