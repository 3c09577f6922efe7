/** Names that derive from an attachment: stable where a restart must recognise them, fresh where reuse would race. */
import { POD_ALIAS_PREFIX, POD_LINK_PREFIX } from '../../kernel/ownership.ts'
import type { Random } from '../../lib/clock.ts'

export const aliasOf = (id: string): string => `${POD_ALIAS_PREFIX}${id}`

/** Fresh for every ADD: the link of an earlier attachment of the same container may still await its deletion. */
export const hostInterfaceName = (random: Random): string => `${POD_LINK_PREFIX}${random.hex(6)}`

/** Random, unicast, locally administered (IEEE 802): chosen here so that the policy element can precede the link. */
export function podMac(random: Random): string {
  const octets = random.hex(6).match(/../g) as string[]
  const first = (Number.parseInt(octets[0] as string, 16) & 0xfc) | 0x02
  return [first.toString(16).padStart(2, '0'), ...octets.slice(1)].join(':')
}
