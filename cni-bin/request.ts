/**
 * From what a runtime hands over (environment and stdin) to a typed request, refused in the order of CNI-027:
 * variables (4), stdin readable (5), a JSON object (6), name (7), version (6, 1), then the configuration (2, 7)
 * and the namespace (4, 8). Pure: the same code decides in the daemon and in twill-offline.
 *
 * Trap: DEL must work from what was recorded (CNI-049, CNI-139), also when the configuration has changed or an
 * optional part of it cannot be read: everything optional is null or empty there instead of an error.
 */
import { parseAddressWishes, parseWishes, type Wishes } from './capabilities.ts'
import { CNI_CODE, CniError, quote } from './cni-error.ts'
import {
  type CniArgs,
  checkEnvironment,
  type Environment,
  IDENTIFIER,
  NO_ARGS,
  parseCniArgs,
} from './environment.ts'
import type { Request } from './frame.ts'
import {
  integerAt,
  isObject,
  type JsonObject,
  memberOf,
  objectAt,
  objectsAt,
  parseJsonObject,
  refuse,
  textAt,
} from './json.ts'
import { type CniResult, type Dns, NO_DNS, parseDns, parseResult, type ResultRoute } from './result.ts'
import {
  checkOwnership,
  type Plugin,
  parseIpamSection,
  parseTwillSection,
  pluginOf,
  type TwillSection,
} from './sections.ts'
import { type CniVersion, negotiateVersion, versionInUse } from './version.ts'

export interface RequestContext {
  /** The namespace that the plugin itself is in; null when unknown, then code 8 is never given. */
  readonly ownNetns: { readonly dev: string; readonly ino: string } | null
  /** Why stdin could not be read to its end; null when it was. */
  readonly stdinFailure: string | null
}

/** What there is of a Kubernetes pod's identity; uid is '' when the runtime does not send it. */
export interface PodIdentity {
  readonly namespace: string
  readonly name: string
  readonly uid: string
}

/** A namespace as the caller opened it; the shape of kernel.ts's NetnsRef. */
export interface OpenedNetns {
  readonly path: string
  /** st_dev and st_ino as decimal text; null when the caller could not open the path. */
  readonly dev: string | null
  readonly ino: string | null
}

interface Common {
  /** As which of the two the executable was called. */
  readonly plugin: Plugin
  readonly cniVersion: CniVersion
  /** Name of the network. */
  readonly network: string
}

export interface Attachment {
  readonly containerId: string
  readonly ifName: string
}

interface AttachmentRequest extends Common, Attachment {
  /** null: not a Kubernetes pod, or the runtime does not say (CNI-225). */
  readonly pod: PodIdentity | null
  readonly wishes: Wishes
  readonly twill: TwillSection
  /** For the result of twill-ipam; [] of twill. */
  readonly routes: readonly ResultRoute[]
  /** Bytes; null when the configuration does not say, and always of twill-ipam. */
  readonly mtu: number | null
  /** For the result: runtimeConfig.dns, else the configuration's. */
  readonly dns: Dns
}

export interface AddRequest extends AttachmentRequest {
  readonly command: 'ADD'
  readonly netns: OpenedNetns
  /** Of the plugin before us in the chain. */
  readonly prevResult: CniResult | null
}

export interface CheckRequest extends AttachmentRequest {
  readonly command: 'CHECK'
  readonly netns: OpenedNetns
  /** Of the whole chain. */
  readonly prevResult: CniResult
}

export interface DelRequest extends Common, Attachment {
  readonly command: 'DEL'
  /** null: CNI_NETNS was empty. Its dev and ino are null when the path could not be opened. */
  readonly netns: OpenedNetns | null
  /** null also when it could not be read. */
  readonly prevResult: CniResult | null
}

export interface GcRequest extends Common {
  readonly command: 'GC'
  /** null: the runtime sent no list; nothing may be reclaimed (CNI-164). */
  readonly validAttachments: readonly Attachment[] | null
}

export interface StatusRequest extends Common {
  readonly command: 'STATUS'
  readonly twill: TwillSection
}

