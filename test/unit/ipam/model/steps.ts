/** What may happen in a history of the model, and how often. */
import * as fc from 'fast-check'
import type { Doubt } from '../../../../datastore/memory/store.ts'

const MINUTE = 60_000

/** `node`: which of the machines there are, counted around. */
type OfNode<T extends string> = { readonly t: T; readonly node: number }
type WithHeir<T extends string> = OfNode<T> & { readonly heir: number }

export type Step =
  | (OfNode<'add' | 'del'> & { readonly pod: number })
  | OfNode<'burst' | 'leave' | 'kill' | 'start' | 'reboot' | 'remove' | 'halt' | 'resume' | 'retire'>
  /** The state folder is gone, and the daemon starts anew; the pods run on. */
  | OfNode<'forget'>
  | WithHeir<'hoard' | 'oust' | 'haunt'>
  | (OfNode<'cut'> & { readonly cut: boolean })
  | (OfNode<'lag'> & { readonly lagging: boolean })
  | (OfNode<'disk'> & { readonly full: boolean })
  | (OfNode<'clock' | 'slow'> & { readonly ms: number })
  | (OfNode<'ask'> & { readonly wanted: number })
  /** Of the next commit; or of the next one of a slot, and then of the one that is to settle it. */
  | (OfNode<'doubt'> & { readonly doubt: Doubt; readonly slot: number | null })
  /** Another machine under its name; what becomes of the old one. */
  | (OfNode<'replace'> & { readonly old: 'dies' | 'stands still' | 'is cut off' })
  /** A machine that starts with a copy of its state folder, under its name or another one. */
  | (OfNode<'clone'> & { readonly renamed: boolean })
  | { readonly t: 'pool'; readonly change: 'create' | 'disable' | 'delete' | 'drain' }
  | { readonly t: 'land' }
  | { readonly t: 'time'; readonly ms: number }
  /** The store's state is kept, and put back later (rule 16). */
  | { readonly t: 'backup' }
  | { readonly t: 'restore' }

const node = fc.nat(5)
const pod = fc.nat(14)

const of = (t: Step['t'], rest: Record<string, fc.Arbitrary<unknown>> = {}): fc.Arbitrary<Step> =>
  fc.record({ t: fc.constant(t), node, ...rest }) as unknown as fc.Arbitrary<Step>

const weighted: readonly (readonly [number, fc.Arbitrary<Step>])[] = [
  [12, of('add', { pod })],
  [6, of('del', { pod })],
  [3, of('burst')],
  [3, of('hoard', { heir: node })],
  [2, of('leave')],
  [4, of('kill')],
  [5, of('start')],
  [2, of('reboot')],
  [3, of('cut', { cut: fc.boolean() })],
  [2, of('lag', { lagging: fc.boolean() })],
  [2, of('remove')],
  // What chance alone would rarely bring together: removed while it lives on, and another in need of addresses.
  [3, of('oust', { heir: node })],
  // Removed while its machine stands still, its addresses go to another, and then it goes on as if nothing had been.
  [2, of('haunt', { heir: node })],
  [2, of('disk', { full: fc.boolean() })],
  [2, of('clock', { ms: fc.constantFrom(-3_600_000, 700_000, 7 * MINUTE) })],
  [2, of('halt')],
  [2, of('resume')],
  [2, of('slow', { ms: fc.constantFrom(0, 40, 2500) })],
  [3, of('ask', { wanted: fc.nat(31) })],
  [1, of('retire')],
  [1, of('forget')],
  [1, of('replace', { old: fc.constantFrom('dies', 'stands still', 'is cut off') })],
  [1, of('clone', { renamed: fc.boolean() })],
  [
    4,
    fc.record({
      t: fc.constant('pool' as const),
      change: fc.constantFrom(
        'create' as const,
        'create' as const,
        'disable' as const,
        'delete' as const,
        'drain' as const,
      ),
    }),
  ],
  [7, of('doubt', { doubt: fc.constantFrom('landed', 'lost', 'late'), slot: fc.option(fc.nat(7)) })],
  [3, fc.record({ t: fc.constant('land' as const) })],
  [
    8,
    fc.record({
      t: fc.constant('time' as const),
      ms: fc.constantFrom(300, 5_000, 45_000, 4 * MINUTE, 13 * MINUTE),
    }),
  ],
]

const oneOf = (choices: readonly (readonly [number, fc.Arbitrary<Step>])[]) =>
  fc.oneof(...choices.map(([weight, arbitrary]) => ({ weight, arbitrary })))

export const anyStep: fc.Arbitrary<Step> = oneOf(weighted)

/** With an operator who puts back what the store was. */
export const anyStepWithRestore: fc.Arbitrary<Step> = oneOf([
  ...weighted,
  [5, fc.record({ t: fc.constant('backup' as const) })],
  [4, fc.record({ t: fc.constant('restore' as const) })],
])
