/**
 * Our accept chains in the filter tables of iptables, where those drop what no rule speaks of (Docker, firewalls):
 * TWILL-FORWARD and TWILL-INPUT, jumped to from the top. They only lift others' verdicts; table inet twill judges
 * the same packets in any case.
 *
 * Invariant: a chain of ours stands only where something drops, and goes when that goes. Trap: iptables prints
 * rules otherwise than they were written, so a chain is compared with how it was printed right after we wrote it.
 */
import { isDeepStrictEqual } from 'node:util'
import type { Family } from '../../lib/address.ts'
import type { AcceptChain } from '../kernel.ts'
import type { NetlinkSocket } from '../netlink/socket.ts'
import { type BaseChain, readDroppingChains, readTableNames } from '../nft/base-chains.ts'
import { IPTABLES_CHAINS, NFT_TABLE } from '../ownership.ts'
import { type Listing, type OwnPart, ownPart, parseListing, reasonToDrop, restoreText } from './listing.ts'
import { hasLegacyTable, listFilter, programOf, restoreFilter, type Variant } from './program.ts'

type Hook = AcceptChain['hook']

const FAMILIES: readonly Family[] = [4, 6]
const VARIANTS: readonly Variant[] = ['legacy', 'nft']
const BASE: Readonly<Record<Hook, string>> = { forward: 'FORWARD', input: 'INPUT' }
const NFT_FAMILY = { 4: 'ip', 6: 'ip6' } as const

export interface ForeignFilter {
  /** `ip filter (legacy)`, or nft's `inet firewalld`. */
  readonly table: string
  readonly chain: string
  readonly hook: string
  readonly reason: string
}

interface Written {
  readonly matches: readonly (readonly string[])[]
  readonly listed: OwnPart
}

export class AcceptChains {
  readonly #socket: NetlinkSocket
  /** By program and hook: what we wrote there last, and how it was listed then. */
  readonly #written = new Map<string, Written>()

  /** @param modules.socket of protocol NETLINK_NETFILTER, in the namespace this thread is in */
  constructor(_options: Record<string, never>, modules: { socket: NetlinkSocket }) {
    this.#socket = modules.socket
  }

  /**
   * Makes our chains be exactly these, wherever there is something to go around; [] removes them.
   * @returns what was not as it should, e.g. `iptables-legacy FORWARD`
   * @throws TwillError kernel.failed
   */
  ensure(chains: readonly AcceptChain[]): { changed: string[] } {
    const changed = this.#tables().flatMap(({ family, variant }) => {
      const text = listFilter(family, variant)
      if (text === null) return []
      return (['forward', 'input'] as const).flatMap(hook => {
        const asked = chains.filter(chain => chain.hook === hook && chain.family === family)
        const matches = asked.flatMap(chain => chain.matches)
        const repaired = this.#ensureOne(family, variant, hook, parseListing(text), matches)
        return repaired ? [`${programOf(family, variant)} ${BASE[hook]}`] : []
      })
    })
    return { changed }
  }

  /** The filter tables of iptables that stand in this namespace. */
  #tables(): { family: Family; variant: Variant }[] {
    const nft = readTableNames(this.#socket)
    return FAMILIES.flatMap(family =>
      VARIANTS.filter(variant =>
        variant === 'legacy' ? hasLegacyTable(family) : nft.has(`${NFT_FAMILY[family]} filter`),
      ).map(variant => ({ family, variant })),
    )
  }

  #ensureOne(
    family: Family,
    variant: Variant,
    hook: Hook,
    listing: Listing,
    asked: readonly (readonly string[])[],
  ): boolean {
    const [base, own] = [BASE[hook], IPTABLES_CHAINS[hook]]
    const part = ownPart(listing, base, own)
    const matches = reasonToDrop(listing, base, own) === null ? [] : asked
    if (matches.length === 0 && part.rules === null && part.jumps.length === 0) return false
    const key = `${programOf(family, variant)} ${hook}`
    const written = this.#written.get(key)
    if (isDeepStrictEqual(written, { matches, listed: part })) return false
    restoreFilter(family, variant, restoreText(part, base, own, matches))
    const listed = ownPart(parseListing(listFilter(family, variant) ?? ''), base, own)
    this.#written.set(key, { matches, listed })
    return !isDeepStrictEqual(listed, part)
  }

  /**
   * Base chains of others, on forward and input, that drop whatever no rule of theirs speaks of and that our
   * accept chains do not reach: tables of nft itself (firewalld), and iptables' where its program is missing.
   * @throws TwillError kernel.failed
   */
  foreignFilters(): ForeignFilter[] {
    const ownReach = new Set(
      FAMILIES.filter(family => listFilter(family, 'nft') !== null).map(family => NFT_FAMILY[family]),
    )
    const reached = ({ family, table, chain }: BaseChain) =>
      table === 'filter' && Object.values(BASE).includes(chain) && ownReach.has(family as 'ip' | 'ip6')
    const natively = readDroppingChains(this.#socket)
      .filter(chain => !(chain.family === 'inet' && chain.table === NFT_TABLE) && !reached(chain))
      .map(({ family, table, chain, hook, reason }) => ({ table: `${family} ${table}`, chain, hook, reason }))
    return [...natively, ...unreachableLegacy()]
  }
}

/** A legacy table that we see but have no program for: what it does we cannot know. */
function unreachableLegacy(): ForeignFilter[] {
  return FAMILIES.filter(family => hasLegacyTable(family) && listFilter(family, 'legacy') === null).flatMap(
    family =>
      (['forward', 'input'] as const).map(hook => ({
        table: `${NFT_FAMILY[family]} filter (legacy)`,
        chain: BASE[hook],
        hook,
        reason: `${programOf(family, 'legacy')} is not installed`,
      })),
  )
}
