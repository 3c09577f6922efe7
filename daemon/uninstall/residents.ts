/**
 * Who would lose his network if Twill went: pods, and interfaces of other plugins that have addresses of ours.
 *
 * Pods are told by their links, not by the journal: a DEL that found no daemon has taken the link away at once and waits
 * in the spool, and a journal that was lost knows nobody. Of a lease only the journal knows; one whose DEL waits in the spool
 * is over.
 */
import { readdir, readFile } from 'node:fs/promises'
import { join } from 'node:path'
import { decodeSpooled, isSpoolEntry } from '../../cni-bin/spool.ts'
import type { Kernel } from '../../kernel/kernel.ts'
import { POD_ALIAS_PREFIX, REAP_GROUP } from '../../kernel/ownership.ts'
import { TwillError } from '../../lib/errors.ts'
import { counted } from '../../lib/plural.ts'
import type { JournalState, Lease } from '../journal/records.ts'
import { isPodLink } from '../plan/links.ts'

export interface Residents {
  /** Each as people know it. */
  readonly pods: readonly string[]
  readonly leases: readonly Lease[]
}

export interface ResidentsOptions {
  readonly boot: string
  /** Where DELs wait. */
  readonly spool: string
  readonly found: Pick<JournalState, 'attachments' | 'leases'>
}

const NAMED_AT_MOST = 10

export async function residentsOf(
  { boot, spool, found }: ResidentsOptions,
  kernel: Pick<Kernel, 'readLinks'>,
): Promise<Residents> {
  const links = (await kernel.readLinks()).filter(link => isPodLink(link) && link.group !== REAP_GROUP)
  const pods = links.map(({ name, alias }) => {
    const known = found.attachments.get((alias ?? '').slice(POD_ALIAS_PREFIX.length))
    return known === undefined ? `the pod behind ${name}` : nameOf(known)
  })
  const filed = await filedDels(spool, boot)
  const leases = [...found.leases.values()].filter(
    lease => lease.boot === boot && !filed.some(del => isAbout(del, lease)),
  )
  return { pods, leases }
}

/** @throws resource.in-use, if anybody is here */
export function refuseResidents({ pods, leases }: Residents): void {
  const told = [
    ...(pods.length === 0
      ? []
      : [`${counted(pods.length, 'pod')} of this node would be cut off: ${listed(pods)}`]),
    ...(leases.length === 0
      ? []
      : [
          `${counted(leases.length, 'interface')} of other plugins would keep an address that others get later: ${listed(leases.map(nameOf))}`,
        ]),
  ]
  if (told.length === 0) return
  throw new TwillError(
    'resource.in-use',
    `${told.join('; ')}. Nothing was changed: move them elsewhere while twilld runs, or add --force`,
    { pods, leases: leases.map(({ id }) => id) },
  )
}

const listed = (names: readonly string[]): string =>
  names.length <= NAMED_AT_MOST
    ? names.join(', ')
    : `${names.slice(0, NAMED_AT_MOST).join(', ')} and ${names.length - NAMED_AT_MOST} more`

const nameOf = ({ pod, containerId, ifName }: Pick<Lease, 'pod' | 'containerId' | 'ifName'>): string =>
  pod === null ? `container ${containerId} (${ifName})` : `${pod.namespace}/${pod.name} (${ifName})`

interface FiledDel {
  readonly entry: string
  readonly boottimeMs: number
}

/** Those that cannot be read end nobody. */
async function filedDels(folder: string, boot: string): Promise<FiledDel[]> {
  const entries = (await readdir(folder).catch(() => [])).filter(isSpoolEntry)
  const read = entries.map(async entry => {
    try {
      const filed = decodeSpooled(await readFile(join(folder, entry), 'utf8'))
      return filed.boot === boot ? [{ entry, boottimeMs: filed.boottimeMs }] : []
    } catch {
      return []
    }
  })
  return (await Promise.all(read)).flat()
}

/** An entry's name begins with the id that it is about; what was begun after it is another's. */
const isAbout = ({ entry, boottimeMs }: FiledDel, { id, begunBoottimeMs }: Lease): boolean =>
  entry.startsWith(`${id}-`) && begunBoottimeMs <= boottimeMs
