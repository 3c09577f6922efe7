/**
 * Journal, address management, ledgers, kernel, namespaces and runtime of one node against each other. Pure: facts in,
 * findings out. A remedy is proposed only when two sources that do not depend on each other say that something is over,
 * and none that was asked says the contrary (ADDRESSES.md rule 17).
 *
 * Trap: a runtime that is there and does not answer is no proof. Then nothing is proposed.
 */

import type { Finding } from '../../ipam/audit/finding.ts'
import type { HeldAddress, Holder } from '../../ipam/ipam.ts'
import type { Link, Neighbour, PodState, Route } from '../../kernel/kernel.ts'
import { POD_ALIAS_PREFIX, POD_LINK_PREFIX, REAP_GROUP, ROUTE_PROTOCOL } from '../../kernel/ownership.ts'
import { bitsOf, type Cidr, contains, formatIp, parseIp } from '../../lib/address.ts'
import { aliasOf } from '../attach/identity.ts'
import type { Attachment, Lease } from '../journal/records.ts'
import type { Sandbox } from '../runtime/cri.ts'

/** What stands at an attachment's namespace path. */
export type Namespace =
  | { readonly is: 'same'; readonly pod: PodState['pod'] }
  /** Nothing, or another namespace. */
  | { readonly is: 'gone' }
  | { readonly is: 'unknown' }

export interface RuntimeView {
  readonly sandboxes: readonly Sandbox[]
  /** Of ready sandboxes that the journal does not know. */
  readonly addresses: ReadonlyMap<string, readonly string[]>
}

export interface NodeFacts {
  readonly nowBoottimeMs: number
  /** Of the journal. */
  readonly attachments: readonly Attachment[]
  /** Addresses lent to interfaces of other plugins: of these the kernel has nothing of ours. */
  readonly leases: readonly Lease[]
  /** Ids whose operation is under way: not judged. */
  readonly busy: ReadonlySet<string>
  readonly namespaces: ReadonlyMap<string, Namespace>
  /** Of leases whose namespace is not at its path: is anybody visible in it? Missing: not known. */
  readonly inhabited: ReadonlyMap<string, boolean>
  /** What the address management has handed out. */
  readonly holders: readonly { readonly holder: Holder; readonly addresses: readonly HeldAddress[] }[]
  /** Address → holder's id, of our ledgers as far as they count; null: the datastore did not answer. */
  readonly ledger: ReadonlyMap<string, string> | null
  readonly links: readonly Link[]
  readonly routes: readonly Route[]
  readonly neighbours: readonly Neighbour[]
  /** null: there is no runtime to ask. */
  readonly runtime: RuntimeView | 'silent' | null
  readonly pools: readonly Cidr[]
}

export type Remedy =
  /** As by DEL, if it is still the attachment begun then. */
  | { readonly do: 'detach'; readonly attachment: Attachment }
  /** As by DEL, if it is still the lease begun then. `asked`: only when a person asks for it. */
  | { readonly do: 'end'; readonly lease: Lease; readonly asked: boolean }
  /** If it still holds exactly these. */
  | { readonly do: 'release'; readonly holderId: string; readonly addresses: readonly HeldAddress[] }

export interface NodeFinding extends Omit<Finding, 'since'> {
  /** Of what the remedy is for; '' where there can be none. */
  readonly generation: string
  readonly remedy: Remedy | null
}

const UNMENDED = { generation: '', remedy: null }

/** Ledgers follow by group commit: what is younger need not be there. */
const LEDGER_LAG_MS = 30_000

export function compareNode(facts: NodeFacts): NodeFinding[] {
  const judged = facts.attachments.filter(({ id, state }) => state === 'attached' && !facts.busy.has(id))
  return [
    ...judged.flatMap(attachment => judge(attachment, facts)),
    ...deadLeases(facts),
    ...forgottenHolders(facts),
    ...unknownLinks(facts),
    ...unknownRoutes(facts),
    ...unknownSandboxes(facts),
  ]
}

