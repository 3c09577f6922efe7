/**
 * What this boot and this machine are. A boot is boot_id and the cookie of the daemon's own network namespace,
 * because namespaces on one machine share boot_id (ADDRESSES.md rule 17).
 */
import { createHash } from 'node:crypto'
import { readFile } from 'node:fs/promises'
import type { Link } from '../../kernel/kernel.ts'
import { POD_LINK_PREFIX, VXLAN_ALIAS } from '../../kernel/ownership.ts'

export async function readBoot(ownNetnsCookie: string): Promise<string> {
  const bootId = (await readFile('/proc/sys/kernel/random/boot_id', 'utf8')).trim()
  return `${bootId}:${ownNetnsCookie}`
}

/** Virtual machines without firmware tables have none. */
export async function readProductUuid(): Promise<string> {
  return readFile('/sys/class/dmi/id/product_uuid', 'utf8').then(
    text => text.trim(),
    () => '',
  )
}

/**
 * Stable over reboots, different between clones of one disk (rule 14): product UUID and the MACs of interfaces
 * that are not made by software that comes and goes.
 */
export function hardwareOf(productUuid: string, links: readonly Link[], underlayDevice: string): string {
  const macs = links
    .filter(
      link =>
        !link.loopback &&
        link.mac !== null &&
        !link.name.startsWith(POD_LINK_PREFIX) &&
        link.alias !== VXLAN_ALIAS,
    )
    .filter(link => link.kind === null || link.name === underlayDevice)
    .map(link => link.mac as string)
    .sort()
  return createHash('sha256')
    .update([productUuid, ...macs].join('\n'))
    .digest('hex')
    .slice(0, 32)
}
