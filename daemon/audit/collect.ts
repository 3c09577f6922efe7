/**
 * The facts of an audit, each from its own source. A source that cannot be asked is told as such and proves nothing.
 *
 * Trap: the sources are read one after the other. The journal comes before and after the kernel, and only what both
 * times was the same is judged.
 */
import { PREFIX } from '../../datastore/keys.ts'
import { recordParser } from '../../datastore/record.ts'
import { ledgerRecord } from '../../datastore/records/ledger.ts'
import type { Store } from '../../datastore/store.ts'
import type { NodeIpam } from '../../ipam/node-ipam.ts'
import type { Kernel } from '../../kernel/kernel.ts'
import { ROUTE_PROTOCOL } from '../../kernel/ownership.ts'
import { type Cidr, formatIp, parseCidr, parseIp } from '../../lib/address.ts'
import type { Clock } from '../../lib/clock.ts'
import { isTwillError, messageOf } from '../../lib/errors.ts'
import type { Log } from '../../lib/log.ts'
import type { Attachments } from '../attach/attachments.ts'
import type { Leases } from '../attach/leases.ts'
import type { Registry } from '../attach/registry.ts'
import type { Attachment, Lease } from '../journal/records.ts'
import type { RuntimeConnection } from '../runtime/cri.ts'
import type { Namespace, NodeFacts, RuntimeView } from './compare.ts'

export interface CollectModules {
  readonly registry: Pick<Registry, 'all'>
  readonly attachments: Pick<Attachments, 'busy'>
  readonly leases: Pick<Leases, 'all' | 'busy'>
  readonly ipam: Pick<NodeIpam, 'holders' | 'ownParts'>
  readonly kernel: Pick<Kernel, 'inspectPod' | 'readLinks' | 'readRoutes' | 'readNeighbours'>
  /** Is anybody visible in the namespace of this inode? null: nobody is visible, whoever is there. */
  readonly isInhabited: ((inode: string) => Promise<boolean>) | null
  readonly store: Pick<Store, 'get'>
  /** null: there is none to ask. */
  readonly runtime: () => { readonly socket: string; connect(): RuntimeConnection } | null
  /** CIDRs of all pools. */
  readonly pools: () => readonly string[]
  readonly clock: Clock
  readonly log: Log
}

export interface Collected {
  readonly facts: NodeFacts
  /** For people: the socket, "none", or why it did not answer. */
  readonly runtime: string
}

type Placed = Attachment | Lease
const parseLedger = recordParser(ledgerRecord)

/** @throws kernel.failed */
export async function collectFacts(nodeUid: string, modules: CollectModules): Promise<Collected> {
  const { registry, attachments, leases, ipam, kernel, clock } = modules
  const busyBefore = attachments.busy()
  const before = registry.all()
  const lent = leases.all()
  const holders = ipam.holders()
  const runtime = await askRuntime([...before, ...lent], modules)
  const ledger = await readLedgers(nodeUid, modules)
  const attached = before.filter(({ state }) => state === 'attached')
  const namespaces = await lookInside([...attached, ...lent], modules)
  const [links, routes, neighbours] = await Promise.all([
    kernel.readLinks(),
    kernel.readRoutes({ protocol: ROUTE_PROTOCOL }),
    kernel.readNeighbours(),
  ])
  const changed = whatChanged([...before, ...lent], [...registry.all(), ...leases.all()])
  const facts: NodeFacts = {
    nowBoottimeMs: clock.boottimeMs(),
    attachments: before,
    leases: lent,
    busy: new Set([...busyBefore, ...attachments.busy(), ...leases.busy(), ...changed]),
    namespaces,
    inhabited: await lookForInhabitants(lent, namespaces, modules),
    holders,
    ledger,
    links,
    routes,
    neighbours,
    runtime: runtime.view,
    pools: modules.pools().map((text): Cidr => parseCidr(text)),
  }
  return { facts, runtime: runtime.said }
}