export interface VersionRequest {
  readonly command: 'VERSION'
  readonly cniVersion: CniVersion
}

export type CniRequest = AddRequest | CheckRequest | DelRequest | GcRequest | StatusRequest | VersionRequest

/** @throws CniError; the version to answer it in is `versionInUse(request.stdin)` */
export function parseRequest(request: Request, context: RequestContext): CniRequest {
  const command = checkEnvironment(request.environment)
  if (command === 'VERSION') return { command, cniVersion: versionInUse(request.stdin) }
  const asksForAttachment = command === 'ADD' || command === 'CHECK'
  const cniArgs = asksForAttachment ? parseCniArgs(request.environment.get('CNI_ARGS') ?? '') : NO_ARGS
  if (context.stdinFailure !== null)
    throw new CniError(CNI_CODE.ioFailure, 'cannot read stdin', context.stdinFailure)
  const config = parseJsonObject(request.stdin)
  if (config === null)
    throw new CniError(
      CNI_CODE.decodingFailure,
      'stdin is not a JSON object',
      `expected one JSON object in UTF-8, found ${request.stdin.length} bytes that are not`,
    )
  const network = networkName(config)
  const plugin = pluginOf(request.program)
  const common: Common = { plugin, network, cniVersion: negotiateVersion(config, command) }
  switch (command) {
    case 'ADD':
      return parseAdd(request, context, config, { ...common, ...parseAttachment(request, config, cniArgs) })
    case 'CHECK':
      return parseCheck(request, context, config, { ...common, ...parseAttachment(request, config, cniArgs) })
    case 'DEL':
      return parseDel(request, context, config, common)
    case 'GC':
      return { command, ...common, validAttachments: validAttachments(config) }
    case 'STATUS':
      return { command, ...common, ...parseSection(plugin, config) }
  }
}

/** CNI-041 */
function networkName(config: JsonObject): string {
  const name = memberOf(config, 'name')
  if (name === undefined || name === '')
    throw new CniError(CNI_CODE.invalidNetworkConfig, 'missing network name')
  if (typeof name !== 'string' || !IDENTIFIER.test(name))
    throw new CniError(CNI_CODE.invalidNetworkConfig, 'invalid characters in network name', quote(name))
  return name
}

// ---------------------------------------------------------------- the commands

function parseAdd(
  request: Request,
  context: RequestContext,
  config: JsonObject,
  attachment: AttachmentRequest,
): AddRequest {
  // Of the plugin before the one that called: it merges its own result.
  const prevResult = attachment.plugin === 'twill' ? parsePrevResult(config) : null
  return { command: 'ADD', ...attachment, prevResult, netns: openedNetns(request, context) }
}

function parseCheck(
  request: Request,
  context: RequestContext,
  config: JsonObject,
  attachment: AttachmentRequest,
): CheckRequest {
  const prevResult = parsePrevResult(config)
  if (prevResult === null)
    throw new CniError(
      CNI_CODE.invalidNetworkConfig,
      'missing prevResult',
      'CHECK needs the prevResult of ADD to compare with',
    )
  return { command: 'CHECK', ...attachment, prevResult, netns: openedNetns(request, context) }
}

function parseDel(request: Request, context: RequestContext, config: JsonObject, common: Common): DelRequest {
  refuseOwnNetns(request, context)
  return {
    command: 'DEL',
    ...common,
    ...attachmentOf(request.environment),
    netns: netnsOf(request),
    // At 0.3.x there is none by the specification (CNI-067), but a runtime that sends one does no harm.
    prevResult: orNull(() => parsePrevResult(config)),
  }
}

function orNull<T>(parse: () => T | null): T | null {
  try {
    return parse()
  } catch (error) {
    if (error instanceof CniError) return null
    throw error
  }
}

// ---------------------------------------------------------------- the configuration

