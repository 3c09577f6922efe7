/**
 * Neighbours and forwarding entries: struct ndmsg { u8 family · u8 pad · u16 pad · i32 index · u16 state ·
 * u8 flags · u8 type } and NDA_…  An FDB entry is a neighbour of family AF_BRIDGE, keyed by MAC; for VXLAN its
 * NDA_DST is the remote tunnel end.
 */
import { formatIp, type Ip } from '../../lib/address.ts'
import type { FdbEntry, Neighbour } from '../kernel.ts'
import { readAttributes, readIp, readMac } from './attributes.ts'
import * as c from './constants.ts'
import type { Datagram } from './datagram.ts'
import type { NetlinkMessage } from './socket.ts'

/** A permanent entry when `mac` is given (RTM_NEWNEIGH), any entry otherwise (RTM_DELNEIGH). */
export function writeNeighbour(
  request: Datagram,
  type: number,
  flags: number,
  entry: { index: number; address: Ip; mac: string | null },
): Datagram {
  request
    .begin(type, flags)
    .u8(entry.address.family === 4 ? c.AF_INET : c.AF_INET6)
    .u8(0)
    .u16(0)
  request
    .u32(entry.index)
    .u16(entry.mac === null ? 0 : c.NUD_PERMANENT)
    .u8(0)
    .u8(0)
  request.attrIp(c.NDA_DST, entry.address)
  return entry.mac === null ? request : request.attrMac(c.NDA_LLADDR, entry.mac)
}

export function writeFdbEntry(
  request: Datagram,
  type: number,
  flags: number,
  entry: { index: number; mac: string; dst: Ip },
): Datagram {
  request.begin(type, flags).u8(c.AF_BRIDGE).u8(0).u16(0).u32(entry.index)
  request
    .u16(c.NUD_NOARP | c.NUD_PERMANENT)
    .u8(c.NTF_SELF)
    .u8(0)
  return request.attrMac(c.NDA_LLADDR, entry.mac).attrIp(c.NDA_DST, entry.dst)
}

/** @param family AF_INET or AF_INET6, or AF_BRIDGE with the index of one device */
export function writeDumpNeighbours(request: Datagram, family: number, index = 0): Datagram {
  request.reset().begin(c.RTM_GETNEIGH, 0).u8(family).u8(0).u16(0)
  return request.u32(index).u16(0).u8(0).u8(0)
}

/** null for another device's, and for the kernel's own entries (multicast, broadcast: NUD_NOARP). */
export function readNeighbour(
  message: NetlinkMessage,
  nameOf: (index: number) => string | null,
): Neighbour | null {
  const { bytes, start, end } = message
  const family = bytes[start] === c.AF_INET ? 4 : bytes[start] === c.AF_INET6 ? 6 : null
  const device = nameOf(bytes.readInt32LE(start + 4))
  const state = bytes.readUInt16LE(start + 8)
  const attributes = readAttributes(bytes, start + 12, end)
  const address = attributes.get(c.NDA_DST)
  const mac = attributes.get(c.NDA_LLADDR)
  if (family === null || device === null || address === undefined || state & c.NUD_NOARP) return null
  return {
    device,
    family,
    address: formatIp(readIp(address)),
    mac: mac?.length === 6 ? readMac(mac) : null,
    permanent: (state & c.NUD_PERMANENT) !== 0,
  }
}

/** null for another device's. */
export function readFdbEntry(message: NetlinkMessage, index: number, device: string): FdbEntry | null {
  const { bytes, start, end } = message
  if (bytes[start] !== c.AF_BRIDGE || bytes.readInt32LE(start + 4) !== index) return null
  const attributes = readAttributes(bytes, start + 12, end)
  const mac = attributes.get(c.NDA_LLADDR)
  const dst = attributes.get(c.NDA_DST)
  if (mac === undefined) return null
  return {
    device,
    mac: readMac(mac),
    dst: dst === undefined ? null : formatIp(readIp(dst)),
    permanent: (bytes.readUInt16LE(start + 8) & c.NUD_PERMANENT) !== 0,
  }
}
