/**
 * `status`: what this node's daemon says of itself, and what the datastore holds. Either may be away: the other is
 * shown, and which one is missing is said. 0 only when both answer and the daemon is ready; where twillctl was not told
 * of the datastore, the daemon's connection to it counts.
 */
import type { Status } from '../../daemon/api/types.ts'
import { CLUSTER_KEY } from '../../datastore/keys.ts'
import { recordParser } from '../../datastore/record.ts'
import { clusterRecord } from '../../datastore/records/cluster.ts'
import { type Answer, answerOf } from '../answer.ts'
import { readNodes, stateOf } from '../nodes.ts'
import { readPools } from '../pools.ts'
import { renderJson } from '../render/documents.ts'
import { type DatastoreSummary, renderStatus } from '../render/status.ts'
import type { Session } from '../session.ts'
import type { Settings } from '../settings.ts'

const parseCluster = recordParser(clusterRecord)

export async function status(format: 'table' | 'json', session: Session): Promise<number> {
  const [daemon, datastore] = await Promise.all([answerOf(session.status()), answerOf(summarise(session))])
  session.modules.stdout.write(
    format === 'json'
      ? renderJson({ daemon: plain(daemon), datastore: plain(datastore) })
      : renderStatus(daemon, datastore, session.colours),
  )
  if (!daemon.ok || !daemon.value.ready) return 1
  return datastore.ok || (datastore.untold && daemon.value.datastore.connected) ? 0 : 1
}

const endpointsOf = ({ datastore, socket }: Settings) =>
  datastore.type === 'etcd'
    ? datastore.endpoints
    : datastore.type === 'kubernetes'
      ? ['custom resources of the API server']
      : [`embedded in the daemon at ${socket}`]

const plain = (answer: Answer<Status | DatastoreSummary>) =>
  answer.ok ? { ...answer.value, error: null } : { error: answer.reason }

/** @throws config.invalid, store.* */
async function summarise(session: Session): Promise<DatastoreSummary> {
  const warn = (line: string) => session.warn(line)
  const store = await session.store()
  const { entry } = await store.get(CLUSTER_KEY)
  const nodes = await readNodes([], store, warn)
  const pools = await readPools(store, warn)
  return {
    endpoints: endpointsOf(session.settings),
    clusterUid: entry === null ? null : parseCluster(entry.value, entry.key).uid,
    nodes: nodes.map(node => ({ name: node.name, state: stateOf(node) })),
    pools: pools.map(({ resource, state }) => ({
      name: resource.metadata.name,
      cidr: resource.spec.cidr,
      state,
    })),
  }
}
