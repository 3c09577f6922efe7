/**
 * What the daemon may ask of the API server, each with its reason: the one table from which the ClusterRole of
 * deploy/manifests is made, and by which the daemon looks at its start whether it has been given them.
 *
 * Nothing to spare: no right stands here that no code uses.
 */
import { isTwillError } from '../../lib/errors.ts'
import type { KubernetesClient } from './client.ts'
import { RECORD_KINDS, RECORDS_GROUP } from './records.ts'

export interface Right {
  /** '' is the core group. */
  readonly group: string
  /** With its subresource: nodes/status. */
  readonly resource: string
  readonly verbs: readonly string[]
  readonly why: string
}

export const DAEMON_RIGHTS: readonly Right[] = [
  {
    group: '',
    resource: 'pods',
    verbs: ['get', 'list', 'watch'],
    why: 'which pods there are, their labels and addresses; get: the pod of an ADD that the watch does not know yet',
  },
  { group: '', resource: 'namespaces', verbs: ['list', 'watch'], why: 'their labels and annotations' },
  {
    group: '',
    resource: 'nodes',
    verbs: ['get', 'list', 'watch', 'patch'],
    why: 'their labels, addresses and podCIDRs; get: whether one is really deleted; patch: the startup taint of its own',
  },
  { group: '', resource: 'nodes/status', verbs: ['patch'], why: 'NetworkUnavailable of its own' },
  {
    group: 'networking.k8s.io',
    resource: 'networkpolicies',
    verbs: ['list', 'watch'],
    why: 'what they allow',
  },
  {
    group: 'twill.network',
    resource: 'ippools',
    verbs: ['get', 'list', 'watch', 'create', 'update', 'delete'],
    why: 'pools; create: the first ones; update: their uid and finalizer; delete: those that are empty',
  },
  {
    group: 'twill.network',
    resource: 'ipreservations',
    verbs: ['list', 'watch'],
    why: 'addresses that no pool hands out',
  },
  {
    group: 'twill.network',
    resource: 'ippools/status',
    verbs: ['patch'],
    why: 'whether a pool is in use, and why not',
  },
  {
    group: 'twill.network',
    resource: 'ipreservations/status',
    verbs: ['patch'],
    why: 'whether it can be read',
  },
]

/** Besides, where Twill's records are custom resources (`datastore.type: kubernetes`). */
export const RECORD_RIGHTS: readonly Right[] = RECORD_KINDS.map(({ plural }) => ({
  group: RECORDS_GROUP,
  resource: plural,
  verbs: ['list', 'watch', 'create', 'update', 'delete'],
  why: 'records of nodes, slots and addresses',
}))

/** The ClusterRole of deploy/manifests that has them all. */
export const CLUSTER_ROLE = 'twill'

const REVIEWS = '/apis/authorization.k8s.io/v1/selfsubjectaccessreviews'

interface Review {
  readonly status?: { readonly allowed?: boolean }
}

/**
 * Each "VERB RESOURCE[.GROUP]", in the order of the table; [] when none is missing.
 * @throws kubernetes.unavailable, kubernetes.unauthorized: the server does not say
 */
export async function missingRights(
  client: Pick<KubernetesClient, 'request'>,
  rights: readonly Right[] = DAEMON_RIGHTS,
): Promise<string[]> {
  const asked = rights.flatMap(right => right.verbs.map(verb => ({ verb, right })))
  const allowed = await Promise.all(asked.map(({ verb, right }) => isAllowed(client, verb, right)))
  return asked.filter((_, i) => !allowed[i]).map(({ verb, right }) => `${verb} ${nameOf(right)}`)
}

export const nameOf = ({ group, resource }: Right): string =>
  group === '' ? resource : `${resource}.${group}`

/** One message for all of them. */
export const rightsMessage = (missing: readonly string[]): string =>
  `the API server does not let this node ${missing.join(', ')}: the ClusterRole ${CLUSTER_ROLE} of deploy/manifests has all that is needed`

async function isAllowed(
  client: Pick<KubernetesClient, 'request'>,
  verb: string,
  { group, resource: whole }: Right,
): Promise<boolean> {
  const [resource, subresource] = whole.split('/')
  const body = {
    apiVersion: 'authorization.k8s.io/v1',
    kind: 'SelfSubjectAccessReview',
    spec: { resourceAttributes: { verb, group, resource, subresource } },
  }
  try {
    const { status } = await client.request<Review>('POST', REVIEWS, { body })
    return status?.allowed === true
  } catch (error) {
    // Who may not even ask is told by the first request that is refused.
    if (isTwillError(error, 'kubernetes.forbidden')) return true
    throw error
  }
}
