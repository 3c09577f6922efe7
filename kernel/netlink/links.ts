/**
 * Links: struct ifinfomsg { u8 family · u8 pad · u16 type · i32 index · u32 flags · u32 change } and IFLA_…
 *
 * What a device of a kind has of its own (VXLAN) goes through the codecs of the package `netlink`. The rest is
 * read here: the package builds a table of sixty closures for each message, and ADD, DEL and every notification
 * read links. Trap: the package leaves 16-bit ports as they lie, big-endian, so `port` is a Buffer both ways.
 */
import { formatVxlan, parseVxlan } from 'netlink/dist/rt/ifla.js'
import { AttrStream } from 'netlink/dist/structs.js'
import { formatIp, parseIp } from '../../lib/address.ts'
import type { KernelStep, Link, VxlanAttributes } from '../kernel.ts'
import { forEachAttribute, readAttributes, readIp, readMac, readString } from './attributes.ts'
import * as c from './constants.ts'
import type { Datagram } from './datagram.ts'
import type { NetlinkMessage } from './socket.ts'

/** A link before indices are resolved to names. */
export interface LinkRecord extends Omit<Link, 'vxlan'> {
  /** IFLA_LINK_NETNSID: where the peer lives, in this namespace's numbering; null: in this one. */
  readonly peerNetnsId: number | null
  /** IFLA_INFO_DATA as it lies. */
  readonly kindData: Buffer | null
}

export function writeLinkHeader(request: Datagram, index: number, flags = 0, change = 0): Datagram {
  return request.u8(0).u8(0).u16(0).u32(index).u32(flags).u32(change)
}

/** All links of the socket's namespace, to be sent as a dump. */
export function writeDumpLinks(request: Datagram): Datagram {
  writeLinkHeader(request.reset().begin(c.RTM_GETLINK, 0), 0)
  return request.attrU32(c.IFLA_EXT_MASK, c.RTEXT_FILTER_SKIP_STATS)
}

/** One link, by name or index. ENODEV when there is none. */
export function writeGetLink(request: Datagram, link: string | number): Datagram {
  writeLinkHeader(request.begin(c.RTM_GETLINK, 0), typeof link === 'number' ? link : 0)
  if (typeof link === 'string') request.attrString(c.IFLA_IFNAME, link)
  return request.attrU32(c.IFLA_EXT_MASK, c.RTEXT_FILTER_SKIP_STATS)
}

/** A link in the namespace that the socket's own knows under this number (Linux 4.15, RTM_GETLINK with IFLA_TARGET_NETNSID). */
export function writeGetPeer(request: Datagram, index: number, netnsId: number): Datagram {
  writeLinkHeader(request.begin(c.RTM_GETLINK, 0), index)
  return request.attrU32(c.IFLA_TARGET_NETNSID, netnsId).attrU32(c.IFLA_EXT_MASK, c.RTEXT_FILTER_SKIP_STATS)
}

export function writeDeleteLink(request: Datagram, index: number): Datagram {
  return writeLinkHeader(request.begin(c.RTM_DELLINK, 0), index)
}

type VxlanStep = Extract<KernelStep, { type: 'vxlan.add' }>

/** @param underlayIndex 0 leaves the device unbound */
export function writeAddVxlan(request: Datagram, step: VxlanStep, underlayIndex: number): Datagram {
  writeLinkHeader(request.begin(c.RTM_NEWLINK, c.NLM_F_CREATE | c.NLM_F_EXCL), 0)
  request.attrString(c.IFLA_IFNAME, step.name).attrMac(c.IFLA_ADDRESS, step.mac).attrU32(c.IFLA_MTU, step.mtu)
  request.attrString(c.IFLA_IFALIAS, step.alias)
  request.nest(c.IFLA_LINKINFO).attrString(c.IFLA_INFO_KIND, 'vxlan')
  return request.attr(c.IFLA_INFO_DATA, vxlanData(step.vxlan, underlayIndex)).end()
}

function vxlanData(vxlan: VxlanAttributes, underlayIndex: number): Buffer {
  const port = Buffer.alloc(2)
  port.writeUInt16BE(vxlan.port)
  const stream = new AttrStream()
  stream.emit(
    formatVxlan({
      id: vxlan.vni,
      port,
      learning: vxlan.learning ? 1 : 0,
      ...(underlayIndex === 0 ? {} : { link: underlayIndex }),
      ...(vxlan.local === null ? {} : localAddress(vxlan.local)),
    }),
  )
  return Buffer.concat(stream.bufs)
}

function localAddress(text: string): { local: Buffer } | { local6: Buffer } {
  const ip = parseIp(text)
  const octets = Buffer.from(ip.value.toString(16).padStart(ip.family === 4 ? 8 : 32, '0'), 'hex')
  return ip.family === 4 ? { local: octets } : { local6: octets }
}

export function readLink(message: NetlinkMessage): LinkRecord {
  const { bytes, start, end } = message
  const flags = bytes.readUInt32LE(start + 8)
  const found = {
    index: bytes.readInt32LE(start + 4),
    name: '',
    kind: null as string | null,
    mac: null as string | null,
    mtu: 0,
    up: (flags & c.IFF_UP) !== 0,
    carrier: (flags & c.IFF_LOWER_UP) !== 0,
    loopback: (flags & c.IFF_LOOPBACK) !== 0,
    alias: null as string | null,
    group: 0,
    peerIndex: null as number | null,
    master: null as number | null,
    peerNetnsId: null as number | null,
    kindData: null as Buffer | null,
  }
  forEachAttribute(bytes, start + 16, end, (type, payload) => {
    if (type === c.IFLA_IFNAME) found.name = readString(payload)
    else if (type === c.IFLA_ADDRESS) found.mac = payload.length === 6 ? readMac(payload) : null
    else if (type === c.IFLA_MTU) found.mtu = payload.readUInt32LE(0)
    else if (type === c.IFLA_IFALIAS) found.alias = readString(payload)
    else if (type === c.IFLA_GROUP) found.group = payload.readUInt32LE(0)
    else if (type === c.IFLA_LINK) found.peerIndex = payload.readUInt32LE(0) || null
    else if (type === c.IFLA_LINK_NETNSID) found.peerNetnsId = payload.readInt32LE(0)
    else if (type === c.IFLA_MASTER) found.master = payload.readUInt32LE(0)
    else if (type === c.IFLA_LINKINFO) {
      const info = readAttributes(payload)
      const kind = info.get(c.IFLA_INFO_KIND)
      const data = info.get(c.IFLA_INFO_DATA)
      if (kind !== undefined) found.kind = readString(kind)
      if (data !== undefined) found.kindData = Buffer.from(data)
    }
  })
  return found
}

/** Resolves what the record holds as bytes and indices. */
export function linkOf(record: LinkRecord, nameOf: (index: number) => string | null): Link {
  const { peerNetnsId: _, kindData, ...link } = record
  const vxlan = record.kind === 'vxlan' && kindData !== null ? readVxlan(kindData, nameOf) : null
  return { ...link, vxlan }
}

function readVxlan(data: Buffer, nameOf: (index: number) => string | null): VxlanAttributes {
  const vxlan = parseVxlan(data)
  const local = vxlan.local ?? vxlan.local6
  return {
    vni: vxlan.id ?? 0,
    port: vxlan.port === undefined ? 0 : (vxlan.port as Buffer).readUInt16BE(0),
    local: local === undefined ? null : formatIp(readIp(local as Buffer)),
    underlay: vxlan.link ? nameOf(vxlan.link) : null,
    learning: (vxlan.learning ?? 0) !== 0,
  }
}
