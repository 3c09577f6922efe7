/**
 * The parts of the configuration that are Twill's own: `twill` when it is called as `twill`, the whole of `ipam` when
 * another plugin calls it as `twill-ipam`. Unknown keys are refused only here (CNI-046).
 */
import type { Family } from '../lib/address.ts'
import { CNI_CODE, CniError, quote } from './cni-error.ts'
import { type JsonObject, listAt, objectAt, objectsAt, refuse, textAt, textsAt } from './json.ts'
import { parseRoute, type ResultRoute } from './result.ts'

/** One executable, two plugins: which, says the name it is called by. */
export type Plugin = 'twill' | 'twill-ipam'

const IPAM: Plugin = 'twill-ipam'

/** `program` is the base name the executable was called by. Under any name but that of the second it is the first. */
export const pluginOf = (program: string): Plugin => (program === IPAM ? IPAM : 'twill')

/** `twill: {pools, families}` */
export interface TwillSection {
  /** Names of IPPools to take addresses from, in order; [] means every enabled one. */
  readonly pools: readonly string[]
  /** One address of each; [] means every family that has a pool. */
  readonly families: readonly Family[]
}

/** `ipam: {type, pools, families, routes}` of another plugin. */
export interface IpamSection extends TwillSection {
  /** Go into the result as they are; who makes the interface installs them. */
  readonly routes: readonly ResultRoute[]
}

/** `type` is a plain name (CNI-042), and the addresses are ours to give. @throws CniError 2, 7 */
export function checkOwnership(config: JsonObject): void {
  checkType(config)
  const ipam = objectAt(config, 'ipam', 'ipam')
  const ipamType = textAt(ipam, 'type', 'ipam.type')
  if (ipamType !== null && ipamType !== IPAM)
    throw new CniError(
      CNI_CODE.invalidNetworkConfig,
      `ipam type ${quote(ipamType)} cannot be used with twill`,
      `ipam.type is ${quote(ipamType)}, expected no ipam or ${quote(IPAM)}: twill gives addresses from its own pools`,
    )
  if (ipamType === IPAM) refuseUnknownKeys(ipam, 'ipam', ['type'])
}

function checkType(config: JsonObject): void {
  const type = textAt(config, 'type', 'type')
  if (type?.includes('/')) throw refuse('type', type, 'a file name without "/"')
}

/** @throws CniError 2, 7 */
export function parseTwillSection(config: JsonObject): TwillSection {
  const section = objectAt(config, 'twill', 'twill')
  refuseUnknownKeys(section, 'twill', ['pools', 'families'])
  return poolsAndFamilies(section, 'twill')
}

/** @throws CniError 2, 7: also when there is none (CNI-241) */
export function parseIpamSection(config: JsonObject): IpamSection {
  const section = objectAt(config, 'ipam', 'ipam')
  const type = textAt(section, 'type', 'ipam.type')
  if (type !== IPAM) throw refuse('ipam.type', type, `${quote(IPAM)}, the plugin that was called`)
  refuseUnknownKeys(section, 'ipam', ['type', 'pools', 'families', 'routes'])
  return {
    ...poolsAndFamilies(section, 'ipam'),
    routes: objectsAt(section, 'routes', 'ipam.routes').map((route, i) =>
      parseRoute(route, `ipam.routes[${i}]`),
    ),
  }
}

const FAMILIES: ReadonlyMap<unknown, Family> = new Map([
  ['IPv4', 4],
  ['IPv6', 6],
])

function poolsAndFamilies(section: JsonObject, path: string): TwillSection {
  return {
    pools: textsAt(section, 'pools', `${path}.pools`),
    families: listAt(section, 'families', `${path}.families`).map((value, i) => {
      const family = FAMILIES.get(value)
      if (family === undefined) throw refuse(`${path}.families[${i}]`, value, '"IPv4" or "IPv6"')
      return family
    }),
  }
}

/** CNI-093: the message has key and value. */
function refuseUnknownKeys(section: JsonObject, path: string, known: readonly string[]): void {
  for (const [key, value] of Object.entries(section))
    if (!known.includes(key.toLowerCase()))
      throw new CniError(
        CNI_CODE.unsupportedField,
        `unsupported field ${path}.${key}: ${quote(value)}`,
        `${path} has the keys ${known.join(', ')}`,
      )
}
