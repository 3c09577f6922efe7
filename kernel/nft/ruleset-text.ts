/** Rulesets as nft commands, and the difference of two. Pure. Each text is run as one transaction. */
import type { Ruleset, SetElement } from '../kernel.ts'

export interface ElementsChange {
  readonly add: readonly SetElement[]
  readonly remove: readonly SetElement[]
}

/**
 * The table anew, whatever stood there: adding it first makes deleting it never fail.
 * Trap: a packet on its way may meet neither the old chains nor the new: at a hook the new ones may come first, without
 * rules yet, and the old ones after the change, without rules any more.
 */
export function replacementText(table: string, ruleset: Ruleset): string {
  return text(removal(table), table, ruleset)
}

/** Of the table, whether it is there or not. */
export const removalText = (table: string): string => [...removal(table), ''].join('\n')

const removal = (table: string): string[] => [`add table inet ${table}`, `delete table inet ${table}`]

/** New rules and elements in the chains and sets that stand there: each packet meets at each hook the old or the new. */
export function refillText(table: string, ruleset: Ruleset): string {
  const sets = namesIn(ruleset).sets.map(set => `flush set inet ${table} ${set}`)
  return text([`flush table inet ${table}`, ...sets], table, ruleset)
}

function text(before: readonly string[], table: string, ruleset: Ruleset): string {
  const filled = [...ruleset.elements].filter(([, elements]) => elements.size > 0)
  return [
    ...before,
    `table inet ${table} {`,
    ruleset.chains.trimEnd(),
    '}',
    ...filled.map(([set, elements]) => command('add', table, set, [...elements])),
    '',
  ].join('\n')
}

/** Of the chains and sets that the ruleset declares. */
export function namesIn({ chains }: Ruleset): { readonly chains: string[]; readonly sets: string[] } {
  const named = (kind: string) =>
    [...chains.matchAll(new RegExp(`^\\s*${kind} (\\w+) \\{`, 'gm'))].map(([, name]) => name as string)
  return { chains: named('chain'), sets: named('set') }
}

/** Removals first: what is in both ends up present, and intervals make room before others take it. */
export function changeText(table: string, change: ElementsChange): string {
  const remove = [...bySet(change.remove)].flatMap(([set, elements]) => [
    // nft has no deletion that forgives absence before 1.0.8; adding first makes it so.
    command('add', table, set, elements),
    command('delete', table, set, elements),
  ])
  const add = [...bySet(change.add)].map(([set, elements]) => command('add', table, set, elements))
  return [...remove, ...add, ''].join('\n')
}

function command(verb: 'add' | 'delete', table: string, set: string, elements: readonly string[]): string {
  return `${verb} element inet ${table} ${set} { ${elements.join(', ')} }`
}

function bySet(elements: readonly SetElement[]): Map<string, string[]> {
  const sets = new Map<string, string[]>()
  for (const { set, element } of elements) sets.set(set, [...(sets.get(set) ?? []), element])
  return sets
}

/** null when they differ in more than elements. */
export function elementsChangeBetween(from: Ruleset, to: Ruleset): ElementsChange | null {
  if (from.chains !== to.chains) return null
  return { add: missingIn(from, to), remove: missingIn(to, from) }
}

/** What `b` has and `a` has not. */
function missingIn(a: Ruleset, b: Ruleset): SetElement[] {
  const missing: SetElement[] = []
  for (const [set, elements] of b.elements) {
    const known = a.elements.get(set)
    for (const element of elements) if (!known?.has(element)) missing.push({ set, element })
  }
  return missing
}
