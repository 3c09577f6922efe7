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
  /** What is not done without any of them; everything else goes on. */
  readonly cost: string
}

export const DAEMON_RIGHTS: readonly Right[] = [
  {
    group: '',
    resource: 'pods',
    verbs: ['list', 'watch'],
    why: 'which pods there are, their labels and addresses',
    cost: 'policies know no pods',
  },
  {
    group: '',
    resource: 'pods',
    verbs: ['get'],
    why: 'the pod of an ADD that the watch does not know yet',
    cost: 'a pod that starts before the watch knows it is not waited for',
  },
  {
    group: '',
    resource: 'namespaces',
    verbs: ['list', 'watch'],
    why: 'their labels and annotations',
    cost: 'no pool is read anew, policies know no labels of theirs, and deleted nodes are not removed',
  },
  {
    group: '',
    resource: 'nodes',
    verbs: ['list', 'watch'],
    why: 'their labels, addresses and podCIDRs',
    cost: 'no pool is read anew, no startup taint removed, no deleted node noticed',
  },
  {
    group: '',
    resource: 'nodes',
    verbs: ['get'],
    why: 'whether one is really deleted',
    cost: 'deleted nodes are not removed',
  },
  {
    group: '',
    resource: 'nodes',
    verbs: ['patch'],
    why: 'the startup taint of its own',
    cost: 'the startup taint stays, and keeps pods away',
  },
  {
    group: '',
    resource: 'nodes/status',
    verbs: ['patch'],
    why: 'NetworkUnavailable of its own',
    cost: 'NetworkUnavailable is not written, nor the startup taint removed',
  },
  {
    group: 'networking.k8s.io',
    resource: 'networkpolicies',
    verbs: ['list', 'watch'],
    why: 'what they allow',
    cost: 'no policy is known',
  },
  {
    group: 'twill.network',
    resource: 'ippools',
    verbs: ['list', 'watch'],
    why: 'pools',
    cost: 'no pool is read anew',
  },
  {
    group: 'twill.network',
    resource: 'ippools',
    verbs: ['create', 'get', 'update'],
    why: 'create: the first ones; get and update: their uid and finalizer',
    cost: 'no new pool is used, and none that kubectl deletes goes away',
  },
  {
    group: 'twill.network',
    resource: 'ippools',
    verbs: ['delete'],
    why: 'those that are empty',
    cost: 'twillctl delete ippool does not work on nodes',
  },
  {
    group: 'twill.network',
    resource: 'ipreservations',
    verbs: ['list', 'watch'],
    why: 'addresses that no pool hands out',
    cost: 'no pool is read anew',
  },
  {
    group: 'twill.network',
    resource: 'ippools/status',
    verbs: ['patch'],
    why: 'whether a pool is in use, and why not',
    cost: 'the condition Accepted of pools stays Pending',
  },
  {
    group: 'twill.network',
    resource: 'ipreservations/status',
    verbs: ['patch'],
    why: 'whether it can be read',
    cost: 'the condition Accepted of reservations stays Pending',
  },
]

/** Besides, where Twill's records are custom resources (`datastore.type: kubernetes`). */
export const RECORD_RIGHTS: readonly Right[] = RECORD_KINDS.map(({ plural }) => ({
  group: RECORDS_GROUP,
  resource: plural,
  verbs: ['list', 'watch', 'create', 'update', 'delete'],
  why: 'records of nodes, slots and addresses',
  cost: 'what runs goes on, and no part of a pool is gained or given back',
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
  const [first, ...more] = rights.flatMap(right => right.verbs.map(verb => ({ verb, right })))
  if (first === undefined) return []
  const ask = async ({ verb, right }: typeof first) =>
    (await isAllowed(client, verb, right)) ? [] : [`${verb} ${nameOf(right)}`]
  // One alone: a server that is away is asked one question, not all of them.
  const answers = [await ask(first), ...(await Promise.all(more.map(ask)))]
  return answers.flat()
}

export const nameOf = ({ group, resource }: Right): string =>
  group === '' ? resource : `${resource}.${group}`

/** One message for all of them, with what each costs. */
export function rightsMessage(missing: readonly string[]): string {
  const lacking = [...DAEMON_RIGHTS, ...RECORD_RIGHTS].flatMap(right => {
    const verbs = right.verbs.filter(verb => missing.includes(`${verb} ${nameOf(right)}`))
    return verbs.length === 0 ? [] : [`${verbs.join(' and ')} ${nameOf(right)} (${right.cost})`]
  })
  return `the API server does not let this node ${lacking.join(', ')}: the ClusterRole ${CLUSTER_ROLE} of deploy/manifests has all that is needed`
}

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
