/** IPPool: a range of addresses for pods, and how packets to them travel. */
import { z } from 'zod'
import {
  addressAt,
  bitsOf,
  type Cidr,
  contains,
  type Family,
  formatCidr,
  formatIp,
  type Ip,
  parseCidr,
  parseIp,
  sizeOf,
} from '../../lib/address.ts'
import { anyCidr, poolCidr } from './cidr.ts'
import { apiVersion, metadata } from './metadata.ts'
import { labelSelector } from './selector.ts'

/** Bounds of blockSize per family (ADDRESSES.md, Records). */
export const BLOCK_SIZE = {
  4: { min: 20, max: 32, default: 26 },
  6: { min: 116, max: 128, default: 122 },
} as const

/** What a pool's addresses are for: pods of twill, nodes' own on the overlay, attachments of other plugins. */
export const USES = ['pod', 'tunnel', 'ipam'] as const
export type Use = (typeof USES)[number]

type Encapsulation = 'Always' | 'CrossSubnet' | 'Never'
type Routes = 'Datastore' | 'BGP'

const MODES = {
  vxlan: { encapsulation: 'Always', routes: 'Datastore' },
  crossSubnet: { encapsulation: 'CrossSubnet', routes: 'Datastore' },
  direct: { encapsulation: 'Never', routes: 'Datastore' },
  bgp: { encapsulation: 'Never', routes: 'BGP' },
} as const satisfies Record<string, { encapsulation: Encapsulation; routes: Routes }>
const MODE_NAMES = Object.keys(MODES) as (keyof typeof MODES)[]

const EXCLUSIONS_MAX = 256

const DEFAULT_USES: Use[] = ['pod', 'tunnel']

function parsed<T>(parse: (text: string) => T, text: string): T | null {
  try {
    return parse(text)
  } catch {
    return null
  }
}

export const ipPoolSpec = z
  .strictObject({
    cidr: poolCidr.meta({ description: 'Range the pool hands out, IPv4 or IPv6. Immutable.' }),
    blockSize: z.number().int().optional().meta({
      description:
        'Prefix length of a slot: /20 to /32 (default /26), for IPv6 /116 to /128 (default /122). Immutable.',
    }),
    mode: z.enum(MODE_NAMES).optional().meta({
      description:
        'A word for encapsulation and routes together, instead of them: vxlan (Always, Datastore), crossSubnet (CrossSubnet, Datastore), direct (Never, Datastore) or bgp (Never, BGP).',
    }),
    encapsulation: z.enum(['Always', 'CrossSubnet', 'Never']).optional().meta({
      description: 'VXLAN to every node (Always, the default), only to nodes behind a router, or never.',
    }),
    routes: z
      .enum(['Datastore', 'BGP'])
      .optional()
      .meta({ description: 'Who tells other nodes the way to a slot. By default Datastore.' }),
    natOutgoing: z
      .boolean()
      .default(true)
      .meta({ description: 'Masquerade what leaves the pools, other than to nodes.' }),
    natOutgoingExclusions: z.array(anyCidr).max(EXCLUSIONS_MAX).optional().meta({
      description:
        "With natOutgoing: prefixes of the pool's family to which its pods go under their own addresses all the same. What they reach must know the way back.",
    }),
    disabled: z
      .boolean()
      .default(false)
      .meta({ description: 'Hand out no new addresses; pods that run keep theirs.' }),
    nodeSelector: labelSelector.optional().meta({
      description:
        'Nodes that take from this pool, by their labels: those of the Node of their name, over the nodeLabels of their configuration, and kubernetes.io/hostname, which is that name unless they say another. Absent: all.',
    }),
    namespaceSelector: labelSelector.optional().meta({
      description:
        'Namespaces whose pods take from this pool, by the labels of their Namespace, and kubernetes.io/metadata.name, which is its name. Pods of no namespace do not. Absent: all pods.',
    }),
    nodeSlots: z.enum(['Any', 'PodCIDRs']).optional().meta({
      description:
        'Which slots a node may own: Any (the default), or only those in the podCIDRs of its Node in Kubernetes (PodCIDRs).',
    }),
    allowedUses: z.array(z.enum(USES)).default(DEFAULT_USES).meta({
      description:
        'What addresses are for: pod, tunnel (the nodes on the overlay), or ipam alone: attachments of other plugins through twill-ipam, without routes of ours. From or to ipam it is immutable.',
    }),
    gateway: z.string().optional().meta({
      description:
        'Of a pool for ipam: the address that its attachments are told as gateway and that is never handed out (default: the first usable). Immutable.',
    }),
  })
  .superRefine((spec, context) => {
    const cidr = parsed(parseCidr, spec.cidr)
    const refuse = (field: keyof typeof spec, message: string) =>
      context.addIssue({ code: 'custom', path: [field], input: spec[field], message })
    const { natOutgoingExclusions: exclusions = [] } = spec
    for (const [i, message] of problemsOfExclusions(spec, cidr?.family ?? null))
      context.addIssue({
        code: 'custom',
        path: ['natOutgoingExclusions', i],
        input: exclusions[i],
        message,
      })
    for (const field of ['encapsulation', 'routes'] as const)
      if (spec.mode !== undefined && spec[field] !== undefined)
        refuse(field, `expected none beside mode: ${spec.mode} means ${MODES[spec.mode][field]}`)
    const uses = problemOfUses(spec.allowedUses)
    if (uses !== null) refuse('allowedUses', uses)
    if (cidr === null) return
    const blockSize = problemOfBlockSize(cidr, spec.blockSize)
    if (blockSize !== null) refuse('blockSize', blockSize)
    const ipam = spec.allowedUses.includes('ipam')
    if (ipam && sizeOf(cidr) < 4n)
      refuse(
        'cidr',
        `expected /${bitsOf(cidr.family) - 2} or shorter for ipam: a gateway and addresses besides`,
      )
    else if (spec.gateway !== undefined) {
      const gateway = ipam
        ? problemOfGateway(cidr, spec.gateway)
        : 'expected none unless allowedUses is [ipam]'
      if (gateway !== null) refuse('gateway', gateway)
    }
  })

