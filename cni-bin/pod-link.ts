/**
 * Takes an attachment's link away without the daemon: one dump and one RTM_DELLINK over NETLINK_ROUTE. Deleting
 * the host's end takes the pod's end with it, whether or not the pod's namespace can still be found.
 *
 * Invariant: only the link whose alias names this very attachment is touched (kernel/ownership.ts). What
 * CNI_NETNS and CNI_IFNAME point at is never looked at, since the path may be another pod's by now (CNI-137).
 */

import { readAttributes, readString } from '../kernel/netlink/attributes.ts'
import {
  AF_NETLINK,
  IFLA_IFALIAS,
  IFLA_IFNAME,
  NETLINK_ROUTE,
  NLM_F_ACK,
  NLM_F_DUMP,
  NLMSG_DONE,
  NLMSG_ERROR,
  RTM_DELLINK,
  RTM_GETLINK,
  RTM_NEWLINK,
} from '../kernel/netlink/constants.ts'
import { Datagram } from '../kernel/netlink/datagram.ts'
import { POD_ALIAS_PREFIX, POD_LINK_PREFIX } from '../kernel/ownership.ts'
import { TwillError } from '../lib/errors.ts'
import type { Libc } from './libc.ts'

const SOCK_RAW = 3
const NLMSG_HEADER_BYTES = 16
/** struct ifinfomsg */
const IFINFOMSG_BYTES = 16
const ENODEV = 19
const TIMEOUT_MS = 5000

/** Names of the links removed; [] when there was none. @throws kernel.failed */
export function removePodLinks(libc: Libc, attachmentId: string): string[] {
  const fd = libc.socket(AF_NETLINK, SOCK_RAW, NETLINK_ROUTE, TIMEOUT_MS)
  try {
    const links = exchange(libc, fd, encodeLinkDump()).flatMap(message => decodeLink(message))
    const own = links.filter(link => isOfAttachment(link, attachmentId))
    for (const link of own) exchange(libc, fd, encodeLinkDeletion(link.index))
    return own.map(link => link.name)
  } finally {
    libc.close(fd)
  }
}

export interface NamedLink {
  readonly index: number
  readonly name: string
  readonly alias: string | null
}

export function isOfAttachment(link: NamedLink, attachmentId: string): boolean {
  return link.name.startsWith(POD_LINK_PREFIX) && link.alias === `${POD_ALIAS_PREFIX}${attachmentId}`
}

export function encodeLinkDump(): Buffer {
  return encodeLinkRequest(RTM_GETLINK, NLM_F_DUMP, 0)
}

export function encodeLinkDeletion(index: number): Buffer {
  return encodeLinkRequest(RTM_DELLINK, NLM_F_ACK, index)
}

/** ifinfomsg: u8 family, pad, u16 type, i32 index, u32 flags, u32 change. */
function encodeLinkRequest(type: number, flags: number, index: number): Buffer {
  const datagram = new Datagram(NLMSG_HEADER_BYTES + IFINFOMSG_BYTES).begin(type, flags)
  datagram.u32(0).u32(index).u32(0).u32(0)
  return datagram.bytes.subarray(0, datagram.length)
}

/** `message` begins at its nlmsghdr. [] when it is not a link. */
export function decodeLink(message: Buffer): NamedLink[] {
  if (message.readUInt16LE(4) !== RTM_NEWLINK) return []
  const attributes = readAttributes(message, NLMSG_HEADER_BYTES + IFINFOMSG_BYTES)
  const name = attributes.get(IFLA_IFNAME)
  const alias = attributes.get(IFLA_IFALIAS)
  return [
    {
      index: message.readInt32LE(NLMSG_HEADER_BYTES + 4),
      name: name === undefined ? '' : readString(name),
      alias: alias === undefined ? null : readString(alias),
    },
  ]
}

/** Sends one request and gathers messages up to its end. A device that has gone meanwhile is no error. */
function exchange(libc: Libc, fd: number, request: Buffer): Buffer[] {
  if (libc.write(fd, request) !== request.length) throw failed('send', 0)
  const messages: Buffer[] = []
  for (;;) {
    if (!libc.readable(fd, TIMEOUT_MS)) throw failed('silence of the kernel', 0)
    const bytes = Buffer.alloc(65536)
    const length = libc.read(fd, bytes)
    if (length < 0) throw failed('receive', 0)
    for (const message of splitMessages(bytes.subarray(0, length))) {
      const type = message.readUInt16LE(4)
      if (type === NLMSG_DONE) return messages
      if (type === NLMSG_ERROR) {
        const errno = -message.readInt32LE(NLMSG_HEADER_BYTES)
        if (errno === 0 || errno === ENODEV) return messages
        throw failed('answer', errno)
      }
      messages.push(message)
    }
  }
}

export function splitMessages(bytes: Buffer): Buffer[] {
  const messages: Buffer[] = []
  for (let at = 0; at + NLMSG_HEADER_BYTES <= bytes.length; ) {
    const length = bytes.readUInt32LE(at)
    if (length < NLMSG_HEADER_BYTES || at + length > bytes.length) break
    messages.push(bytes.subarray(at, at + length))
    at += (length + 3) & ~3
  }
  return messages
}

function failed(operation: string, errno: number): TwillError {
  return new TwillError(
    'kernel.failed',
    `deleting the pod's link: ${operation}${errno === 0 ? '' : `: errno ${errno}`}`,
    { operation, errno },
    { retryable: true },
  )
}
