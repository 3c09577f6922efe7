/**
 * The result of ADD: one internal form, that of 1.1.0, and its JSON at every version (CNI-070 to CNI-079). The
 * versions differ in members only: 0.3.x and 0.4.0 have ips[].version; mtu, socketPath, pciID and all of a
 * route but dst and gw came with 1.1.0 and are left out before.
 *
 * Addresses stay the text they came as, so that a predecessor's result goes through unchanged (CNI-112).
 */
import { isIP } from 'node:net'
import type { CniError } from './cni-error.ts'
import {
  integerAt,
  type JsonObject,
  memberOf,
  objectAt,
  objectsAt,
  refuse,
  splitAddress,
  textAt,
  textsAt,
} from './json.ts'
import { type CniVersion, SUPPORTED_VERSIONS } from './version.ts'

export interface ResultInterface {
  readonly name: string
  readonly mac: string | null
  /** Bytes. */
  readonly mtu: number | null
  /** CNI_NETNS as it came for the container's side, null for the host's. */
  readonly sandbox: string | null
  readonly socketPath: string | null
  readonly pciID: string | null
}

export interface ResultAddress {
  /** With prefix length: "10.0.0.1/32". */
  readonly address: string
  readonly gateway: string | null
  /** Index into `interfaces`. */
  readonly interface: number | null
}

export interface ResultRoute {
  /** CIDR. */
  readonly dst: string
  readonly gw: string | null
  readonly mtu: number | null
  readonly advmss: number | null
  readonly priority: number | null
  readonly table: number | null
  /** 0 global, 253 link, 254 host. */
  readonly scope: number | null
}

export interface Dns {
  readonly nameservers: readonly string[]
  readonly domain: string | null
  readonly search: readonly string[]
  readonly options: readonly string[]
}

export interface CniResult {
  readonly interfaces: readonly ResultInterface[]
  readonly ips: readonly ResultAddress[]
  readonly routes: readonly ResultRoute[]
  readonly dns: Dns
}

export const NO_DNS: Dns = { nameservers: [], domain: null, search: [], options: [] }

export function isEmptyDns(dns: Dns): boolean {
  return dns.domain === null && [dns.nameservers, dns.search, dns.options].every(list => list.length === 0)
}

// ---------------------------------------------------------------- reading a prevResult

const UINT32 = [0, 2 ** 32 - 1] as const

/**
 * A result of any of our versions, also one whose optional members are missing (CNI-069, CNI-254).
 * @throws CniError 7
 */
export function parseResult(json: JsonObject, path: string): CniResult {
  const interfaces = objectsAt(json, 'interfaces', `${path}.interfaces`).map((each, i) =>
    parseInterface(each, `${path}.interfaces[${i}]`),
  )
  return {
    interfaces,
    ips: objectsAt(json, 'ips', `${path}.ips`).map((each, i) =>
      parseAddress(each, `${path}.ips[${i}]`, interfaces.length),
    ),
    routes: objectsAt(json, 'routes', `${path}.routes`).map((each, i) =>
      parseRoute(each, `${path}.routes[${i}]`),
    ),
    dns: parseDns(objectAt(json, 'dns', `${path}.dns`), `${path}.dns`),
  }
}

function parseInterface(json: JsonObject, path: string): ResultInterface {
  const text = (key: string) => textAt(json, key, `${path}.${key}`)
  const name = text('name')
  if (name === null) throw refuse(`${path}.name`, memberOf(json, 'name') ?? null, 'the name of an interface')
  return {
    name,
    mac: text('mac'),
    mtu: integerAt(json, 'mtu', `${path}.mtu`, UINT32),
    sandbox: text('sandbox'),
    socketPath: text('socketPath'),
    pciID: text('pciID'),
  }
}

function parseAddress(json: JsonObject, path: string, interfaces: number): ResultAddress {
  const address = textAt(json, 'address', `${path}.address`)
  if (address === null || splitAddress(address)?.prefix == null)
    throw refuse(`${path}.address`, address, 'an address with its prefix length such as 10.0.0.1/32')
  const index = integerAt(json, 'interface', `${path}.interface`, [-1, Number.MAX_SAFE_INTEGER])
  if (index !== null && index >= interfaces)
    throw refuse(`${path}.interface`, index, `an index into the ${interfaces} interfaces`)
  return {
    address,
    gateway: gatewayAt(json, 'gateway', path),
    // Seen from old plugins for "none".
    interface: index === -1 ? null : index,
  }
}

