/**
 * What a daemon asks of the API server, counted by the server itself: flow schemas of its own, which requests are counted
 * by, one for watches and one for everything else. They are exempt from queueing, as those of the rig's daemons are.
 *
 * Trap: the rig's daemons are administrators, whom the built-in schema "exempt" takes before any other. Here the daemon
 * gets a name and a group of its own, with the same rights, and starts again.
 */
import { cpSync } from 'node:fs'
import { join } from 'node:path'
import type { KubernetesCluster } from '../hack/rig/kubernetes/cluster.ts'
import { Credentials } from '../hack/rig/kubernetes/credentials.ts'
import { KUBECONFIG } from '../hack/rig/kubernetes/twill.ts'

/** The first after "exempt". */
const PRECEDENCE = 2
const WATCHES = 'bench-twilld-watches'
const REQUESTS = 'bench-twilld-requests'
const OTHERS = ['get', 'list', 'create', 'update', 'patch', 'delete', 'deletecollection']

const GROUP = 'bench:twilld'

const RIGHTS = {
  apiVersion: 'rbac.authorization.k8s.io/v1',
  kind: 'ClusterRoleBinding',
  metadata: { name: 'bench-twilld' },
  roleRef: { apiGroup: 'rbac.authorization.k8s.io', kind: 'ClusterRole', name: 'cluster-admin' },
  subjects: [{ apiGroup: 'rbac.authorization.k8s.io', kind: 'Group', name: GROUP }],
}

function flowSchema(name: string, verbs: readonly string[]): object {
  const resourceRules = [{ verbs, apiGroups: ['*'], resources: ['*'], clusterScope: true, namespaces: ['*'] }]
  return {
    apiVersion: 'flowcontrol.apiserver.k8s.io/v1',
    kind: 'FlowSchema',
    metadata: { name },
    spec: {
      priorityLevelConfiguration: { name: 'exempt' },
      matchingPrecedence: PRECEDENCE,
      rules: [{ subjects: [{ kind: 'Group', group: { name: GROUP } }], resourceRules }],
    },
  }
}

export interface Asked {
  readonly watches: number
  readonly others: number
}

/** Of the daemon of this node, from its start on, which this is. */
export async function countRequests(cluster: KubernetesCluster, node: string): Promise<void> {
  const items = [RIGHTS, flowSchema(WATCHES, ['watch']), flowSchema(REQUESTS, OTHERS)]
  await cluster.mustKubectl(['apply', '-f', '-'], JSON.stringify({ apiVersion: 'v1', kind: 'List', items }))
  // Said by whoever goes by them, once it does.
  const obeyed = ['--for=condition=Dangling=False', '--timeout=60s']
  await cluster.mustKubectl(['wait', ...obeyed, ...[WATCHES, REQUESTS].map(name => `flowschema/${name}`)])
  const credentials = new Credentials(join(cluster.kubeconfig, '..'))
  const own = credentials.kubeconfig('bench-twilld', 'twilld', [GROUP])
  await cluster.rig.stopDaemon(node)
  cpSync(own, cluster.node(node).path(KUBECONFIG))
  await cluster.rig.startDaemon(node)
}

/** Since `countRequests`. */
export async function askedSoFar(cluster: KubernetesCluster): Promise<Asked> {
  const metrics = await cluster.mustKubectl(['get', '--raw', '/metrics'])
  const of = (schema: string): number => {
    const line = new RegExp(
      `^apiserver_flowcontrol_dispatched_requests_total\\{flow_schema="${schema}"[^}]*\\} (\\S+)`,
      'm',
    )
    return Number(line.exec(metrics)?.[1] ?? 0)
  }
  return { watches: of(WATCHES), others: of(REQUESTS) }
}
