/** The CustomResourceDefinitions of Twill's own records, for clusters in which they live (`datastore.type: kubernetes`). */
import { OTHER_CLUSTER, RECORD_KINDS, RECORDS_GROUP, RECORDS_VERSION, type RecordKind } from '../records.ts'
import type { CustomResourceDefinition } from './definitions.ts'

/** What etcd takes in one request, by default. */
const VALUE_LENGTH = 1_500_000
const KEY_LENGTH = 1024

const SPEC = {
  type: 'object',
  required: ['key', 'value', 'commit'],
  properties: {
    key: {
      description: 'Where the record stands, as docs/datastore.md lists them.',
      type: 'string',
      maxLength: KEY_LENGTH,
      'x-kubernetes-validations': [
        { rule: 'self == oldSelf', message: 'expected no other than before: immutable' },
      ],
    },
    value: { description: 'The record, as JSON text.', type: 'string', maxLength: VALUE_LENGTH },
    commit: { description: 'Another in each write, so that each is one.', type: 'string', maxLength: 64 },
    cluster: { description: 'UID of the cluster that wrote it.', type: 'string', maxLength: 64 },
  },
  'x-kubernetes-validations': [
    {
      rule: '!has(oldSelf.cluster) || !has(self.cluster) || self.cluster == oldSelf.cluster',
      message: OTHER_CLUSTER,
      fieldPath: '.cluster',
    },
  ],
}

export const recordDefinitions = (): CustomResourceDefinition[] => RECORD_KINDS.map(definitionOfRecord)

function definitionOfRecord({ kind, plural, singular }: RecordKind): CustomResourceDefinition {
  return {
    apiVersion: 'apiextensions.k8s.io/v1',
    kind: 'CustomResourceDefinition',
    metadata: { name: `${plural}.${RECORDS_GROUP}` },
    spec: {
      group: RECORDS_GROUP,
      scope: 'Cluster',
      names: { kind, listKind: `${kind}List`, plural, singular },
      versions: [
        {
          name: RECORDS_VERSION,
          served: true,
          storage: true,
          schema: {
            openAPIV3Schema: {
              description: 'A record of Twill: its daemons write it, nobody else should.',
              type: 'object',
              required: ['spec'],
              properties: {
                apiVersion: { type: 'string' },
                kind: { type: 'string' },
                metadata: { type: 'object' },
                spec: SPEC,
              },
            },
          },
          additionalPrinterColumns: [
            { name: 'Key', type: 'string', jsonPath: '.spec.key' },
            { name: 'Age', type: 'date', jsonPath: '.metadata.creationTimestamp' },
          ],
        },
      ],
    },
  }
}
