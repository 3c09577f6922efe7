/**
 * After the loss of journal records: which pods live that only the kernel and the ledgers still know. Both must: the
 * link says that the pod is here and by which id, the ledger who it is and which addresses it holds. Pure.
 *
 * Trap: the namespace's path is known to nobody any more, so an adopted pod whose pair is deleted by somebody else
 * cannot be attached again; DEL and everything else works.
 */
import type { HeldAddress, Holder } from '../../ipam/ipam.ts'
import type { Link, Neighbour } from '../../kernel/kernel.ts'
import { REAP_GROUP } from '../../kernel/ownership.ts'
import type { Attachment } from '../journal/records.ts'
import { aliasOf } from './identity.ts'

export interface Survivors {
  /** Who the ledgers and the journal say holds what. */
  readonly holders: readonly { readonly holder: Holder; readonly addresses: readonly HeldAddress[] }[]
  readonly links: readonly Link[]
  readonly neighbours: readonly Neighbour[]
  readonly boot: string
}

/** @returns records of pods that are attached and that `known` does not have, or has as just being attached */
export function adoptable(
  known: ReadonlyMap<string, Attachment>,
  { holders, links, neighbours, boot }: Survivors,
): Attachment[] {
  return holders
    .filter(({ holder }) => holder.kind === 'pod')
    .flatMap(({ holder, addresses }) => {
      const link = links.find(({ alias, group }) => alias === aliasOf(holder.id) && group !== REAP_GROUP)
      const mac = neighbours.find(({ device }) => device === link?.name)?.mac
      const before = known.get(holder.id)
      if (link === undefined || !mac || (before !== undefined && before.state !== 'attaching')) return []
      return [
        {
          ...remade(holder, addresses, boot),
          ...before,
          hostInterface: link.name,
          podMac: mac,
          mtu: link.mtu,
          state: 'attached' as const,
        },
      ]
    })
}

function remade(holder: Holder, addresses: readonly HeldAddress[], boot: string): Attachment {
  const { id, network, containerId, ifName, pod, since } = holder
  return {
    id,
    network,
    containerId,
    ifName,
    netns: { path: '', dev: null, ino: null },
    netnsCookie: null,
    hostInterface: '',
    podMac: null,
    mtu: 0,
    addresses: [...addresses],
    pod,
    boot,
    // Any spooled DEL is younger than a pod that stood before this start.
    begunBoottimeMs: 0,
    since,
    state: 'attached',
  }
}
