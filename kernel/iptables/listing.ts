/**
 * iptables' filter table as text, and the commands that make our part of it be as it should. Pure.
 *
 * The format is that of `iptables -S` and `iptables-restore` (iptables(8), iptables-save(8)): -P policies,
 * -N chains, -A rules in order.
 */

export interface Listing {
  /** Of built-in chains: ACCEPT or DROP. */
  readonly policies: ReadonlyMap<string, string>
  /** Rule bodies (without `-A CHAIN`) by chain, in order; also of chains without rules. */
  readonly chains: ReadonlyMap<string, readonly string[]>
}

export function parseListing(text: string): Listing {
  const policies = new Map<string, string>()
  const chains = new Map<string, string[]>()
  for (const line of text.split('\n')) {
    const [, verb, chain, rest] = /^-([PNA]) (\S+) ?(.*)$/.exec(line) ?? []
    if (chain === undefined || rest === undefined) continue
    if (!chains.has(chain)) chains.set(chain, [])
    if (verb === 'P') policies.set(chain, rest)
    if (verb === 'A') chains.get(chain)?.push(rest)
  }
  return { policies, chains }
}

/**
 * Why packets that no rule speaks of are dropped at this chain, null when they are not. Rules with a match are
 * somebody's particular wish and no reason to go around him; `own` is left out.
 */
export function reasonToDrop(listing: Listing, chain: string, own: string): string | null {
  if (listing.policies.get(chain) === 'DROP') return 'policy DROP'
  const rule = unconditionalDrop(listing, chain, new Set([own]))
  return rule === null ? null : `rule ${rule}`
}

function unconditionalDrop(listing: Listing, chain: string, visited: Set<string>): string | null {
  if (visited.has(chain)) return null
  visited.add(chain)
  for (const rule of listing.chains.get(chain) ?? []) {
    const target = /^-[jg] (\S+)/.exec(rule)?.[1]
    if (target === undefined) continue
    if (target === 'DROP' || target === 'REJECT') return `-A ${chain} ${rule}`
    const deeper = unconditionalDrop(listing, target, visited)
    if (deeper !== null) return deeper
  }
  return null
}

/** What of a listing is ours, for comparison: the chain's rules, and where it is jumped to from. */
export interface OwnPart {
  /** null: there is no such chain. */
  readonly rules: readonly string[] | null
  /** Indexes of the base chain's rules that jump to it unconditionally. */
  readonly jumps: readonly number[]
}

export function ownPart(listing: Listing, base: string, own: string): OwnPart {
  const jumps = (listing.chains.get(base) ?? []).flatMap((rule, i) => (rule === `-j ${own}` ? [i] : []))
  return { rules: listing.chains.get(own) ?? null, jumps }
}

/**
 * Input for `iptables-restore --noflush`: one transaction after which `own` has exactly these rules, each
 * accepting, and is jumped to from the top of `base`; without matches, after which nothing of it is left.
 */
export function restoreText(
  part: OwnPart,
  base: string,
  own: string,
  matches: readonly (readonly string[])[],
): string {
  const unjump = part.jumps.map(() => `-D ${base} -j ${own}`)
  const lines =
    matches.length === 0
      ? [...unjump, ...(part.rules === null ? [] : [`-F ${own}`, `-X ${own}`])]
      : [
          // Declared, a chain is made, or emptied.
          `:${own} - [0:0]`,
          ...matches.map(match => `-A ${own} ${match.join(' ')} -j ACCEPT`),
          ...unjump,
          `-I ${base} 1 -j ${own}`,
        ]
  return ['*filter', ...lines, 'COMMIT', ''].join('\n')
}
