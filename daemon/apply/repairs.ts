/**
 * Tells repairs from progress. A change is a repair when the very same object was desired and in place after an
 * earlier pass, or when it takes away what is ours by its marks but was never desired: somebody else did that.
 */
import type { DesiredState } from '../desired/state.ts'
import { addressKey } from '../plan/addresses.ts'
import { fdbKey, neighbourKey } from '../plan/neighbours.ts'
import type { Change, Kind } from '../plan/observed.ts'
import { routeKey } from '../plan/routes.ts'
import { type Applied, objectOf } from './apply.ts'

/** Object → what it looked like when it was last seen or put in place. */
type Established = ReadonlyMap<string, string>

export class Repairs {
  #established: Established | null = null

  /** Those of the changes that are repairs. */
  among(changes: readonly Change[], desired: DesiredState): ReadonlySet<Change> {
    const established = this.#established
    if (established === null || changes.length === 0) return new Set()
    const now = appearances(desired)
    const isRepair = (change: Change): boolean => {
      const was = established.get(objectOf(change))
      if (change.reason === 'unwanted') return was === undefined
      return was !== undefined && was === now.get(objectOf(change))
    }
    return new Set(changes.filter(isRepair))
  }

  /**
   * After a pass over these kinds: everything desired of them that did not fail was in place, but for switches that
   * became desired after the kernel was read (they are not among `read`, by path) and were not set.
   */
  passed(
    kinds: ReadonlySet<Kind>,
    desired: DesiredState,
    { done, failed }: Applied,
    read: ReadonlyMap<string, unknown>,
  ): void {
    const next = new Map([...(this.#established ?? [])].filter(([object]) => !kinds.has(kindOf(object))))
    for (const [object, look] of appearances(desired)) if (kinds.has(kindOf(object))) next.set(object, look)
    const set = new Set(done.map(objectOf))
    for (const { path } of kinds.has('sysctl') ? desired.sysctls : []) {
      const object = objectOf({ kind: 'sysctl', key: path })
      if (!read.has(path) && !set.has(object)) next.delete(object)
    }
    for (const { change } of failed) next.delete(objectOf(change))
    this.#established = next
  }
}

const kindOf = (object: string): Kind => object.slice(0, object.indexOf(' ')) as Kind

function appearances(desired: DesiredState): Established {
  const named: [Kind, string, object][] = [
    ...desired.links.map(link => entry('link', link.name, link)),
    ...desired.hostEnds.map(end => entry('link', end.device, end)),
    ...desired.addresses.map(address => entry('address', addressKey(address), address)),
    ...desired.routes.map(route => entry('route', routeKey(route), route)),
    ...desired.neighbours.map(neighbour => entry('neighbour', neighbourKey(neighbour), neighbour)),
    ...desired.fdb.map(fdb => entry('fdb', fdbKey(fdb), fdb)),
    ...desired.sysctls.map(sysctl => entry('sysctl', sysctl.path, sysctl)),
  ]
  return new Map(named.map(([kind, key, look]) => [objectOf({ kind, key }), textOf(look)]))
}

/** Most of what is desired are the same objects in the next pass. */
const texts = new WeakMap<object, string>()

function textOf(look: object): string {
  const known = texts.get(look)
  if (known !== undefined) return known
  const text = JSON.stringify(look)
  texts.set(look, text)
  return text
}

const entry = (kind: Kind, key: string, look: object): [Kind, string, object] => [kind, key, look]