function problemOfUses(uses: readonly Use[]): string | null {
  if (uses.length === 0 || new Set(uses).size < uses.length) return 'expected at least one use, each once'
  return uses.includes('ipam') && uses.length > 1 ? 'expected ipam alone: such a pool has no routes' : null
}

/** By index. What is no prefix was told by itself. */
function problemsOfExclusions(
  {
    natOutgoing,
    natOutgoingExclusions = [],
    allowedUses,
  }: { natOutgoing: boolean; natOutgoingExclusions?: string[] | undefined; allowedUses: readonly Use[] },
  family: Family | null,
): [number, string][] {
  const of = (text: string): string | null => {
    if (allowedUses.includes('ipam')) return 'expected none: nothing of a pool for ipam is masqueraded'
    if (!natOutgoing) return 'expected none unless natOutgoing is true'
    const cidr = parsed(parseCidr, text)
    if (family === null || cidr === null || cidr.family === family) return null
    return `expected a prefix of IPv${family}, as the pool is`
  }
  return natOutgoingExclusions.flatMap((text, i): [number, string][] => {
    const message = of(text)
    return message === null ? [] : [[i, message]]
  })
}

function problemOfBlockSize(cidr: Cidr, blockSize: number | undefined): string | null {
  const bounds = BLOCK_SIZE[cidr.family]
  const size = blockSize ?? bounds.default
  if (size < bounds.min || size > bounds.max)
    return `expected /${bounds.min} to /${bounds.max} for IPv${cidr.family}`
  return size < cidr.prefix ? `expected /${cidr.prefix} or longer: a slot is no larger than its pool` : null
}

function problemOfGateway(cidr: Cidr, text: string): string | null {
  const gateway = parsed(parseIp, text)
  const isHost = gateway !== null && contains(cidr, gateway) && !isNoHost(cidr, gateway)
  return isHost ? null : `expected an address of a host in ${formatCidr(cidr)}`
}

/** Of a subnet: its network address, IPv4's broadcast address, IPv6's subnet-router anycast address (RFC 4291, 2.6.1). */
export function isNoHost(subnet: Cidr, { value }: Ip): boolean {
  const isLast = value === subnet.base + sizeOf(subnet) - 1n
  return value === subnet.base || (subnet.family === 4 && isLast)
}

export const ipPool = z.strictObject({
  apiVersion,
  kind: z.literal('IPPool').meta({ description: 'What this is a document of.' }),
  metadata,
  spec: ipPoolSpec.meta({ description: 'The range, and what is done with it.' }),
})

export type IPPool = z.infer<typeof ipPool>

export const isForIpam = ({ spec }: { readonly spec: { readonly allowedUses: readonly Use[] } }): boolean =>
  spec.allowedUses.includes('ipam')

/** Of a pool for ipam: what its attachments are told as their gateway. */
export function gatewayOf({ spec }: IPPool): string {
  return formatIp(spec.gateway === undefined ? addressAt(parseCidr(spec.cidr), 1) : parseIp(spec.gateway))
}

/** How packets to the pool travel, and who tells the way: as written, by one word, or by default. */
export function travelOf({ spec }: IPPool): { encapsulation: Encapsulation; routes: Routes } {
  if (spec.mode !== undefined) return MODES[spec.mode]
  return { encapsulation: spec.encapsulation ?? 'Always', routes: spec.routes ?? 'Datastore' }
}

/** Prefix length of the pool's slots: its blockSize, else the default of its family. */
export function slotPrefixOf(pool: IPPool): number {
  return pool.spec.blockSize ?? BLOCK_SIZE[parseCidr(pool.spec.cidr).family].default
}
