/**
 * Forgets the flows of addresses that are no longer anybody's, so that who gets the address next inherits no
 * translation and no established state.
 *
 * A flow is ours when the address is source or destination of its original or its reply direction. The kernel
 * finds flows by their tuple only; by address it walks its whole hash table, which all namespaces share.
 * Told to delete what matches (CTA_FILTER in a deletion; seen on 6.18), it skips empty buckets: 0.2 ms a walk and 262,144 buckets, one walk
 * for each end of each direction. A dump locks every bucket: 13 ms, but one does for any number of addresses,
 * so whoever can collects addresses first.
 *
 * Trap: the kernel's filter is wrong about IPv6 (seen on 6.18): it deletes every flow *but* those of the address.
 * IPv6 is always dumped and sifted here.
 */
import type { Ip } from '../../lib/address.ts'
import { TwillError } from '../../lib/errors.ts'
import { forEachAttribute, readAttributes } from '../netlink/attributes.ts'
import { AF_INET } from '../netlink/constants.ts'
import { Datagram } from '../netlink/datagram.ts'
import { errnoName } from '../netlink/libc.ts'
import { failureOf, type NetlinkMessage, type NetlinkSocket } from '../netlink/socket.ts'
import {
  CTA_FILTER,
  CTA_FILTER_F_CTA_IP_DST,
  CTA_FILTER_F_CTA_IP_SRC,
  CTA_FILTER_ORIG_FLAGS,
  CTA_FILTER_REPLY_FLAGS,
  CTA_ID,
  CTA_IP_V4_DST,
  CTA_IP_V4_SRC,
  CTA_STATS_GLOBAL_ENTRIES,
  CTA_TUPLE_IP,
  CTA_TUPLE_ORIG,
  CTA_TUPLE_REPLY,
  CTA_ZONE,
  IPCTNL_MSG_CT_DELETE,
  IPCTNL_MSG_CT_GET,
  IPCTNL_MSG_CT_GET_STATS,
} from './constants.ts'

/** What identifies a flow to the kernel: its family, original tuple, id and zone, as they came. */
interface Flow {
  readonly family: number
  readonly tuple: Buffer
  readonly id: Buffer
  readonly zone: Buffer | null
}

/** With more addresses one dump is cheaper than four walks for each. */
const MANY_ADDRESSES = 16
const DELETIONS_PER_DATAGRAM = 200
const NLA_F_NESTED = 0x8000
const ENDS = [
  { attribute: CTA_IP_V4_SRC, flag: CTA_FILTER_F_CTA_IP_SRC },
  { attribute: CTA_IP_V4_DST, flag: CTA_FILTER_F_CTA_IP_DST },
] as const

/**
 * Deletes every flow of these addresses. Costs one small request when the namespace has no flows.
 * @param socket of protocol NETLINK_NETFILTER, in the namespace whose flows are meant
 * @returns by how many the namespace's flows became fewer, others' doings included
 * @throws TwillError kernel.failed
 */
export function flushConntrack(socket: NetlinkSocket, addresses: readonly Ip[]): number {
  if (addresses.length === 0) return 0
  const before = countFlows(socket)
  if (before === 0) return 0
  const filterable = addresses.length <= MANY_ADDRESSES && addresses.every(({ family }) => family === 4)
  if (!filterable || !deleteMatching(socket, addresses)) sift(socket, addresses)
  return Math.max(0, before - countFlows(socket))
}

/** Flows in this namespace, of both families. */
function countFlows(socket: NetlinkSocket): number {
  const request = header(new Datagram(64), IPCTNL_MSG_CT_GET_STATS, 0)
  const [outcome] = socket.executeAll('conntrack count', request)
  const reply = outcome?.replies[0]
  const entries =
    reply && readAttributes(reply.bytes, reply.start + 4, reply.end).get(CTA_STATS_GLOBAL_ENTRIES)
  if (entries === undefined) throw new TwillError('internal', 'the kernel does not count its flows')
  return entries.readUInt32BE(0)
}

