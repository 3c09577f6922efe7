/**
 * Calls CNI plugins the way a runtime does (libcni): the first .conflist by name in /etc/cni/net.d, its plugins in
 * order with name, cniVersion, prevResult and the runtime's capability arguments injected; for DEL in reverse order.
 * Source: CNI specification 1.1.0, sections 3 "Execution of Network Configurations" and 4.
 */
import { readdirSync, readFileSync } from 'node:fs'
import type { Machine } from './machine.ts'
import type { RunResult } from './processes.ts'

export interface CniResult {
  cniVersion: string
  interfaces?: { name: string; mac?: string; mtu?: number; sandbox?: string }[]
  ips?: { address: string; gateway?: string; interface?: number }[]
  routes?: { dst: string; gw?: string }[]
  dns?: object
}

interface PluginConfig {
  type: string
  capabilities?: Record<string, boolean>
  [key: string]: unknown
}

export interface ConfList {
  cniVersion: string
  name: string
  plugins: PluginConfig[]
}

export interface CniCall {
  containerId: string
  netns: string
  ifName: string
  /** CNI_ARGS */
  args: Record<string, string>
  /** Offered to plugins that declare the capability. */
  capabilityArgs?: Record<string, unknown>
  /** The convention "args.cni" of the network configuration, for instance labels. */
  cniArgs?: Record<string, unknown>
}

const CONF_DIR = '/etc/cni/net.d'
const BIN_DIR = '/opt/cni/bin'

/** The plugin's error object as the specification lays it out (section 5, "Error"). */
export class CniError extends Error {
  readonly code: number
  readonly details: string
  constructor(fields: { plugin: string; code: number; msg: string; details?: string }) {
    super(
      `${fields.plugin}: ${fields.msg}${fields.details ? ` (${fields.details})` : ''} [code ${fields.code}]`,
    )
    this.code = fields.code
    this.details = fields.details ?? ''
  }
}

/** @throws Error if the node has none, as a runtime would say "cni config uninitialized" */
export function readConfList(machine: Machine): ConfList {
  const folder = machine.path(CONF_DIR)
  const name = readdirSync(folder)
    .filter(entry => entry.endsWith('.conflist'))
    .sort()[0]
  if (name === undefined) throw new Error(`${machine.name}: no network configuration in ${CONF_DIR}`)
  return JSON.parse(readFileSync(`${folder}/${name}`, 'utf8')) as ConfList
}

function configFor(
  list: ConfList,
  plugin: PluginConfig,
  call: CniCall,
  previous: CniResult | undefined,
): string {
  const { capabilities, ...rest } = plugin
  const declared = Object.entries(call.capabilityArgs ?? {}).filter(([name]) => capabilities?.[name])
  return JSON.stringify({
    ...rest,
    cniVersion: list.cniVersion,
    name: list.name,
    ...(declared.length > 0 ? { runtimeConfig: Object.fromEntries(declared) } : {}),
    ...(call.cniArgs === undefined ? {} : { args: { cni: call.cniArgs } }),
    ...(previous === undefined ? {} : { prevResult: previous }),
  })
}

/** Executes one plugin with a prepared environment; no verdict on what it says. */
export function execPlugin(
  machine: Machine,
  command: string,
  type: string,
  call: CniCall,
  config: string,
): Promise<RunResult> {
  const args = Object.entries(call.args).map(([name, value]) => `${name}=${value}`)
  const env = {
    ...machine.environment,
    CNI_COMMAND: command,
    CNI_CONTAINERID: call.containerId,
    CNI_NETNS: call.netns,
    CNI_IFNAME: call.ifName,
    CNI_ARGS: args.join(';'),
    CNI_PATH: BIN_DIR,
  }
  return machine.run([`${BIN_DIR}/${type}`], { env, input: config })
}

function parseError(plugin: string, result: RunResult): Error {
  try {
    const error = JSON.parse(result.stdout) as { code: number; msg: string; details?: string }
    return new CniError({ ...error, plugin })
  } catch {
    return new Error(`${plugin}: exit ${result.status}: ${(result.stderr || result.stdout).trim()}`)
  }
}

async function execOrThrow(machine: Machine, command: string, type: string, call: CniCall, config: string) {
  const result = await execPlugin(machine, command, type, call, config)
  if (result.status !== 0) throw parseError(type, result)
  return result.stdout
}

/** @returns the last plugin's result. @throws CniError; the caller owes a DEL then, as a runtime does */
export async function cniAdd(machine: Machine, list: ConfList, call: CniCall): Promise<CniResult> {
  let previous: CniResult | undefined
  for (const plugin of list.plugins) {
    const config = configFor(list, plugin, call, previous)
    previous = JSON.parse(await execOrThrow(machine, 'ADD', plugin.type, call, config)) as CniResult
  }
  if (previous === undefined) throw new Error(`${list.name}: a list without plugins`)
  return previous
}

/** @param previous the result of ADD, undefined if it never came to one */
export async function cniDel(
  machine: Machine,
  list: ConfList,
  call: CniCall,
  previous?: CniResult,
): Promise<void> {
  for (const plugin of [...list.plugins].reverse())
    await execOrThrow(machine, 'DEL', plugin.type, call, configFor(list, plugin, call, previous))
}

export async function cniCheck(
  machine: Machine,
  list: ConfList,
  call: CniCall,
  previous: CniResult,
): Promise<void> {
  for (const plugin of list.plugins)
    await execOrThrow(machine, 'CHECK', plugin.type, call, configFor(list, plugin, call, previous))
}
