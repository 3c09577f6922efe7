/** Who holds addresses at a daemon's start: as the journal says, and, where it lost records, as kernel and ledgers know. */
import type { NodeIpam } from '../../ipam/node-ipam.ts'
import type { Base } from '../base.ts'
import { journaledHolders } from '../journal/holders.ts'
import type { LocalState } from '../local-state.ts'
import { type TunnelAddresses, tunnelHolder } from '../node/tunnel.ts'
import { adoptable } from './adopt.ts'
import type { Leases } from './leases.ts'
import type { Registry } from './registry.ts'

export function heldByJournal(local: LocalState): Parameters<NodeIpam['restore']>[0] {
  const { tunnel } = local
  const tunnels = (tunnel?.addresses ?? []).map(({ holder, ...held }) => ({
    holder: tunnelHolder(held.family, tunnel?.since ?? 0, holder),
    addresses: [held],
  }))
  return [...journaledHolders(local.found), ...tunnels]
}

export interface SurvivorsModules {
  readonly ipam: NodeIpam
  readonly registry: Registry
  readonly tunnel: TunnelAddresses
  readonly leases: Leases
}

/** Before anything is deleted: pods that the journal has forgotten. */
export async function adoptSurvivors(
  { kernel, boot, log }: Pick<Base, 'kernel' | 'boot' | 'log'>,
  { ipam, registry, tunnel, leases }: SurvivorsModules,
): Promise<void> {
  await ipam.ready()
  const own = ipam.holders().filter(({ holder }) => holder.kind === 'tunnel')
  await tunnel.adopt(own.flatMap(({ holder, addresses }) => addresses.map(held => ({ id: holder.id, held }))))
  for (const { holder, addresses } of ipam.holders())
    if (holder.kind === 'ipam') await leases.adopt(holder, addresses)
  const [links, neighbours] = await Promise.all([kernel.readLinks(), kernel.readNeighbours()])
  const known = new Map(registry.all().map(attachment => [attachment.id, attachment]))
  for (const attachment of adoptable(known, { holders: ipam.holders(), links, neighbours, boot })) {
    await registry.begin(attachment)
    log.warn(
      { id: attachment.id, pod: attachment.pod },
      'the journal does not know this pod, kernel and ledger do: kept',
    )
  }
}
