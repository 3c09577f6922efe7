/**
 * What stands in the journal, and the state that a replay of it yields. An attachment goes
 * attach (intent, before kernel work) → attached → detach → gone; a restart finishes or undoes the rest. A lease has no
 * kernel part: it stands from the one record to the other.
 */
import { z } from 'zod'
import { type IpamJournalRecord, ipamJournalRecord } from '../../ipam/journal-records.ts'

const family = z.union([z.literal(4), z.literal(6)])

const heldAddress = z.object({
  family,
  address: z.string(),
  poolUid: z.string(),
  slot: z.string(),
  generation: z.number().int(),
})

/** Of two of one family the later replaces the earlier. */
const tunnelAddress = heldAddress.extend({
  /** Id of its holder, where that is not the usual one of its family. */
  holder: z.string().optional(),
})

/** What an attachment of ours and one of another plugin's have in common. */
const held = {
  network: z.string(),
  containerId: z.string(),
  ifName: z.string(),
  netns: z.object({ path: z.string(), dev: z.string().nullable(), ino: z.string().nullable() }),
  netnsCookie: z.string().nullable(),
  addresses: z.array(heldAddress),
  pod: z.object({ namespace: z.string(), name: z.string(), uid: z.string() }).nullable(),
  /** Boot it was made in: boot_id and the cookie of the daemon's network namespace. */
  boot: z.string(),
  /** CLOCK_BOOTTIME at the intent: a spooled DEL touches only what was begun before it. */
  begunBoottimeMs: z.number(),
  since: z.number().int(),
}

export const attachment = z.object({
  /** attachmentId(network, containerId, ifName). */
  id: z.string(),
  ...held,
  hostInterface: z.string(),
  podMac: z.string().nullable(),
  mtu: z.number().int(),
  state: z.enum(['attaching', 'attached', 'detaching']),
})

export type Attachment = z.infer<typeof attachment>

/**
 * Addresses given to an interface that another plugin makes (twill-ipam): held while the record stands. The cookie is
 * null when the journal had lost it and the ledger had it.
 */
export const lease = z.object({
  /** leaseId(network, containerId, ifName). */
  id: z.string(),
  ...held,
})

export type Lease = z.infer<typeof lease>

export const journalRecord = z.discriminatedUnion('t', [
  z.object({ t: z.literal('node'), uid: z.string(), name: z.string(), clusterUid: z.string() }),
  z.object({ t: z.literal('attach'), attachment }),
  z.object({ t: z.literal('attached'), id: z.string(), podMac: z.string(), netnsCookie: z.string() }),
  z.object({ t: z.literal('detach'), id: z.string() }),
  z.object({ t: z.literal('gone'), id: z.string() }),
  z.object({ t: z.literal('lease'), lease }),
  z.object({ t: z.literal('lease-ended'), id: z.string() }),
  z.object({ t: z.literal('tunnel'), addresses: z.array(tunnelAddress), since: z.number().int() }),
  z.object({ t: z.literal('ipam'), record: ipamJournalRecord }),
])

export type JournalRecord = z.infer<typeof journalRecord>

export interface NodeIdentity {
  readonly uid: string
  readonly name: string
  readonly clusterUid: string
}

export interface JournalState {
  readonly node: NodeIdentity | null
  readonly attachments: ReadonlyMap<string, Attachment>
  readonly leases: ReadonlyMap<string, Lease>
  readonly tunnel: {
    readonly addresses: z.infer<typeof tunnelAddress>[]
    readonly since: number
  } | null
  readonly ipam: readonly IpamJournalRecord[]
  /** Records that no known shape fits, with why. */
  readonly refused: readonly string[]
}

/** Pure. A record of unknown shape (a newer version's) is reported, and what it said is not guessed. */
export function replayJournal(records: readonly unknown[]): JournalState {
  const attachments = new Map<string, Attachment>()
  const leases = new Map<string, Lease>()
  const ipam: IpamJournalRecord[] = []
  const refused: string[] = []
  let node: NodeIdentity | null = null
  let tunnel: JournalState['tunnel'] = null
  for (const raw of records) {
    const parsed = journalRecord.safeParse(raw)
    if (!parsed.success) {
      refused.push(
        `${JSON.stringify(raw).slice(0, 120)}: ${parsed.error.issues[0]?.message ?? 'unknown shape'}`,
      )
      continue
    }
    const record = parsed.data
    if (record.t === 'node') {
      // A new UID inherits nothing of what another one owned (ADDRESSES.md rule 14).
      if (node !== null && node.uid !== record.uid) {
        ipam.length = 0
        tunnel = null
      }
      node = { uid: record.uid, name: record.name, clusterUid: record.clusterUid }
    } else if (record.t === 'tunnel') tunnel = { addresses: record.addresses, since: record.since }
    else if (record.t === 'ipam') ipam.push(record.record)
    else if (record.t === 'lease' || record.t === 'lease-ended') replayLease(leases, record)
    else replayAttachment(attachments, record)
  }
  return { node, attachments, leases, tunnel, ipam, refused }
}

type LeaseRecord = Extract<JournalRecord, { t: 'lease' | 'lease-ended' }>

/** Takes one record over into the map. */
export function replayLease(leases: Map<string, Lease>, record: LeaseRecord): void {
  if (record.t === 'lease') leases.set(record.lease.id, record.lease)
  else leases.delete(record.id)
}

type AttachmentRecord = Extract<JournalRecord, { t: 'attach' | 'attached' | 'detach' | 'gone' }>

/** Takes one record over into the map. */
export function replayAttachment(attachments: Map<string, Attachment>, record: AttachmentRecord): void {
  if (record.t === 'attach') {
    attachments.set(record.attachment.id, record.attachment)
    return
  }
  const known = attachments.get(record.id)
  if (known === undefined) return
  if (record.t === 'gone') attachments.delete(record.id)
  else if (record.t === 'detach') attachments.set(record.id, { ...known, state: 'detaching' })
  else
    attachments.set(record.id, {
      ...known,
      state: 'attached',
      podMac: record.podMac,
      netnsCookie: record.netnsCookie,
    })
}