/** @throws CniError 7 */
export function parseRoute(json: JsonObject, path: string): ResultRoute {
  const number = (key: string) => integerAt(json, key, `${path}.${key}`, UINT32)
  const dst = textAt(json, 'dst', `${path}.dst`)
  if (dst === null || splitAddress(dst)?.prefix == null)
    throw refuse(`${path}.dst`, dst, 'a destination such as 0.0.0.0/0')
  return {
    dst,
    gw: gatewayAt(json, 'gw', path),
    mtu: number('mtu'),
    advmss: number('advmss'),
    priority: number('priority'),
    table: number('table'),
    scope: number('scope'),
  }
}

function gatewayAt(json: JsonObject, key: string, path: string): string | null {
  const text = textAt(json, key, `${path}.${key}`)
  if (text !== null && isIP(text) === 0) throw refuse(`${path}.${key}`, text, 'an address')
  return text
}

/** The `dns` of a configuration or a result. @throws CniError 7 */
export function parseDns(json: JsonObject, path: string): Dns {
  return {
    nameservers: textsAt(json, 'nameservers', `${path}.nameservers`),
    domain: textAt(json, 'domain', `${path}.domain`),
    search: textsAt(json, 'search', `${path}.search`),
    options: textsAt(json, 'options', `${path}.options`),
  }
}

// ---------------------------------------------------------------- merging and printing

/**
 * Our result behind a predecessor's: its entries first and unchanged, ours appended with their indices moved
 * (CNI-112, CNI-253). Our dns wins if it says anything (CNI-118).
 */
export function mergeResults(previous: CniResult | null, own: CniResult): CniResult {
  if (previous === null) return own
  const offset = previous.interfaces.length
  const moved = own.ips.map(ip => ({
    ...ip,
    interface: ip.interface === null ? null : ip.interface + offset,
  }))
  return {
    interfaces: [...previous.interfaces, ...own.interfaces],
    ips: [...previous.ips, ...moved],
    routes: [...previous.routes, ...own.routes],
    dns: isEmptyDns(own.dns) ? previous.dns : own.dns,
  }
}

/** What ADD prints. */
export function addOutput(result: CniResult, version: CniVersion): string {
  const newest = version === '1.1.0'
  const withFamily = version.startsWith('0.')
  return print({
    cniVersion: version,
    interfaces: nonEmpty(result.interfaces.map(each => interfaceJson(each, newest))),
    ips: nonEmpty(result.ips.map(each => addressJson(each, withFamily))),
    routes: nonEmpty(
      result.routes.map(each => (newest ? present(each) : present({ dst: each.dst, gw: each.gw }))),
    ),
    dns: isEmptyDns(result.dns) ? undefined : dnsJson(result.dns),
  })
}

function interfaceJson(each: ResultInterface, newest: boolean): object {
  return present(newest ? each : { name: each.name, mac: each.mac, sandbox: each.sandbox })
}

function addressJson(each: ResultAddress, withFamily: boolean): object {
  const family = each.address.includes(':') ? '6' : '4'
  return present(withFamily ? { version: family, ...each } : each)
}

function dnsJson(dns: Dns): object {
  return present({
    nameservers: nonEmpty(dns.nameservers),
    domain: dns.domain,
    search: nonEmpty(dns.search),
    options: nonEmpty(dns.options),
  })
}

const nonEmpty = <T>(list: readonly T[]): readonly T[] | undefined => (list.length === 0 ? undefined : list)

function present(object: object): object {
  return Object.fromEntries(
    Object.entries(object).filter(([, value]) => value !== null && value !== undefined),
  )
}

/** CNI-090; `cniVersion` is there at every version (CNI-091). */
export function errorOutput(error: CniError, version: CniVersion): string {
  return print({
    cniVersion: version,
    code: error.code,
    msg: error.message,
    details: error.details === '' ? undefined : error.details,
  })
}

/** CNI-180 */
export function versionOutput(version: CniVersion): string {
  return print({ cniVersion: version, supportedVersions: SUPPORTED_VERSIONS })
}

const print = (object: object): string => `${JSON.stringify(object)}\n`