function parseAttachment(
  request: Request,
  config: JsonObject,
  cniArgs: CniArgs,
): Omit<AttachmentRequest, keyof Common> {
  const plugin = pluginOf(request.program)
  const common = {
    ...attachmentOf(request.environment),
    pod: podIdentity(cniArgs),
    ...parseSection(plugin, config),
  }
  if (plugin === 'twill-ipam') {
    // All else in the configuration is the caller's (CNI-241).
    const wishes = parseAddressWishes(config, cniArgs)
    return { ...common, wishes, mtu: null, dns: wishes.dns ?? NO_DNS }
  }
  const wishes = parseWishes(config, cniArgs)
  const dns = parseDns(objectAt(config, 'dns', 'dns'), 'dns')
  return {
    ...common,
    wishes,
    // 0 is Go's way to say that it is not set. The rest is what a veth takes (ETH_MIN_MTU, ETH_MAX_MTU).
    mtu: memberOf(config, 'mtu') === 0 ? null : integerAt(config, 'mtu', 'mtu', [68, 65535]),
    dns: wishes.dns ?? dns,
  }
}

/** @throws CniError 2, 7 */
function parseSection(
  plugin: Plugin,
  config: JsonObject,
): { twill: TwillSection; routes: readonly ResultRoute[] } {
  if (plugin === 'twill') {
    checkOwnership(config)
    return { twill: parseTwillSection(config), routes: [] }
  }
  const { routes, ...twill } = parseIpamSection(config)
  return { twill, routes }
}

function attachmentOf(environment: Environment): Attachment {
  return {
    containerId: environment.get('CNI_CONTAINERID') as string,
    ifName: environment.get('CNI_IFNAME') as string,
  }
}

function podIdentity(args: CniArgs): PodIdentity | null {
  if (args.podNamespace === null || args.podName === null) return null
  return { namespace: args.podNamespace, name: args.podName, uid: args.podUid ?? '' }
}

function parsePrevResult(config: JsonObject): CniResult | null {
  const value = memberOf(config, 'prevResult')
  if (value === undefined) return null
  if (!isObject(value)) throw refuse('prevResult', value, 'an object')
  return parseResult(value, 'prevResult')
}

/** Both spellings are in use (CNI-160). */
function validAttachments(config: JsonObject): readonly Attachment[] | null {
  const key = ['cni.dev/valid-attachments', 'cni.dev/attachments'].find(
    name => memberOf(config, name) !== undefined,
  )
  if (key === undefined) return null
  return objectsAt(config, key, key).map((each, i) => ({
    containerId: requiredText(each, 'containerID', `${key}[${i}]`),
    ifName: requiredText(each, 'ifname', `${key}[${i}]`),
  }))
}

function requiredText(object: JsonObject, key: string, path: string): string {
  const text = textAt(object, key, `${path}.${key}`)
  if (text === null) throw refuse(`${path}.${key}`, memberOf(object, key) ?? null, 'text')
  return text
}

// ---------------------------------------------------------------- the namespace

function netnsOf(request: Request): OpenedNetns | null {
  const path = request.environment.get('CNI_NETNS') ?? ''
  return path === '' ? null : { path, dev: request.netnsDev, ino: request.netnsIno }
}

function openedNetns(request: Request, context: RequestContext): OpenedNetns {
  refuseOwnNetns(request, context)
  const netns = netnsOf(request) as OpenedNetns
  if (netns.ino === null)
    throw new CniError(CNI_CODE.invalidEnvironment, 'CNI_NETNS cannot be opened', quote(netns.path))
  return netns
}

/** Before anything is touched (CNI-034). @throws CniError 8 */
function refuseOwnNetns(request: Request, context: RequestContext): void {
  const own = context.ownNetns
  if (own === null || request.netnsIno !== own.ino || request.netnsDev !== own.dev) return
  const override = (request.environment.get('CNI_NETNS_OVERRIDE') ?? '').toLowerCase()
  if (override === '1' || override === 'true') return
  throw new CniError(
    CNI_CODE.invalidNetns,
    "plugin's netns and netns from CNI_NETNS should not be the same",
    `CNI_NETNS ${quote(request.environment.get('CNI_NETNS') ?? '')} is the host's own namespace`,
  )
}
