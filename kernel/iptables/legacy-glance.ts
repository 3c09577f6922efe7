/**
 * A glance at the legacy filter tables, which report no change to anybody: how many rules, in how many octets, and where
 * each hook's begin. Two system calls of microseconds; a look by the program takes 40 to 80 ms.
 *
 * Trap: a rule that takes the place of another of its size, and a changed policy, look the same. And asking for a table
 * that is not there would make it.
 *
 *   struct ipt_getinfo, struct ip6t_getinfo (linux/netfilter_ipv4/ip_tables.h): char name[32] · u32 valid_hooks ·
 *   u32 hook_entry[5] · u32 underflow[5] · u32 num_entries · u32 size
 */
import type { Family } from '../../lib/address.ts'
import { kernelFailed, type Libc } from '../netlink/libc.ts'
import { hasLegacyTable } from './program.ts'

const AF = { 4: 2, 6: 10 } as const
/** SOL_IP and SOL_IPV6. */
const LEVEL = { 4: 0, 6: 41 } as const
const SOCK_DGRAM_CLOEXEC = 2 | 0o2000000
/** IPT_SO_GET_INFO, IP6T_SO_GET_INFO. */
const GET_INFO = 64
const INFO_OCTETS = 84

/** @returns '' where there is no legacy filter table. @throws TwillError kernel.failed */
export function glanceAtLegacy(libc: Libc): string {
  return ([4, 6] as const).flatMap(family => (hasLegacyTable(family) ? [glance(family, libc)] : [])).join(' ')
}

function glance(family: Family, libc: Libc): string {
  const socket = libc.socket(AF[family], SOCK_DGRAM_CLOEXEC, 0)
  if (socket < 0) throw kernelFailed('socket for the filter table', libc.errno(), '')
  try {
    const info = Buffer.alloc(INFO_OCTETS)
    info.write('filter')
    const size = Buffer.alloc(4)
    size.writeUInt32LE(INFO_OCTETS)
    if (libc.getsockopt(socket, LEVEL[family], GET_INFO, info, size) !== 0)
      throw kernelFailed(`look at the legacy IPv${family} filter table`, libc.errno(), '')
    return `${family}:${info.toString('hex', 32)}`
  } finally {
    libc.close(socket)
  }
}
