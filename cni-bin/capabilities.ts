/**
 * What a runtime asks for this one attachment: `runtimeConfig` (sections 14) and `args` (section 15). A
 * capability that was asked for and that Twill does not have is error 7 (CNI-210): silence would leave a port
 * unmapped or a rate unlimited. `args` is optional by convention: what cannot be read there is passed over.
 */
import { MAC_ANNOTATION, type PoolNames } from '../lib/pool-annotations.ts'
import { parseAnnotations } from './annotations.ts'
import type { CniArgs } from './environment.ts'
import {
  isObject,
  type JsonObject,
  listAt,
  memberOf,
  objectAt,
  objectsAt,
  refuse,
  splitAddress,
  textAt,
  textsAt,
} from './json.ts'
import { macExpected, readMac } from './mac.ts'
import { type Dns, isEmptyDns } from './result.ts'

export interface Wishes {
  /** Addresses without prefix length, each once: any not satisfied fails the ADD (CNI-226). */
  readonly addresses: readonly string[]
  /** By the pod's annotations. */
  readonly pools: PoolNames
  /** Lower case; null when the kernel may choose. */
  readonly mac: string | null
  /** From runtimeConfig.dns; null when not asked for. */
  readonly dns: Dns | null
  /** From args.cni.labels. Never an identity for policy: whoever starts the container chose them. */
  readonly labels: ReadonlyMap<string, string>
}

/** `config` is the whole request configuration. @throws CniError 7 */
export function parseWishes(config: JsonObject, cniArgs: CniArgs): Wishes {
  const runtime = objectAt(config, 'runtimeConfig', 'runtimeConfig')
  refuseWhatIsNotOurs(runtime)
  return { ...parseAddressWishes(config, cniArgs), mac: wishedMac(runtime, cniArgs) }
}

function wishedMac(runtime: JsonObject, cniArgs: CniArgs): string | null {
  const ofCall = runtimeMac(runtime)
  const { mac: ofPod } = parseAnnotations(runtime)
  if (ofCall !== null && ofPod !== null && ofCall !== ofPod)
    throw refuse('runtimeConfig.mac', ofCall, `${ofPod}, as the pod's annotation ${MAC_ANNOTATION} asks for`)
  return ofPod ?? ofCall ?? cniArgs.mac
}

/** Those of twill-ipam; the others are for the plugin that makes the interface. @throws CniError 7 */
export function parseAddressWishes(config: JsonObject, cniArgs: CniArgs): Wishes {
  const runtime = objectAt(config, 'runtimeConfig', 'runtimeConfig')
  refuseRanges(runtime)
  const args = argsCni(config)
  const annotated = parseAnnotations(runtime)
  const inArgs = args.ips.length > 0 ? args.ips : optional(cniArgs.ip)
  return {
    addresses: unique([...inArgs, ...runtimeIps(runtime), ...annotated.addresses]),
    pools: annotated.pools,
    mac: null,
    dns: runtimeDns(runtime),
    labels: args.labels,
  }
}

const optional = (text: string | null): readonly string[] => (text === null ? [] : [text])

function unique(addresses: readonly string[]): string[] {
  return [...new Set(addresses.map(text => splitAddress(text)?.address ?? text))]
}

function refuseWhatIsNotOurs(runtime: JsonObject): void {
  for (const [i, mapping] of objectsAt(runtime, 'portMappings', 'runtimeConfig.portMappings').entries())
    if ((memberOf(mapping, 'hostPort') ?? 0) !== 0)
      throw refuse(
        `runtimeConfig.portMappings[${i}]`,
        mapping,
        'none: chain the plugin "portmap" after twill',
      )
  const bandwidth = objectAt(runtime, 'bandwidth', 'runtimeConfig.bandwidth')
  if (['ingressRate', 'egressRate'].some(key => (memberOf(bandwidth, key) ?? 0) !== 0))
    throw refuse('runtimeConfig.bandwidth', bandwidth, 'none: chain the plugin "bandwidth" after twill')
  for (const key of ['infinibandGUID', 'deviceID']) {
    const value = memberOf(runtime, key) ?? ''
    if (value !== '') throw refuse(`runtimeConfig.${key}`, value, 'none: twill creates the interface itself')
  }
}

function refuseRanges(runtime: JsonObject): void {
  for (const [i, range] of listAt(runtime, 'ipRanges', 'runtimeConfig.ipRanges').entries())
    throw refuse(`runtimeConfig.ipRanges[${i}]`, range, 'none: addresses come from IPPools')
}

function runtimeIps(runtime: JsonObject): readonly string[] {
  return textsAt(runtime, 'ips', 'runtimeConfig.ips').map((text, i) => {
    if (splitAddress(text) === null)
      throw refuse(`runtimeConfig.ips[${i}]`, text, 'an address with or without prefix length')
    return text
  })
}

function runtimeMac(runtime: JsonObject): string | null {
  const mac = textAt(runtime, 'mac', 'runtimeConfig.mac')
  if (mac === null) return null
  const read = readMac(mac)
  if (read === null) throw refuse('runtimeConfig.mac', mac, macExpected(mac))
  return read
}

/** Its members are named otherwise than those of the configuration's `dns` (CNI-205). */
function runtimeDns(runtime: JsonObject): Dns | null {
  const json = objectAt(runtime, 'dns', 'runtimeConfig.dns')
  const dns: Dns = {
    nameservers: textsAt(json, 'servers', 'runtimeConfig.dns.servers'),
    domain: null,
    search: textsAt(json, 'searches', 'runtimeConfig.dns.searches'),
    options: textsAt(json, 'options', 'runtimeConfig.dns.options'),
  }
  return isEmptyDns(dns) ? null : dns
}

/** CNI-220 */
function argsCni(config: JsonObject): { ips: readonly string[]; labels: ReadonlyMap<string, string> } {
  const args = memberOf(config, 'args')
  const cni = isObject(args) ? memberOf(args, 'cni') : undefined
  if (!isObject(cni)) return { ips: [], labels: new Map() }
  return { ips: readable(memberOf(cni, 'ips')).filter(isAddress), labels: labelsOf(cni) }
}

const readable = (value: unknown): readonly unknown[] => (Array.isArray(value) ? value : [])

const isAddress = (value: unknown): value is string =>
  typeof value === 'string' && splitAddress(value) !== null

function labelsOf(cni: JsonObject): ReadonlyMap<string, string> {
  const labels = readable(memberOf(cni, 'labels')).filter(isObject)
  const pairs = labels.map(label => [memberOf(label, 'key'), memberOf(label, 'value') ?? ''])
  return new Map(
    pairs.filter((pair): pair is [string, string] => pair.every(text => typeof text === 'string')),
  )
}
