/**
 * Prefixes as operators write them, checked at the edge: the family first, because the range arithmetic of
 * ip-cidr knows none (its 0.0.0.0/0 contains fd00::1, its ::ffff:10.0.0.0/104 is an IPv4 prefix); then whether it
 * is a range at all; then whether Twill reads it (lib/address, which the rest of the program uses).
 */
import { isIP } from 'node:net'
import IPCIDR from 'ip-cidr'
import { z } from 'zod'
import { formatCidr, overlaps, parseCidr } from '../../lib/address.ts'
import { messageOf } from '../../lib/errors.ts'

/** Ranges that no pod may live in, with the reason told to the operator. */
export const RESERVED: readonly (readonly [cidr: string, purpose: string])[] = [
  ['0.0.0.0/8', '"this network"'],
  ['127.0.0.0/8', 'loopback'],
  ['169.254.0.0/16', 'link-local (the gateway of every pod is 169.254.1.1)'],
  ['224.0.0.0/3', 'multicast and reserved'],
  ['::/8', 'loopback, unspecified and embedded IPv4'],
  ['fe80::/10', 'link-local'],
  ['ff00::/8', 'multicast'],
]

const EXPECTED = 'expected a prefix such as 10.0.0.0/16 or fd00::/64'

/** What is wrong with this text as a prefix, beginning with "expected"; null: nothing. */
export function problemOfCidr(text: string): string | null {
  const [address = '', length] = text.split('/')
  if (isIP(address) === 0 || address.includes('%')) return EXPECTED
  if (length === undefined) return `${EXPECTED}: a length is missing`
  if (address.includes(':') && address.includes('.')) return 'expected IPv6 in hexadecimal groups only'
  if (!IPCIDR.isValidCIDR(text)) return `expected a length from 0 to ${isIP(address) === 4 ? 32 : 128}`
  try {
    parseCidr(text)
    return null
  } catch (error) {
    const message = messageOf(error)
    return message.slice(message.indexOf('expected '))
  }
}

/** The same for a range of pod addresses: also outside what is reserved. */
export function problemOfPoolCidr(text: string): string | null {
  const problem = problemOfCidr(text)
  if (problem !== null) return problem
  const cidr = parseCidr(text)
  const reserved = RESERVED.find(([range]) => overlaps(parseCidr(range), cidr))
  return reserved === undefined
    ? null
    : `expected a range outside ${formatCidr(parseCidr(reserved[0]))}: ${reserved[1]}`
}

/** Text of a prefix, IPv4 or IPv6, without host bits. */
export const anyCidr = z.string().superRefine((text, context) => {
  const problem = problemOfCidr(text)
  if (problem !== null) context.addIssue({ code: 'custom', message: problem, input: text })
})

/** Text of a prefix for pod addresses, IPv4 or IPv6, without host bits. */
export const poolCidr = z.string().superRefine((text, context) => {
  const problem = problemOfPoolCidr(text)
  if (problem !== null) context.addIssue({ code: 'custom', message: problem, input: text })
})
