/** IPReservation: addresses that no pool hands out. */
import { z } from 'zod'
import { contains, type IpRange, parseCidr, parseRange } from '../../lib/address.ts'
import { messageOf } from '../../lib/errors.ts'
import { apiVersion, metadata } from './metadata.ts'

/** To Kubernetes these are no addresses, and to us they never equal the IPv4 address that was meant. */
const MAPPED = parseCidr('::ffff:0:0/96')
const EXPECTED_UNMAPPED = 'expected an IPv4 address as such, not within IPv6'

function problemOf(text: string): string | null {
  try {
    const { family, first, last } = parseRange(text)
    return [first, last].some(value => contains(MAPPED, { family, value })) ? EXPECTED_UNMAPPED : null
  } catch (error) {
    const message = messageOf(error)
    return message.slice(message.indexOf('expected '))
  }
}

/** Of one reservation. */
const ADDRESSES_MAX = 512

const addresses = z.string().superRefine((text, context) => {
  const message = problemOf(text)
  if (message !== null) context.addIssue({ code: 'custom', message, input: text })
})

export const ipReservation = z.strictObject({
  apiVersion,
  kind: z.literal('IPReservation').meta({ description: 'What this is a document of.' }),
  metadata,
  spec: z
    .strictObject({
      addresses: z.array(addresses).min(1).max(ADDRESSES_MAX).meta({
        description:
          'What is never handed out: addresses (10.0.0.5), prefixes (10.0.0.0/28) and ranges (10.0.0.5-10.0.0.9), of any pool or none. Pods that hold one keep it.',
      }),
    })
    .meta({ description: 'Which addresses.' }),
})

export type IPReservation = z.infer<typeof ipReservation>

export const rangesOf = ({ spec }: Pick<IPReservation, 'spec'>): IpRange[] => spec.addresses.map(parseRange)
