/**
 * Permanent neighbour entries and FDB entries on our own devices. Entries that the kernel learned by itself
 * (not permanent) are its own affair, unless they stand where one of ours must.
 */
import type { FdbEntry, Neighbour } from '../../kernel/kernel.ts'
import type { DesiredFdbEntry, DesiredNeighbour } from '../../routing/state.ts'
import type { DesiredState } from '../desired/state.ts'
import type { LinkPlan } from './links.ts'
import type { Change, Observed } from './observed.ts'

export const neighbourKey = ({ device, address }: Pick<Neighbour, 'device' | 'address'>) =>
  `${device} ${address}`
export const fdbKey = ({ device, mac }: Pick<FdbEntry, 'device' | 'mac'>) => `${device} ${mac}`

export function planNeighbours(
  desired: DesiredState,
  observed: Observed,
  devices: LinkPlan,
  ours: ReadonlySet<string>,
): Change[] {
  const seen = observed.neighbours.filter(
    ({ device }) => !devices.fresh.has(device) && !devices.flushed.has(device),
  )
  const byKey = new Map(seen.map(entry => [neighbourKey(entry), entry]))
  const keys = new Set(desired.neighbours.map(neighbourKey))
  const unwanted = seen.filter(
    entry => desired.complete && entry.permanent && ours.has(entry.device) && !keys.has(neighbourKey(entry)),
  )
  return [
    ...desired.neighbours
      .filter(({ device }) => devices.present.has(device))
      .flatMap(want => mendNeighbour(want, byKey.get(neighbourKey(want)))),
    ...unwanted.map(removeNeighbour),
  ]
}

function mendNeighbour(want: DesiredNeighbour, have: Neighbour | undefined): Change[] {
  if (have?.permanent && have.mac === want.mac) return []
  const reason = have === undefined ? 'missing' : 'different'
  return [
    { kind: 'neighbour', key: neighbourKey(want), reason, step: { type: 'neighbour.replace', ...want } },
  ]
}

function removeNeighbour(entry: Neighbour): Change {
  const { device, family, address } = entry
  return {
    kind: 'neighbour',
    key: neighbourKey(entry),
    reason: 'unwanted',
    step: { type: 'neighbour.delete', device, family, address },
  }
}

export function planFdb(
  desired: DesiredState,
  observed: Observed,
  devices: LinkPlan,
  ours: ReadonlySet<string>,
): Change[] {
  const seen = observed.fdb.filter(({ device }) => !devices.fresh.has(device))
  const wanted = desired.fdb.filter(({ device }) => devices.present.has(device))
  const pairs = new Set(wanted.map(({ device, mac, dst }) => `${device} ${mac} ${dst}`))
  const unwanted = seen.filter(
    ({ device, mac, dst }) => desired.complete && ours.has(device) && !pairs.has(`${device} ${mac} ${dst}`),
  )
  return [...wanted.flatMap(want => mendFdb(want, seen)), ...unwanted.flatMap(removeFdb)]
}

function mendFdb(want: DesiredFdbEntry, seen: readonly FdbEntry[]): Change[] {
  const sameMac = seen.filter(entry => fdbKey(entry) === fdbKey(want))
  if (sameMac.some(({ dst, permanent }) => permanent && dst === want.dst)) return []
  const reason = sameMac.length === 0 ? 'missing' : 'different'
  return [{ kind: 'fdb', key: fdbKey(want), reason, step: { type: 'fdb.replace', ...want } }]
}

/** An entry without destination is the kernel's own. */
function removeFdb(entry: FdbEntry): Change[] {
  const { device, mac, dst } = entry
  if (dst === null) return []
  const key = fdbKey(entry)
  return [{ kind: 'fdb', key, reason: 'unwanted', step: { type: 'fdb.delete', device, mac, dst } }]
}
