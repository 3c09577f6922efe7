/** `get KIND [NAME]`: resources with what the cluster makes of them: a pool's fill, a node's own record. */
import { kindNamed, type Resource, type ResourceKind } from '../../datastore/resources/kinds.ts'
import { API_VERSION } from '../../datastore/resources/metadata.ts'
import type { Node } from '../../datastore/resources/node.ts'
import { type KnownNode, readNodes } from '../nodes.ts'
import { readPools } from '../pools.ts'
import { documentCells, documentHeaders } from '../render/columns.ts'
import { renderJson, renderYaml } from '../render/documents.ts'
import { nodeStatus, nodeTable } from '../render/nodes.ts'
import { poolStatus, poolTable } from '../render/pools.ts'
import { renderTable } from '../render/table.ts'
import { listResources, notFound } from '../resources.ts'
import type { Session } from '../session.ts'
import { readOccupancy } from '../usage.ts'

export type OutputFormat = 'table' | 'wide' | 'yaml' | 'json'

/** One resource in every form it can be shown in. */
interface Shown {
  readonly name: string
  /** What `apply` takes back. */
  readonly document: object
  readonly status: object
}

interface Listing<T> {
  readonly items: readonly T[]
  readonly show: (item: T) => Shown
  readonly table: (items: readonly T[], wide: boolean) => string
}

export async function get(
  kind: ResourceKind,
  name: string | null,
  format: OutputFormat,
  session: Session,
): Promise<number> {
  if (kind.kind === 'Node') return print(kind, name, format, await nodeListing(session), session)
  if (kind.kind === 'IPPool') return print(kind, name, format, await poolListing(session), session)
  return print(kind, name, format, await plainListing(kind, session), session)
}

/** Of a kind of which the cluster makes nothing that could be shown. */
async function plainListing(kind: ResourceKind, session: Session): Promise<Listing<Resource>> {
  return {
    items: await listResources(kind, await session.store(), line => session.warn(line)),
    table: (items, wide) =>
      renderTable(
        ['NAME', ...documentHeaders(kind, wide)],
        items.map(item => [item.metadata.name, ...documentCells(kind, item, wide)]),
      ),
    show: item => ({ name: item.metadata.name, document: item, status: {} }),
  }
}

async function nodeListing(session: Session): Promise<Listing<KnownNode>> {
  const warn = (line: string) => session.warn(line)
  const store = await session.store()
  const resources = (await listResources(kindNamed('node')!, store, warn)) as Node[]
  const nodes = await readNodes(resources, store, warn)
  const occupancy = await readOccupancy(store, warn)
  return {
    items: nodes,
    table: (items, wide) => nodeTable(items, occupancy, wide),
    show: node => ({
      name: node.name,
      document: node.resource ?? emptyNode(node.name),
      status: nodeStatus(node, occupancy),
    }),
  }
}

/** A node of which the operator said nothing, as a document to begin with. */
const emptyNode = (name: string): Node => ({
  apiVersion: API_VERSION,
  kind: 'Node',
  metadata: { name },
  spec: {},
})

async function poolListing(
  session: Session,
): Promise<Listing<Awaited<ReturnType<typeof readPools>>[number]>> {
  const warn = (line: string) => session.warn(line)
  const store = await session.store()
  const pools = await readPools(store, warn)
  const occupancy = await readOccupancy(store, warn)
  return {
    items: pools,
    table: (items, wide) => poolTable(items, occupancy, wide),
    show: pool => ({
      name: pool.resource.metadata.name,
      document: pool.resource,
      status: poolStatus(pool, occupancy),
    }),
  }
}

/** @throws resource.not-found */
function print<T>(
  kind: ResourceKind,
  name: string | null,
  format: OutputFormat,
  { items, show, table }: Listing<T>,
  session: Session,
): number {
  const chosen = items.filter(item => name === null || show(item).name === name)
  if (name !== null && chosen.length === 0) throw notFound(kind, name)
  if (format === 'yaml' || format === 'json') {
    const isElsewhere = kind.kind === 'IPPool' && session.settings.kubernetes.enabled
    const shown = chosen.map(show)
    session.modules.stdout.write(
      format === 'yaml'
        ? renderYaml(shown.map(({ document }) => (isElsewhere ? withoutUid(document) : document)))
        : jsonOf(shown, name !== null),
    )
  } else if (chosen.length === 0) session.note(`no ${kind.plural}`)
  else session.modules.stdout.write(table(chosen, format === 'wide'))
  return 0
}

/** At the API server a pool's object has another uid than in the address space: `kubectl apply` would be refused for it. */
function withoutUid(document: object): object {
  const { metadata, ...rest } = document as Resource
  const { uid: _, ...shown } = metadata
  const { apiVersion, kind, ...spec } = rest
  return { apiVersion, kind, metadata: shown, ...spec }
}

function jsonOf(shown: readonly Shown[], single: boolean): string {
  const objects = shown.map(({ document, status }) => ({ ...document, status }))
  return renderJson(single ? objects[0] : objects)
}
