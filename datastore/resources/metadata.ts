/**
 * What every operator resource has: apiVersion, kind, metadata, spec. Each kind is defined once, in zod: the
 * validator, the TypeScript type and the CRD schema come from it. Objects are strict: unknown fields are errors.
 */
import { z } from 'zod'
import { RESOURCE_NAME } from '../../lib/pool-annotations.ts'

export const API_VERSION = 'twill.network/v1alpha1'

export const resourceName = z
  .string()
  .max(253)
  .regex(RESOURCE_NAME, 'expected lower-case letters, digits, "-" and "."')

/** Labels as Kubernetes has them: an optional prefix, a name of at most 63 characters. */
export const LABEL_KEY =
  /^([a-z0-9]([-a-z0-9.]{0,251}[a-z0-9])?\/)?[A-Za-z0-9]([-A-Za-z0-9_.]{0,61}[A-Za-z0-9])?$/
export const labelKey = z.string().regex(LABEL_KEY, 'expected a label name such as zone or example.com/zone')
export const labelValue = z
  .string()
  .regex(
    /^([A-Za-z0-9]([-A-Za-z0-9_.]{0,61}[A-Za-z0-9])?)?$/,
    'expected at most 63 letters, digits, "-", "_" and "."',
  )

export const apiVersion = z.literal(API_VERSION).meta({ description: 'The version of this schema.' })

export const metadata = z
  .strictObject({
    name: resourceName.meta({ description: 'One of a kind: lower-case letters, digits, "-" and ".".' }),
    uid: z.string().optional().meta({ description: 'Given at creation; never written by the operator.' }),
    creationTimestamp: z.string().optional().meta({ description: 'Given at creation, RFC 3339.' }),
    deletionTimestamp: z
      .string()
      .optional()
      .meta({ description: 'Given by Kubernetes when it was told to delete it, RFC 3339.' }),
    labels: z.record(labelKey, labelValue).optional().meta({ description: 'For selectors.' }),
    annotations: z.record(z.string(), z.string()).optional().meta({ description: 'Anything else.' }),
  })
  .meta({ description: 'Its name, and labels for selectors.' })
