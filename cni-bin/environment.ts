/**
 * The CNI_* variables (sections 2 and 15 of the checklist): which each command needs, and their syntax. Every
 * refusal is error 4 and names the variable. What a command does not need is not looked at: on VERSION, GC and
 * STATUS runtimes send dummies and empty text (CNI-035, CNI-036).
 */
import { CNI_CODE, CniError, quote } from './cni-error.ts'
import { splitAddress } from './json.ts'
import { macExpected, readMac } from './mac.ts'

export type Environment = ReadonlyMap<string, string>

export const COMMANDS = ['ADD', 'DEL', 'CHECK', 'GC', 'STATUS', 'VERSION'] as const
export type Command = (typeof COMMANDS)[number]

/** CNI-021, CNI-022 */
const REQUIRED: Readonly<Record<Command, readonly string[]>> = {
  ADD: ['CNI_CONTAINERID', 'CNI_NETNS', 'CNI_IFNAME'],
  DEL: ['CNI_CONTAINERID', 'CNI_IFNAME'],
  CHECK: ['CNI_CONTAINERID', 'CNI_NETNS', 'CNI_IFNAME'],
  GC: ['CNI_PATH'],
  STATUS: [],
  VERSION: [],
}

/** IFNAMSIZ of linux/if.h without the NUL. */
const MAX_INTERFACE_NAME_BYTES = 15

/** The command, with its variables there and well formed. @throws CniError 4 */
export function checkEnvironment(environment: Environment): Command {
  const command = environment.get('CNI_COMMAND') ?? ''
  if (command === '') throw missing(['CNI_COMMAND'])
  if (!isCommand(command)) throw new CniError(CNI_CODE.invalidEnvironment, `unknown CNI_COMMAND: ${command}`)
  const absent = REQUIRED[command].filter(name => (environment.get(name) ?? '') === '')
  if (absent.length > 0) throw missing(absent)
  if (REQUIRED[command].includes('CNI_CONTAINERID')) {
    checkContainerId(environment.get('CNI_CONTAINERID') as string)
    checkInterfaceName(environment.get('CNI_IFNAME') as string)
  }
  return command
}

const isCommand = (text: string): text is Command => (COMMANDS as readonly string[]).includes(text)

const missing = (names: readonly string[]): CniError =>
  new CniError(CNI_CODE.invalidEnvironment, `required env variables [${names.join(',')}] missing`)

/** Of container ids and network names (CNI-028, CNI-041). */
export const IDENTIFIER = /^[A-Za-z0-9][A-Za-z0-9_.-]*$/

function checkContainerId(id: string): void {
  if (!IDENTIFIER.test(id))
    throw new CniError(CNI_CODE.invalidEnvironment, 'invalid characters in CNI_CONTAINERID', quote(id))
}

/** CNI-030 */
function checkInterfaceName(name: string): void {
  const problem = interfaceNameProblem(name)
  if (problem !== null)
    throw new CniError(
      CNI_CODE.invalidEnvironment,
      'CNI_IFNAME is not a name for an interface',
      `${quote(name)} ${problem}`,
    )
}

function interfaceNameProblem(name: string): string | null {
  if (Buffer.byteLength(name) > MAX_INTERFACE_NAME_BYTES)
    return `has ${Buffer.byteLength(name)} bytes, at most ${MAX_INTERFACE_NAME_BYTES} are possible`
  if (name === '.' || name === '..') return 'is not possible'
  // The kernel takes % as a template for a number. U+0085 is white space to Go and not to \s.
  if (/[/:%\s\u0085]/u.test(name)) return 'must not contain "/", ":", "%" or white space'
  return null
}

// ---------------------------------------------------------------- CNI_ARGS

/** What CNI_ARGS asks for; members are null when it does not say. */
export interface CniArgs {
  readonly podNamespace: string | null
  readonly podName: string | null
  readonly podUid: string | null
  /** Address with or without prefix length. */
  readonly ip: string | null
  readonly mac: string | null
}

export const NO_ARGS: CniArgs = { podNamespace: null, podName: null, podUid: null, ip: null, mac: null }

/** Unknown keys and empty pairs are passed over (CNI-221); the order is free (CNI-223). @throws CniError 4 */
export function parseCniArgs(text: string): CniArgs {
  const pairs = new Map(
    text
      .split(';')
      .filter(pair => pair !== '')
      .map(splitPair),
  )
  const value = (key: string): string | null => pairs.get(key) || null
  const ip = value('IP')
  if (ip !== null && splitAddress(ip) === null) throw badArgs(`IP=${ip}`, 'IP=ADDRESS or IP=ADDRESS/PREFIX')
  const mac = value('MAC')
  if (mac !== null && readMac(mac) === null) throw badArgs(`MAC=${mac}`, macExpected(mac))
  return {
    podNamespace: value('K8S_POD_NAMESPACE'),
    podName: value('K8S_POD_NAME'),
    podUid: value('K8S_POD_UID'),
    ip,
    mac: mac === null ? null : readMac(mac),
  }
}

function splitPair(pair: string): [string, string] {
  const parts = pair.split('=')
  if (parts.length !== 2 || parts[0] === '') throw badArgs(pair, 'KEY=VALUE pairs separated by ";"')
  return parts as [string, string]
}

const badArgs = (pair: string, expected: string): CniError =>
  new CniError(CNI_CODE.invalidEnvironment, 'CNI_ARGS: invalid pair', `${quote(pair)}, expected ${expected}`)
