/**
 * Addresses: struct ifaddrmsg { u8 family · u8 prefix · u8 flags · u8 scope · u32 index } and IFA_…
 *
 * Trap: IPv4 keeps the address in IFA_LOCAL (IFA_ADDRESS is the peer's), IPv6 in IFA_ADDRESS. The flags' upper
 * bits are only in IFA_FLAGS.
 */
import { parseAddressAttrs } from 'netlink/dist/rt/structs.js'
import { formatIp, type Ip } from '../../lib/address.ts'
import type { LinkAddress } from '../kernel.ts'
import { readIp } from './attributes.ts'
import {
  AF_INET,
  AF_INET6,
  IFA_ADDRESS,
  IFA_F_NODAD,
  IFA_FLAGS,
  IFA_LOCAL,
  RTM_GETADDR,
} from './constants.ts'
import type { Datagram } from './datagram.ts'
import type { NetlinkMessage } from './socket.ts'

export interface AddressFields {
  readonly index: number
  readonly address: Ip
  readonly prefix: number
  readonly scope: number
  readonly nodad: boolean
}

/** RTM_NEWADDR or RTM_DELADDR. */
export function writeAddress(
  request: Datagram,
  type: number,
  flags: number,
  fields: AddressFields,
): Datagram {
  const v4 = fields.address.family === 4
  request.begin(type, flags)
  request
    .u8(v4 ? AF_INET : AF_INET6)
    .u8(fields.prefix)
    .u8(0)
    .u8(fields.scope)
    .u32(fields.index)
  request.attrIp(IFA_LOCAL, fields.address)
  if (v4) request.attrIp(IFA_ADDRESS, fields.address)
  if (fields.nodad) request.attrU32(IFA_FLAGS, IFA_F_NODAD)
  return request
}

/** @param index of one link, or 0 for all */
export function writeDumpAddresses(request: Datagram, index = 0): Datagram {
  return request.reset().begin(RTM_GETADDR, 0).u8(0).u8(0).u8(0).u8(0).u32(index)
}

/** null for an address of another family. */
export function readAddress(
  message: NetlinkMessage,
  nameOf: (index: number) => string | null,
): LinkAddress | null {
  const { bytes, start, end } = message
  const family = bytes[start]
  if (family !== AF_INET && family !== AF_INET6) return null
  const attrs = parseAddressAttrs(bytes.subarray(start + 8, end))
  const address = family === AF_INET ? (attrs.local ?? attrs.address) : attrs.address
  const device = nameOf(bytes.readUInt32LE(start + 4))
  if (address === undefined || device === null) return null
  return {
    device,
    family: family === AF_INET ? 4 : 6,
    address: formatIp(readIp(address as Buffer)),
    prefix: bytes[start + 1] as number,
    scope: bytes[start + 3] as number,
    tentative: attrs.flags?.tentative === true,
    nodad: attrs.flags?.nodad === true,
    permanent: attrs.flags?.permanent === true,
  }
}