/** IPv4 only. False: this kernel cannot delete by a filter. It then refuses the incomplete tuple, and nothing is deleted. */
function deleteMatching(socket: NetlinkSocket, addresses: readonly Ip[]): boolean {
  const request = new Datagram(addresses.length * 4 * 128)
  for (const ip of addresses)
    for (const tuple of [CTA_TUPLE_ORIG, CTA_TUPLE_REPLY])
      for (const end of ENDS) writeDeletion(request, ip, tuple, end)
  const failure = socket.execute(request).find(outcome => outcome.errno !== 0)
  if (failure === undefined) return true
  if (['EINVAL', 'EOPNOTSUPP'].includes(errnoName(failure.errno))) return false
  throw failureOf('conntrack delete', failure)
}

/** CTA_FILTER names the members of the tuples to compare; its flags are in the host's order. */
function writeDeletion(request: Datagram, ip: Ip, tuple: number, end: (typeof ENDS)[number]): void {
  header(request, IPCTNL_MSG_CT_DELETE, AF_INET)
    .nest(tuple)
    .nest(CTA_TUPLE_IP)
    .attrIp(end.attribute, ip)
    .end()
    .end()
    .nest(CTA_FILTER)
    .attrU32(CTA_FILTER_ORIG_FLAGS, tuple === CTA_TUPLE_ORIG ? end.flag : 0)
    .attrU32(CTA_FILTER_REPLY_FLAGS, tuple === CTA_TUPLE_REPLY ? end.flag : 0)
    .end()
}

/** Reads all flows and deletes those of the addresses one by one. */
function sift(socket: NetlinkSocket, addresses: readonly Ip[]): void {
  const wanted = new Set(addresses.map(ip => octets(ip).toString('latin1')))
  const request = header(new Datagram(64), IPCTNL_MSG_CT_GET, 0)
  const flows = socket.dump('conntrack dump', request, message => {
    const attributes = bodyOf(message)
    const tuples = [attributes.get(CTA_TUPLE_ORIG), attributes.get(CTA_TUPLE_REPLY)]
    // struct nfgenmsg begins with the family.
    return tuples.some(tuple => bears(tuple, wanted))
      ? flowOf(message.bytes.readUInt8(message.start), attributes)
      : null
  })
  for (let i = 0; i < flows.length; i += DELETIONS_PER_DATAGRAM)
    deleteFlows(socket, flows.slice(i, i + DELETIONS_PER_DATAGRAM))
}

function deleteFlows(socket: NetlinkSocket, flows: readonly Flow[]): void {
  const request = new Datagram(DELETIONS_PER_DATAGRAM * 256)
  for (const flow of flows) {
    header(request, IPCTNL_MSG_CT_DELETE, flow.family)
      .attr(CTA_TUPLE_ORIG | NLA_F_NESTED, flow.tuple)
      .attr(CTA_ID, flow.id)
    if (flow.zone !== null) request.attr(CTA_ZONE, flow.zone)
  }
  // One that ended by itself in between is gone as well (ENOENT).
  for (const outcome of socket.execute(request))
    if (outcome.errno !== 0 && errnoName(outcome.errno) !== 'ENOENT')
      throw failureOf('conntrack delete', outcome)
}

/** struct nfgenmsg: u8 family · u8 version 0 · u16 resource 0 */
function header(datagram: Datagram, type: number, family: number): Datagram {
  return datagram.begin(type, 0).u8(family).u8(0).u16(0)
}

const bodyOf = (message: NetlinkMessage) => readAttributes(message.bytes, message.start + 4, message.end)

/** Copied: the dump's bytes are overwritten. */
function flowOf(family: number, attributes: ReadonlyMap<number, Buffer>): Flow | null {
  const [tuple, id, zone] = [CTA_TUPLE_ORIG, CTA_ID, CTA_ZONE].map(type => attributes.get(type))
  if (tuple === undefined || id === undefined) return null
  return { family, tuple: Buffer.from(tuple), id: Buffer.from(id), zone: zone ? Buffer.from(zone) : null }
}

function bears(tuple: Buffer | undefined, wanted: ReadonlySet<string>): boolean {
  const addresses = tuple && readAttributes(tuple).get(CTA_TUPLE_IP)
  if (addresses === undefined) return false
  let found = false
  forEachAttribute(addresses, 0, addresses.length, (_, address) => {
    found ||= wanted.has(address.toString('latin1'))
  })
  return found
}

function octets(ip: Ip): Buffer {
  return Buffer.from(ip.value.toString(16).padStart(ip.family === 4 ? 8 : 32, '0'), 'hex')
}