const titleOf = ({ ifName, containerId, pod }: Pick<Attachment, 'ifName' | 'containerId' | 'pod'>): string =>
  `${ifName} of ${pod === null ? containerId : `${pod.namespace}/${pod.name} (${containerId.slice(0, 13)})`}`

const linkOf = (id: string, { links }: NodeFacts): Link | undefined =>
  links.find(({ alias, group }) => alias === aliasOf(id) && group !== REAP_GROUP)

/** Has the runtime this sandbox? null: nobody knows. */
function inRuntime(containerId: string, { runtime }: NodeFacts): boolean | null {
  if (runtime === null || runtime === 'silent') return null
  return runtime.sandboxes.some(({ id }) => id === containerId)
}

// ---------------------------------------------------------------- attachments

function judge(attachment: Attachment, facts: NodeFacts): NodeFinding[] {
  const namespace = facts.namespaces.get(attachment.id) ?? { is: 'unknown' }
  const link = linkOf(attachment.id, facts)
  if (namespace.is === 'gone') return [link === undefined ? dead(attachment, facts) : pathGone(attachment)]
  return [
    ...(namespace.is === 'same' ? insideOf(attachment, namespace.pod) : []),
    ...(link === undefined ? [linkMissing(attachment)] : inKernel(attachment, link, facts)),
    ...unknownToRuntime(attachment, facts),
    ...notInLedger(attachment, facts),
  ]
}

/** Namespace and link are two sources, for the link of a namespace that lives goes only if somebody deletes it. */
function dead(attachment: Attachment, facts: NodeFacts): NodeFinding {
  const known = inRuntime(attachment.containerId, facts)
  const base = {
    kind: 'attachment.dead' as const,
    object: titleOf(attachment),
    generation: String(attachment.begunBoottimeMs),
    message: `nothing is at ${attachment.netns.path} any more, and the link is gone: the pod is`,
  }
  if (known === true)
    return { ...base, mend: 'the runtime still has the sandbox: its DEL is awaited', remedy: null }
  if (facts.runtime === 'silent')
    return { ...base, mend: 'the runtime does not answer: it is asked again', remedy: null }
  return { ...base, mend: 'detach it, as by DEL', remedy: { do: 'detach', attachment } }
}

const pathGone = (attachment: Attachment): NodeFinding => ({
  kind: 'attachment.namespace-gone',
  object: titleOf(attachment),
  message: `nothing is at ${attachment.netns.path} any more, but its link stands: a process may still live there`,
  mend: 'its DEL; delete the pod',
  ...UNMENDED,
})

/** What CHECK looks at, without the chain's result to compare with. */
function insideOf(attachment: Attachment, pod: PodState['pod']): NodeFinding[] {
  const name = attachment.ifName
  const problems =
    pod === null
      ? [`interface ${name} is missing in the container`]
      : [
          ...(pod.up ? [] : [`interface ${name} is down in the container`]),
          ...attachment.addresses
            .filter(({ address }) => !pod.addresses.some(each => each.address === address))
            .map(({ address }) => `address ${address} is missing on ${name}`),
        ]
  if (problems.length === 0) return []
  return [
    {
      kind: 'attachment.interface-wrong',
      object: titleOf(attachment),
      message: problems.join('; '),
      mend: 'what is inside a pod is left to it: delete the pod',
      ...UNMENDED,
    },
  ]
}

const linkMissing = (attachment: Attachment): NodeFinding => ({
  kind: 'attachment.link-missing',
  object: titleOf(attachment),
  message: `the node's end ${attachment.hostInterface} is missing`,
  mend: 'the daemon attaches it again by itself',
  ...UNMENDED,
})

