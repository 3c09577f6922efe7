/**
 * CHECK: what we built and the chain's final result lists, against what is there. Pure comparison; what later
 * plugins may change (MAC by tuning, more routes, more interfaces) is tolerated (CNI-152).
 */
import type { CniResult } from '../../cni-bin/result.ts'
import type { Link, Neighbour, PodState, Route } from '../../kernel/kernel.ts'
import { GATEWAY, HOST_MAC } from '../../kernel/ownership.ts'
import { bitsOf, formatIp, parseCidr, parseIp } from '../../lib/address.ts'
import type { Attachment } from '../journal/records.ts'

export interface CheckView {
  readonly pod: PodState
  readonly links: readonly Link[]
  /** Of our protocol. */
  readonly routes: readonly Route[]
  readonly neighbours: readonly Neighbour[]
  /** The policy that confines the pod stands as we left it. */
  readonly rulesetIntact: boolean
}

/** What is wrong, each a sentence; [] when all is as it should be. */
export function checkAttachment(attachment: Attachment, previous: CniResult, view: CheckView): string[] {
  return [
    ...checkResult(attachment, previous),
    ...checkPod(attachment, previous, view.pod),
    ...checkHost(attachment, view),
    ...(view.rulesetIntact ? [] : ['the nftables table that confines the pod is not as it should be']),
  ]
}

/** CNI-151, CNI-156 */
function checkResult(attachment: Attachment, previous: CniResult): string[] {
  const listed = previous.interfaces.some(
    each => each.name === attachment.ifName && each.sandbox === attachment.netns.path,
  )
  if (!listed)
    return [`prevResult lists no interface ${attachment.ifName} in sandbox ${attachment.netns.path}`]
  const addresses = new Set(previous.ips.map(ip => canonical(ip.address)))
  return attachment.addresses
    .filter(({ address }) => !addresses.has(canonical(address)))
    .map(({ address }) => `prevResult does not list the address ${address} that is held for this attachment`)
}

const canonical = (address: string): string => formatIp(parseIp(address.split('/')[0] as string))

function checkPod(attachment: Attachment, previous: CniResult, state: PodState): string[] {
  const name = attachment.ifName
  if (attachment.netnsCookie !== null && state.netnsCookie !== attachment.netnsCookie)
    return [`the namespace at ${attachment.netns.path} is not the one that was attached`]
  if (state.pod === null) return [`interface ${name} is missing in the container`]
  const pod = state.pod
  const problems: string[] = []
  if (!pod.up) problems.push(`interface ${name} is down in the container`)
  const mac = previous.interfaces.find(
    each => each.name === name && each.sandbox === attachment.netns.path,
  )?.mac
  if (mac && mac.toLowerCase() !== pod.mac)
    problems.push(`interface ${name} has MAC ${pod.mac}, prevResult says ${mac}`)
  for (const { family, address } of attachment.addresses) {
    if (!pod.addresses.some(each => each.address === address && each.prefix === bitsOf(family)))
      problems.push(`address ${address} is missing on ${name}`)
    if (!leadsOut(pod.routes, family))
      problems.push(`the IPv${family} default route by ${GATEWAY[family]} is missing on ${name}`)
  }
  return problems
}

function leadsOut(routes: readonly Route[], family: 4 | 6): boolean {
  return routes.some(
    route =>
      route.family === family && parseCidr(route.dst).prefix === 0 && route.gateway === GATEWAY[family],
  )
}

function checkHost(attachment: Attachment, view: CheckView): string[] {
  const link = view.links.find(each => each.name === attachment.hostInterface)
  if (link === undefined) return [`host interface ${attachment.hostInterface} is missing`]
  const problems: string[] = []
  if (!link.up) problems.push(`host interface ${link.name} is down`)
  if (link.mac !== HOST_MAC)
    problems.push(`host interface ${link.name} has MAC ${link.mac}, expected ${HOST_MAC}`)
  for (const { family, address } of attachment.addresses) {
    const dst = `${address}/${bitsOf(family)}`
    if (!view.routes.some(route => route.dst === dst && route.device === link.name))
      problems.push(`the node's route to ${address} is missing`)
    if (
      !view.neighbours.some(each => each.device === link.name && each.address === address && each.permanent)
    )
      problems.push(`the node's neighbour entry for ${address} is missing`)
  }
  return problems
}
