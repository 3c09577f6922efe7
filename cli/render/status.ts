/** `twillctl status` for people: a summary, then nodes, parts and pods as tables. */
import type { LeaseStatus, PodStatus, Status } from '../../daemon/api/types.ts'
import type { Answer } from '../answer.ts'
import type { Colours } from './colours.ts'
import { renderTable } from './table.ts'

export interface DatastoreSummary {
  readonly endpoints: readonly string[]
  readonly clusterUid: string | null
  readonly nodes: readonly { readonly name: string; readonly state: string }[]
  readonly pools: readonly { readonly name: string; readonly cidr: string; readonly state: string }[]
}

type Line = readonly [label: string, text: string]

export function renderStatus(
  daemon: Answer<Status>,
  datastore: Answer<DatastoreSummary>,
  colours: Colours,
): string {
  const lines: Line[] = [
    ...(daemon.ok ? daemonLines(daemon.value, colours) : [away('Daemon', daemon.reason, colours)]),
    ...(datastore.ok ? datastoreLines(datastore.value) : [noDatastore(datastore, colours)]),
  ]
  const sections = [renderLines(lines), ...(daemon.ok ? tables(daemon.value) : [])]
  return sections.join('\n')
}

function renderLines(lines: readonly Line[]): string {
  const width = Math.max(...lines.map(([label]) => label.length)) + 2
  return lines.map(([label, text]) => `${label.padEnd(width)}${text}\n`).join('')
}

const away = (label: string, reason: string, colours: Colours): Line => [
  label,
  `${colours.red('away')}: ${reason}`,
]

function noDatastore({ reason, untold }: Answer<DatastoreSummary> & { ok: false }, colours: Colours): Line {
  if (untold) return ['Datastore', `${colours.yellow('not asked')}: ${reason}`]
  return away('Datastore', reason, colours)
}

function daemonLines(status: Status, colours: Colours): Line[] {
  const { node, overlay } = status
  return [
    ['Node', `${node.name}, uid ${node.uid}, incarnation ${node.incarnation}`],
    ['Daemon', `twilld ${node.version}, pid ${node.pid}, since ${node.startedAt}`],
    ['Ready', status.ready ? colours.green('yes') : `${colours.red('no')}: ${status.reasons.join('; ')}`],
    ['Its datastore', datastoreOfDaemon(status.datastore, colours)],
    ...(status.kubernetes ? [kubernetesLine(status.kubernetes, colours)] : []),
    ...status.underlay.map(
      (each): Line => [
        `Underlay IPv${each.family}`,
        `${each.address} on ${each.device}, MTU ${each.mtu}: ${each.reason}`,
      ],
    ),
    [
      'Overlay',
      `${overlay.device ?? 'no device'}, VNI ${overlay.vni}, port ${overlay.port}, tunnel ${listed(overlay.tunnel)}, MTU of pods ${overlay.podMtu}`,
    ],
    ['Reconcile', reconcile(status.reconcile)],
    ...status.reconcile.failing.map((each): Line => ['Failing', colours.yellow(each)]),
    ...status.conditions.map((each): Line => ['Condition', `${colours.yellow(each.type)}: ${each.message}`]),
    ...status.foreignFilters.map(
      (each): Line => [
        'Foreign filter',
        `${colours.yellow(`${each.table} ${each.chain}`)} (${each.hook}): ${each.reason}`,
      ],
    ),
  ]
}

function datastoreOfDaemon(datastore: Status['datastore'], colours: Colours): string {
  const { connected, reason, clusterUid, commits, lastAnswerAt, confirmed } = datastore
  if (connected) {
    const told = confirmed ? '' : `, ${colours.yellow('has not said yet who this node is')}`
    return `connected, cluster ${clusterUid ?? 'unknown'}, ${commits} commits${told}`
  }
  const since = lastAnswerAt === null ? 'no answer since the start' : `last answer at ${lastAnswerAt}`
  return `${colours.red('not connected')}, ${since}: ${reason ?? 'no reason given'}`
}

/** "connected, 12 pods of this node, 4988 pods of other nodes, ..."; what is wrong stands in the conditions. */
function kubernetesLine(kubernetes: NonNullable<Status['kubernetes']>, colours: Colours): Line {
  const { connected, server, watched } = kubernetes
  const state = connected ? 'connected' : colours.red('not connected')
  const counts = watched.map(({ what, objects }) => `${objects} ${what}`)
  return ['Kubernetes', `${state} to ${server}: ${listed(counts)}`]
}

function reconcile(state: Status['reconcile']): string {
  const repairs = Object.entries(state.repairs).map(([kind, count]) => `${kind} ${count}`)
  return `${state.converged ? 'converged' : 'not converged yet'}, repairs: ${listed(repairs)}`
}

function datastoreLines(datastore: DatastoreSummary): Line[] {
  const nodes = datastore.nodes.map(({ name, state }) =>
    state === 'Registered' ? name : `${name} (${state})`,
  )
  const pools = datastore.pools.map(
    ({ name, cidr, state }) => `${name} ${cidr}${state === 'Open' ? '' : ` (${state})`}`,
  )
  return [
    [
      'Datastore',
      `${listed(datastore.endpoints)} answers, cluster ${datastore.clusterUid ?? 'not founded yet'}`,
    ],
    ['Nodes', listed(nodes)],
    ['Pools', listed(pools)],
  ]
}

function tables(status: Status): string[] {
  const nodes = status.nodes.map(node => [
    `${node.name}${node.self ? ' (this node)' : ''}`,
    node.underlay.join(','),
    node.tunnel.join(','),
  ])
  const parts = status.parts.map(part => [
    part.pool,
    part.cidr,
    String(part.free),
    String(part.held),
    part.usable ? 'yes' : 'no',
  ])
  return [
    table('NODE', ['UNDERLAY', 'TUNNEL'], nodes),
    table('POOL', ['PART', 'FREE', 'HELD', 'USABLE'], parts),
    table('POD', ['ADDRESSES', 'INTERFACE', 'HOST END', 'STATE'], status.pods.map(podCells)),
    table('LEASE', ['ADDRESSES', 'INTERFACE', 'NETWORK', 'NAMESPACE'], status.leases.map(leaseCells)),
  ].filter(text => text !== '')
}

const table = (first: string, more: readonly string[], rows: readonly string[][]) =>
  rows.length === 0 ? '' : renderTable([first, ...more], rows)

const nameOf = ({ pod, containerId }: Pick<PodStatus, 'pod' | 'containerId'>): string =>
  pod === null ? containerId : `${pod.namespace}/${pod.name}`

const podCells = (pod: PodStatus): string[] => [
  nameOf(pod),
  pod.addresses.join(','),
  pod.ifName,
  pod.hostInterface,
  pod.state,
]

/** Interfaces that other plugins made. */
const leaseCells = (lease: LeaseStatus): string[] => [
  nameOf(lease),
  lease.addresses.join(','),
  lease.ifName,
  lease.network,
  lease.netns,
]

const listed = (words: readonly string[]) => (words.length === 0 ? 'none' : words.join(', '))
