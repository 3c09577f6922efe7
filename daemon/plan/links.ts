/**
 * Links: our VXLAN devices are made, mended and deleted; host ends of pods are mended, or reported for
 * re-attachment when gone.
 *
 * Trap: a VXLAN device's VNI, port and addresses cannot be changed on a living one, so it is deleted and made
 * again, and everything that stood on it must be planned as missing. A change of MAC flushes the device's
 * neighbour entries, permanent ones too (neighbour.c, neigh_changeaddr).
 */
import type { KernelStep, Link, VxlanAttributes } from '../../kernel/kernel.ts'
import {
  HOST_MAC,
  POD_ALIAS_PREFIX,
  POD_LINK_PREFIX,
  REAP_GROUP,
  VXLAN_ALIAS,
  VXLAN_LINK,
} from '../../kernel/ownership.ts'
import type { DesiredLink } from '../../routing/state.ts'
import type { DesiredState, HostEnd } from '../desired/state.ts'
import type { Change, Observed, Problem, Reason } from './observed.ts'

export interface LinkPlan {
  readonly changes: readonly Change[]
  readonly reattach: readonly string[]
  readonly problems: readonly Problem[]
  /** Devices that will be there once the changes are made; nothing can stand on any other. */
  readonly present: ReadonlySet<string>
  /** Devices made anew: whatever was observed on them is gone. */
  readonly fresh: ReadonlySet<string>
  /** Devices whose neighbour entries the changes flush. */
  readonly flushed: ReadonlySet<string>
}

export const isPodLink = ({ name, alias }: Link): boolean =>
  name.startsWith(POD_LINK_PREFIX) && (alias ?? '').startsWith(POD_ALIAS_PREFIX)

export const isVxlanLink = ({ name, kind, alias }: Link): boolean =>
  (name === VXLAN_LINK[4] || name === VXLAN_LINK[6]) && kind === 'vxlan' && alias === VXLAN_ALIAS

export function planLinks(desired: DesiredState, observed: Observed): LinkPlan {
  const byName = new Map(observed.links.map(link => [link.name, link]))
  const tunnels = desired.links.map(link => planTunnel(link, byName.get(link.name), desired.complete))
  const ends = desired.hostEnds.flatMap(end => mendHostEnd(end, byName.get(end.device)))
  const unwanted = desired.complete ? unwantedLinks(desired, observed) : []
  const changes = [...tunnels.flatMap(plan => plan.changes), ...ends, ...unwanted]
  const made = changes.flatMap(({ step }) => (step.type === 'vxlan.add' ? [step.name] : []))
  const gone = unwanted.map(({ key }) => key)
  const blocked = tunnels.flatMap(plan => plan.problems).map(({ key }) => key)
  return {
    changes,
    reattach: desired.hostEnds.filter(end => !byName.has(end.device)).map(end => end.attachmentId),
    problems: tunnels.flatMap(plan => plan.problems),
    present: new Set([...byName.keys(), ...made].filter(name => ![...gone, ...blocked].includes(name))),
    fresh: new Set(made),
    flushed: new Set(changes.flatMap(({ key, step }) => (changesMac(step) ? [key] : []))),
  }
}

const changesMac = (step: KernelStep): boolean => step.type === 'link.set' && step.mac !== undefined

type TunnelPlan = { changes: Change[]; problems: Problem[] }

function planTunnel(want: DesiredLink, link: Link | undefined, mayDelete: boolean): TunnelPlan {
  if (link === undefined) return { changes: create(want, 'missing'), problems: [] }
  if (!isVxlanLink(link) && !isSameDevice(want, link)) return foreign(link)
  if (sameVxlan(want.vxlan, link.vxlan)) return { changes: mend(want.name, want, link), problems: [] }
  if (!mayDelete) return { changes: [], problems: [] }
  const remove: Change = change(want.name, 'different', { type: 'link.delete', device: want.name })
  return { changes: [remove, ...create(want, 'different')], problems: [] }
}

/** Only its alias is not ours: somebody overwrote it. */
const isSameDevice = (want: DesiredLink, link: Link): boolean =>
  link.kind === 'vxlan' && sameVxlan(want.vxlan, link.vxlan)

function foreign({ name, kind, alias }: Link): TunnelPlan {
  const message = `device ${name} (kind ${kind ?? 'none'}, alias ${alias ?? 'none'}) is not Twill's: rename or delete it`
  return { changes: [], problems: [{ kind: 'link', key: name, message }] }
}

function create({ name, mac, mtu, alias, vxlan }: DesiredLink, reason: Reason): Change[] {
  return [
    change(name, reason, { type: 'vxlan.add', name, mac, mtu, alias, vxlan }),
    change(name, reason, { type: 'link.set', device: name, up: true }),
  ]
}

function sameVxlan(want: VxlanAttributes, have: VxlanAttributes | null): boolean {
  return (
    have !== null &&
    want.vni === have.vni &&
    want.port === have.port &&
    want.local === have.local &&
    want.underlay === have.underlay &&
    want.learning === have.learning
  )
}

function mendHostEnd({ device, alias, mtu }: HostEnd, link: Link | undefined): Change[] {
  return link === undefined ? [] : mend(device, { mac: HOST_MAC, mtu, alias }, link)
}

/** One link.set of exactly what differs. */
function mend(device: string, want: { mac: string; mtu: number; alias: string }, link: Link): Change[] {
  const differing = {
    ...(link.mac === want.mac ? {} : { mac: want.mac }),
    ...(link.mtu === want.mtu ? {} : { mtu: want.mtu }),
    ...(link.alias === want.alias ? {} : { alias: want.alias }),
    ...(link.group === REAP_GROUP ? { group: 0 } : {}),
    ...(link.up ? {} : { up: true }),
  }
  if (Object.keys(differing).length === 0) return []
  return [change(device, 'different', { type: 'link.set', device, ...differing })]
}

/** A link in REAP_GROUP is deleted by who put it there. */
function unwantedLinks({ links, hostEnds, held }: DesiredState, observed: Observed): Change[] {
  const wanted = new Set([...links.map(({ name }) => name), ...hostEnds.map(({ device }) => device)])
  return observed.links
    .filter(link => isVxlanLink(link) || (isPodLink(link) && link.group !== REAP_GROUP))
    .filter(({ name }) => !wanted.has(name) && !held.devices.has(name))
    .map(({ name }) => change(name, 'unwanted', { type: 'link.delete', device: name }))
}

const change = (key: string, reason: Reason, step: KernelStep): Change => ({
  kind: 'link',
  key,
  reason,
  step,
})
