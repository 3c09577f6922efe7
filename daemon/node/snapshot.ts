/**
 * What the store last said of the cluster, as text: for a daemon that starts while the store is away. One line that
 * says what follows, then JSON:
 *
 *   twill-cluster-snapshot <version> <crc32 of the JSON, 8 hex digits>
 *
 * Invariant: whole or nothing. What a checksum, a version or a single record speaks against is not used at all.
 */
import { crc32 } from 'node:zlib'
import { z } from 'zod'
import { PREFIX } from '../../datastore/keys.ts'
import { recordParser } from '../../datastore/record.ts'
import { type NodeRecord, nodeRecord } from '../../datastore/records/node.ts'
import type { SlotRecord } from '../../datastore/records/slot.ts'
import type { IPPool } from '../../datastore/resources/ippool.ts'
import { parsePool } from '../../ipam/pools.ts'
import { parseSlot } from '../../ipam/slot-index.ts'
import { messageOf, TwillError } from '../../lib/errors.ts'

/** What routes and rules are made of. */
export interface KnownCluster {
  readonly pools: readonly IPPool[]
  readonly nodes: readonly NodeRecord[]
  /** By key relative to the store's prefix. */
  readonly slots: ReadonlyMap<string, SlotRecord>
}

/** Whose snapshot it is: another one is no use to this daemon. */
export interface SnapshotOwner {
  readonly clusterUid: string
  readonly nodeUid: string
  /** After a reboot nothing is left that old facts could keep going. */
  readonly boot: string
}

export interface ClusterSnapshot extends KnownCluster {
  readonly owner: SnapshotOwner
  /** Epoch milliseconds; for people. */
  readonly savedAt: number
}

const MAGIC = 'twill-cluster-snapshot'
export const SNAPSHOT_VERSION = 1

const document = z.object({
  owner: z.object({ clusterUid: z.string(), nodeUid: z.string(), boot: z.string() }),
  savedAt: z.number(),
  pools: z.array(z.unknown()),
  nodes: z.array(z.unknown()),
  slots: z.record(z.string(), z.unknown()),
})

const parseNode = recordParser(nodeRecord)

export function encodeSnapshot({ owner, savedAt, pools, nodes, slots }: ClusterSnapshot): string {
  const body = JSON.stringify({ owner, savedAt, pools, nodes, slots: Object.fromEntries(slots) })
  return `${MAGIC} ${SNAPSHOT_VERSION} ${checksum(body)}\n${body}`
}

/** @throws document.invalid {problem: 'newer' | 'damaged'} */
export function decodeSnapshot(text: string): ClusterSnapshot {
  const end = text.indexOf('\n')
  const body = text.slice(end + 1)
  const [magic, version, sum] = text.slice(0, Math.max(0, end)).split(' ')
  if (magic !== MAGIC || !/^\d+$/.test(version ?? '')) throw refused('damaged', 'it does not begin as one')
  if (Number(version) > SNAPSHOT_VERSION)
    throw refused('newer', `format version ${version}, this build knows ${SNAPSHOT_VERSION}`)
  if (sum !== checksum(body)) throw refused('damaged', 'checksum does not match')
  try {
    const { owner, savedAt, pools, nodes, slots } = document.parse(JSON.parse(body))
    return {
      owner,
      savedAt,
      pools: pools.map(each => parsePool(JSON.stringify(each), `${PREFIX.resources}ippools/`)),
      nodes: nodes.map(each => parseNode(JSON.stringify(each), PREFIX.nodes)),
      slots: new Map(
        Object.entries(slots).map(([key, each]) => [key, parseSlot(JSON.stringify(each), key)] as const),
      ),
    }
  } catch (error) {
    throw refused('damaged', messageOf(error))
  }
}

const checksum = (text: string) => crc32(text).toString(16).padStart(8, '0')

function refused(problem: 'newer' | 'damaged', why: string): TwillError {
  return new TwillError('document.invalid', `snapshot of the cluster is ${problem}: ${why}`, { problem })
}