function inKernel(attachment: Attachment, link: Link, { routes, neighbours }: NodeFacts): NodeFinding[] {
  return attachment.addresses.flatMap(({ family, address }): NodeFinding[] => {
    const canonical = formatIp(parseIp(address))
    const dst = `${canonical}/${bitsOf(family)}`
    const routed = routes.some(route => route.dst === dst && route.device === link.name)
    const neighbour = neighbours.find(each => each.device === link.name && each.address === canonical)
    const known = neighbour?.permanent === true && neighbour.mac === attachment.podMac
    const base = { object: `address ${canonical}`, mend: 'the daemon puts it right by itself', ...UNMENDED }
    return [
      ...(routed
        ? []
        : [{ ...base, kind: 'kernel.route-missing' as const, message: `no route leads to ${link.name}` }]),
      ...(known
        ? []
        : [
            {
              ...base,
              kind: 'kernel.neighbour-wrong' as const,
              message: `on ${link.name} it is at ${neighbour?.mac ?? 'no MAC'}, expected ${attachment.podMac}`,
            },
          ]),
    ]
  })
}

/** Only what a runtime with pods has made: others on the node (podman) are in nobody's CRI. */
function unknownToRuntime(attachment: Attachment, facts: NodeFacts): NodeFinding[] {
  if (attachment.pod === null || inRuntime(attachment.containerId, facts) !== false) return []
  return [
    {
      kind: 'attachment.unknown-to-runtime',
      object: titleOf(attachment),
      message: 'the runtime has no such sandbox, but its namespace lives',
      mend: 'find who holds the namespace; CNI DEL or GC detaches it',
      ...UNMENDED,
    },
  ]
}

function notInLedger(attachment: Attachment, { ledger, nowBoottimeMs }: NodeFacts): NodeFinding[] {
  if (ledger === null || nowBoottimeMs - attachment.begunBoottimeMs < LEDGER_LAG_MS) return []
  const missing = attachment.addresses.filter(({ address }) => ledger.get(address) !== attachment.id)
  if (missing.length === 0) return []
  return [
    {
      kind: 'attachment.not-in-ledger',
      object: titleOf(attachment),
      message: `no ledger that counts has ${missing.map(({ address }) => address).join(', ')} as its own`,
      mend: 'the daemon writes it; if it stays, the addresses are no longer of this node',
      ...UNMENDED,
    },
  ]
}

/**
 * The interface is another plugin's, so its absence proves nothing. The runtime's word counts only of what it made itself:
 * containers of others on the node (podman) are in nobody's CRI.
 */
function deadLeases(facts: NodeFacts): NodeFinding[] {
  return facts.leases
    .filter(({ id }) => facts.namespaces.get(id)?.is === 'gone' && !facts.busy.has(id))
    .map((lease): NodeFinding => {
      const base = {
        kind: 'lease.dead' as const,
        object: titleOf(lease),
        generation: String(lease.begunBoottimeMs),
        message: `nothing is at ${lease.netns.path} any more, and its addresses are still lent`,
      }
      const known = lease.pod === null ? null : inRuntime(lease.containerId, facts)
      if (known === false)
        return { ...base, mend: 'end it, as by DEL', remedy: { do: 'end', lease, asked: false } }
      const isMadeByOthers = lease.pod === null || facts.runtime === null
      if (isMadeByOthers && facts.inhabited.get(lease.id) === false)
        return {
          ...base,
          mend: 'end it, as by DEL: nobody visible is in its namespace, and no runtime can be asked',
          remedy: { do: 'end', lease, asked: true },
        }
      return { ...base, mend: 'CNI DEL or GC of its container: only its namespace says so', remedy: null }
    })
}

// ---------------------------------------------------------------- what nobody has journaled

