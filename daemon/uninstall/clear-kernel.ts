/**
 * Takes everything of ours out of the node's kernel: what the plan of a node that wants nothing would delete, the gateway on
 * `lo`, links that await deletion, our chains in the tables of others, and last our own table, which confines pods as long
 * as there are any.
 *
 * Kernel switches stay: forwarding may be somebody else's need by now.
 */
import type { Kernel, StepOutcome } from '../../kernel/kernel.ts'
import { GATEWAY, NFT_TABLE, POD_LINK_PREFIX } from '../../kernel/ownership.ts'
import { messageOf, TwillError } from '../../lib/errors.ts'
import { faultPoint } from '../../lib/fault.ts'
import { counted } from '../../lib/plural.ts'
import { observe } from '../apply/observe.ts'
import type { DesiredState } from '../desired/state.ts'
import { addressKey } from '../plan/addresses.ts'
import { type Change, KINDS, type Kind, type Observed } from '../plan/observed.ts'
import { plan } from '../plan/plan.ts'

const NOTHING: DesiredState = {
  known: true,
  complete: true,
  vitals: [],
  links: [],
  hostEnds: [],
  addresses: [],
  routes: [],
  neighbours: [],
  fdb: [],
  sysctls: [],
  held: { devices: new Set(), prefixes: new Set() },
  forwardsIpv6: false,
}

/** What a step needs may go only with another one's. */
const PASSES = 3

/**
 * @param addresses of pods that the journal knows: their tracked flows are forgotten
 * @param removed is told of each thing, or kind of things, that is gone
 * @throws kernel.failed, naming what stays
 */
export async function clearKernel(
  addresses: readonly string[],
  { kernel, removed }: { readonly kernel: Kernel; readonly removed: (what: string) => void },
): Promise<void> {
  const changes = await removeObjects(kernel)
  for (const what of summary(changes)) removed(what)
  const { deleted } = await kernel.reapLinks([...new Set([...addresses, ...addressesOf(changes)])])
  for (const name of deleted) removed(`link ${name}`)
  faultPoint('uninstall.links-removed')
  const { changed } = await kernel.ensureAcceptChains([])
  for (const where of changed) removed(`accept chain in ${where}`)
  if (await kernel.removeRuleset()) removed(`nftables table inet ${NFT_TABLE}`)
}

async function removeObjects(kernel: Kernel): Promise<Change[]> {
  const gone: Change[] = []
  let failed: readonly StepOutcome[] = []
  for (let pass = 0; pass < PASSES; pass++) {
    const changes = unwanted(await observe(kernel, new Set(KINDS), NOTHING))
    if (changes.length === 0) return gone
    const outcomes = await kernel.apply(changes.map(({ step }) => step))
    failed = outcomes.filter(({ error }) => error !== null)
    gone.push(...changes.filter((_, index) => !outcomes[index]?.error))
  }
  const left = unwanted(await observe(kernel, new Set(KINDS), NOTHING))
  if (left.length === 0) return gone
  const names = left.map(({ kind, key }) => `${kind} ${key}`)
  const reasons = [...new Set(failed.map(({ error }) => messageOf(error)))]
  throw new TwillError(
    'kernel.failed',
    `still in the kernel: ${names.join(', ')} (${reasons.join('; ') || 'somebody puts it back'}). Run this again`,
    { operation: 'uninstall', errno: '', message: reasons.join('; ') },
    { retryable: true },
  )
}

/** An address on `lo` tells nobody whose it is, so the plan deletes none there. */
function unwanted(observed: Observed): readonly Change[] {
  const gateway = observed.addresses
    .filter(({ device, address, prefix }) => device === 'lo' && address === GATEWAY[4] && prefix === 32)
    .map((found): Change => {
      const { device, family, address, prefix } = found
      const step = { type: 'address.delete', device, family, address, prefix } as const
      return { kind: 'address', key: addressKey(found), reason: 'unwanted', step }
    })
  return [...plan(NOTHING, observed).changes, ...gateway]
}

const PLURAL: Readonly<Record<Exclude<Kind, 'link' | 'address' | 'sysctl'>, string>> = {
  route: 'route',
  neighbour: 'permanent neighbour',
  fdb: 'FDB entry',
}

/** Links and addresses by name; of the rest how many. */
function summary(changes: readonly Change[]): string[] {
  const named = changes.filter(({ kind }) => kind === 'link' || kind === 'address')
  const counts = (Object.keys(PLURAL) as (keyof typeof PLURAL)[]).flatMap(kind => {
    const count = changes.filter(change => change.kind === kind).length
    return count === 0 ? [] : [counted(count, PLURAL[kind])]
  })
  return [...counts, ...named.map(({ kind, key }) => `${kind} ${key}`)]
}

/** Of pods that only the kernel knew. */
const addressesOf = (changes: readonly Change[]): string[] =>
  changes.flatMap(({ step }) =>
    step.type === 'route.delete' && step.route.device?.startsWith(POD_LINK_PREFIX)
      ? [step.route.dst.replace(/\/.*/, '')]
      : [],
  )