/** Ids of attachments that came, went or changed meanwhile. Records are replaced, never changed. */
function whatChanged(before: readonly Placed[], after: readonly Placed[]): string[] {
  const known = new Set(before)
  const still = new Set(after)
  return [
    ...after.filter(each => !known.has(each)).map(({ id }) => id),
    ...before.filter(each => !still.has(each)).map(({ id }) => id),
  ]
}

async function lookInside(
  all: readonly Placed[],
  { kernel, log }: CollectModules,
): Promise<Map<string, Namespace>> {
  const found = new Map<string, Namespace>()
  for (const { id, netns, netnsCookie, ifName } of all) {
    // An adopted pod's path is known to nobody.
    if (netns.path === '') continue
    try {
      const inside = await kernel.inspectPod(netns, ifName)
      const same = netnsCookie === null || inside.netnsCookie === netnsCookie
      found.set(id, same ? { is: 'same', pod: inside.pod } : { is: 'gone' })
    } catch (error) {
      const gone = isTwillError(error, 'kernel.netns-gone') || isTwillError(error, 'kernel.netns-mismatch')
      if (!gone) log.debug({ id, error: messageOf(error) }, 'a namespace could not be looked into')
      found.set(id, { is: gone ? 'gone' : 'unknown' })
    }
  }
  return found
}

async function lookForInhabitants(
  lent: readonly Lease[],
  namespaces: ReadonlyMap<string, Namespace>,
  { isInhabited, log }: CollectModules,
): Promise<Map<string, boolean>> {
  const found = new Map<string, boolean>()
  if (isInhabited === null) return found
  for (const { id, netns } of lent.filter(each => namespaces.get(each.id)?.is === 'gone'))
    try {
      if (netns.ino !== null) found.set(id, await isInhabited(netns.ino))
    } catch (error) {
      log.debug({ id, error: messageOf(error) }, 'it could not be seen who is in a namespace')
    }
  return found
}

/** Our own, of generations that are ours; null when the datastore did not answer. */
async function readLedgers(
  nodeUid: string,
  { ipam, store, log }: CollectModules,
): Promise<Map<string, string> | null> {
  const slots = new Map<string, Set<string>>()
  for (const { poolUid, slot, generation } of ipam.ownParts()) {
    const key = `${PREFIX.ledgers}${poolUid}/${slot.replace('/', '-')}/${nodeUid}`
    slots.set(key, (slots.get(key) ?? new Set()).add(String(generation)))
  }
  const held = new Map<string, string>()
  try {
    for (const [key, generations] of slots) {
      const { entry } = await store.get(key)
      const ledger = entry === null ? null : parseLedger(entry.value, key)
      for (const [generation, entries] of Object.entries(ledger?.generations ?? {}))
        if (generations.has(generation))
          for (const [address, { holder }] of Object.entries(entries))
            held.set(formatIp(parseIp(address)), holder)
    }
    return held
  } catch (error) {
    log.debug({ error: messageOf(error) }, 'the ledgers could not be read for the audit')
    return null
  }
}

async function askRuntime(
  journaled: readonly Placed[],
  { runtime }: CollectModules,
): Promise<{ view: NodeFacts['runtime']; said: string }> {
  const found = runtime()
  if (found === null) return { view: null, said: 'none' }
  const connection = found.connect()
  try {
    return { view: await viewOf(connection, journaled), said: found.socket }
  } catch (error) {
    return { view: 'silent', said: `${found.socket} does not answer: ${messageOf(error)}` }
  } finally {
    connection.close()
  }
}

async function viewOf(connection: RuntimeConnection, journaled: readonly Placed[]): Promise<RuntimeView> {
  const sandboxes = await connection.sandboxes()
  const known = new Set(journaled.map(({ containerId }) => containerId))
  const addresses = new Map<string, readonly string[]>()
  for (const { id, ready } of sandboxes)
    if (ready && !known.has(id)) addresses.set(id, await connection.addressesOf(id).catch(() => []))
  return { sandboxes, addresses }
}
