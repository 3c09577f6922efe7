/**
 * Requests between nodes as pure steps of a slot's record: a node that needs addresses enters one, an owner answers
 * it by a part that bears its id as claim, or by a refusal; the node that asked takes it out when it has waited
 * enough. Like those of slot.ts they yield the next record, or null when the record does not allow the step.
 */
import type { SlotRecord } from '../datastore/records/slot.ts'
import { covers, parseCidr } from '../lib/address.ts'
import { claimedPart, type Gift, givePart, type Step } from './slot.ts'

export type SlotRequest = SlotRecord['requests'][number]

/** null: it is there already, or nobody else owns anything of what it asks for. */
export function enterRequest(record: SlotRecord, request: Omit<SlotRequest, 'refusals'>): Step {
  if (record.requests.some(({ id }) => id === request.id)) return null
  if (ownersAsked(record, request).length === 0) return null
  return { ...record, requests: [...record.requests, { ...request, refusals: [] }] }
}

/** Who else owns some of what is asked for. */
export function ownersAsked(
  record: SlotRecord,
  { owner, cidr }: Pick<SlotRequest, 'owner' | 'cidr'>,
): string[] {
  const wanted = cidr === null ? null : parseCidr(cidr)
  const asked = record.parts
    .filter(part => wanted === null || covers(parseCidr(part.cidr), wanted))
    .map(part => part.owner)
    .filter(other => other !== null && other !== owner)
  return [...new Set(asked as string[])]
}

/** Gives `cidr` to whoever asked; the request goes. null also when it stands no longer. */
export function answerRequest(record: SlotRecord, cidr: string, id: string, gift: Omit<Gift, 'to'>): Step {
  const request = record.requests.find(known => known.id === id)
  if (request === undefined) return null
  const given = givePart(record, cidr, { ...gift, to: { owner: request.owner, claim: id } })
  return given === null ? null : { ...given, requests: without(given, known => known.id === id) }
}

export function refuseRequest(record: SlotRecord, id: string, owner: string, reason: string): Step {
  const request = record.requests.find(known => known.id === id)
  if (request === undefined || request.refusals.some(refusal => refusal.owner === owner)) return null
  const refused = { ...request, refusals: [...request.refusals, { owner, reason }] }
  return { ...record, requests: record.requests.map(known => (known === request ? refused : known)) }
}

/** null when none of the ids stands in the record. */
export function dropRequests(record: SlotRecord, ids: ReadonlySet<string>): Step {
  const requests = without(record, ({ id }) => ids.has(id))
  return requests.length === record.requests.length ? null : { ...record, requests }
}

/** Without what this node asked for, in this life or an earlier one. */
export function withoutRequestsOf(record: SlotRecord, owner: string): SlotRecord {
  return { ...record, requests: without(record, request => request.owner === owner) }
}

const without = (record: SlotRecord, gone: (request: SlotRequest) => boolean): SlotRequest[] =>
  record.requests.filter(request => !gone(request))

/** Nothing more is to be waited for: given, taken out by somebody, or refused by all who could give. */
export function isAnswered(record: SlotRecord, { id, owner }: Pick<SlotRequest, 'id' | 'owner'>): boolean {
  if (claimedPart(record, { owner, claim: id }) !== null) return true
  const request = record.requests.find(known => known.id === id)
  return request === undefined || silentOwners(record, request).length === 0
}

/** Who could give and has not answered. */
export function silentOwners(record: SlotRecord, request: SlotRequest): string[] {
  const refused = new Set(request.refusals.map(refusal => refusal.owner))
  return ownersAsked(record, request).filter(owner => !refused.has(owner))
}
