/**
 * What this boot and this machine are. A boot is boot_id and the cookie of the daemon's own network namespace,
 * because namespaces on one machine share boot_id (ADDRESSES.md rule 17).
 */
import { readFile } from 'node:fs/promises'
import { hardwareText } from '../../ipam/hardware.ts'
import type { Link } from '../../kernel/kernel.ts'

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
 * This machine as others may tell it: interfaces that are not made by software that comes and goes, and the underlay,
 * which may be (a bond, a namespace's veth).
 */
export function hardwareOf(productUuid: string, links: readonly Link[], underlayDevice: string): string {
  const macs = links
    .filter(
      link => !link.loopback && link.mac !== null && (link.kind === null || link.name === underlayDevice),
    )
    .map(link => link.mac as string)
  return hardwareText({ productUuid, macs })
}