/** Rule 17: the ledger of a lost journal named them, and neither kernel nor runtime has them. */
function forgottenHolders(facts: NodeFacts): NodeFinding[] {
  const journaled = new Set(facts.attachments.map(({ id }) => id))
  return facts.holders
    .filter(({ holder }) => holder.kind === 'pod' && !journaled.has(holder.id) && !facts.busy.has(holder.id))
    .map(({ holder, addresses }): NodeFinding => {
      const held = addresses.map(({ address }) => address).join(', ')
      const base = {
        kind: 'holder.only-in-ledger' as const,
        object: titleOf(holder),
        generation: addresses.map(({ address, generation }) => `${address}@${generation}`).join(' '),
        message: `it holds ${held}, and the journal does not know it`,
      }
      if (linkOf(holder.id, facts) !== undefined)
        return { ...base, mend: 'its link stands: restart twilld, which adopts it', remedy: null }
      if (inRuntime(holder.containerId, facts) === true)
        return { ...base, mend: 'the runtime still has the sandbox: its DEL is awaited', remedy: null }
      if (facts.runtime === 'silent')
        return { ...base, mend: 'the runtime does not answer: it is asked again', remedy: null }
      const remedy = { do: 'release', holderId: holder.id, addresses } as const
      return { ...base, mend: 'release its addresses', remedy }
    })
}

function unknownLinks({ links, attachments, busy }: NodeFacts): NodeFinding[] {
  const known = new Set(attachments.map(({ id }) => aliasOf(id)))
  return links
    .filter(({ name, group }) => name.startsWith(POD_LINK_PREFIX) && group !== REAP_GROUP)
    .filter(({ alias }) => alias?.startsWith(POD_ALIAS_PREFIX) && !known.has(alias))
    .filter(({ alias }) => !busy.has((alias as string).slice(POD_ALIAS_PREFIX.length)))
    .map(({ name, alias }) => ({
      kind: 'kernel.link-of-nobody' as const,
      object: `link ${name}`,
      message: `it says that it is of ${alias}, which the journal does not know`,
      mend: 'the daemon deletes it by itself',
      ...UNMENDED,
    }))
}

function unknownRoutes({ routes, attachments, busy }: NodeFacts): NodeFinding[] {
  // Routes of an operation under way come and go before its record does.
  if (busy.size > 0) return []
  const held = new Set(
    attachments.flatMap(({ hostInterface, addresses }) =>
      addresses.map(
        ({ family, address }) => `${formatIp(parseIp(address))}/${bitsOf(family)} ${hostInterface}`,
      ),
    ),
  )
  return routes
    .filter(({ protocol, device }) => protocol === ROUTE_PROTOCOL && device?.startsWith(POD_LINK_PREFIX))
    .filter(({ dst, device }) => !held.has(`${dst} ${device}`))
    .map(({ dst, device }) => ({
      kind: 'kernel.route-of-nobody' as const,
      object: `route ${dst}`,
      message: `it leads to ${device}, where nobody holds that address`,
      mend: 'the daemon deletes it by itself',
      ...UNMENDED,
    }))
}

/** An address in use that nobody has on record could be given to another pod. */
function unknownSandboxes({ runtime, attachments, holders, pools }: NodeFacts): NodeFinding[] {
  if (runtime === null || runtime === 'silent') return []
  // Other plugins' interfaces have their addresses from twill-ipam, and no attachment of ours.
  const lent = holders.map(({ holder }) => holder).filter(({ kind }) => kind === 'ipam')
  const known = new Set([...attachments, ...lent].map(({ containerId }) => containerId))
  return runtime.sandboxes
    .filter(({ id, ready }) => ready && !known.has(id))
    .flatMap(({ id, pod }) => {
      const ours = (runtime.addresses.get(id) ?? []).filter(address =>
        pools.some(pool => contains(pool, parseIp(address))),
      )
      if (ours.length === 0) return []
      return [
        {
          kind: 'sandbox.not-attached' as const,
          object: `sandbox ${pod.namespace}/${pod.name} (${id.slice(0, 13)})`,
          message: `the runtime says that it has ${ours.join(', ')}, and the journal does not know it`,
          mend: 'delete the pod: its address may be given to another',
          ...UNMENDED,
        },
      ]
    })
}
