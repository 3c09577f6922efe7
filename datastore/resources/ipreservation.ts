/** IPReservation: addresses that no pool hands out. */
import { z } from 'zod'
import { type IpRange, parseRange } from '../../lib/address.ts'
import { messageOf } from '../../lib/errors.ts'
import { apiVersion, metadata } from './metadata.ts'

function problemOf(text: string): string | null {
  try {
    parseRange(text)
    return null
  } catch (error) {
    const message = messageOf(error)
    return message.slice(message.indexOf('expected '))
  }
}

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
      addresses: z.array(addresses).min(1).meta({
        description:
          'What is never handed out: addresses (10.0.0.5), prefixes (10.0.0.0/28) and ranges (10.0.0.5-10.0.0.9), of any pool or none. Pods that hold one keep it.',
      }),
    })
    .meta({ description: 'Which addresses.' }),
})

export type IPReservation = z.infer<typeof ipReservation>

export const rangesOf = ({ spec }: Pick<IPReservation, 'spec'>): IpRange[] => spec.addresses.map(parseRange)
