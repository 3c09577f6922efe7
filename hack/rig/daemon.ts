/** twilld on a node of the rig: its configuration, start, end, and its local API as the host reaches it. */
import { existsSync, mkdirSync, writeFileSync } from 'node:fs'
import { request } from 'node:http'
import { join } from 'node:path'
import { stringify } from 'yaml'
import { lastLines } from './etcd.ts'
import { ETCD_URL, PODS, ROOT } from './layout.ts'
import type { Machine } from './machine.ts'
import { until } from './processes.ts'

export interface DaemonOptions {
  /** Variables such as TWILL_FAULT. */
  env?: Record<string, string>
  /** Return at once instead of when the daemon is ready. */
  wait?: boolean
  timeoutMs?: number
}

export interface ApiAnswer {
  status: number
  body: string
}

const CONFIG = '/etc/twill/twilld.yaml'
const CONFLIST = '/etc/cni/net.d/10-twill.conflist'
const API_SOCKET = '/run/twill/api.sock'

/** What is the same on every node. */
export const clusterConfig = () => ({
  datastore: { type: 'etcd', endpoints: [ETCD_URL] },
  firstPools: [
    { name: 'pods-v4', spec: { cidr: PODS.v4 } },
    { name: 'pods-v6', spec: { cidr: PODS.v6 } },
  ],
})

/** @param changes keys of daemon/config.ts that replace the rig's own */
export function writeDaemonConfig(machine: Machine, changes: Record<string, unknown> = {}): void {
  const config = { nodeName: machine.name, ...clusterConfig(), ...changes }
  mkdirSync(machine.path('/etc/twill'), { recursive: true })
  writeFileSync(machine.path(CONFIG), stringify(config), { mode: 0o600 })
}

/** The node's daemon answers on a Unix socket; from the host it is reached through the node's root. */
export function askDaemon(machine: Machine, path: string, method = 'GET', body?: string): Promise<ApiAnswer> {
  return new Promise((resolve, reject) => {
    // No connection is kept: it may lead to a daemon that was killed meanwhile.
    const where = { socketPath: machine.path(API_SOCKET), agent: false }
    const call = request({ ...where, path, method, timeout: 5_000 }, response => {
      const chunks: Buffer[] = []
      response.on('data', (chunk: Buffer) => chunks.push(chunk))
      response.once('end', () =>
        resolve({ status: response.statusCode ?? 0, body: Buffer.concat(chunks).toString() }),
      )
      response.once('error', reject)
    })
    call.once('timeout', () => call.destroy(new Error(`${machine.name}: ${path}: no answer within 5 s`)))
    call.once('error', reject)
    call.end(body)
  })
}

/**
 * Ready as a runtime sees it: the daemon says so, and the network configuration is there (which comes last).
 * @returns undefined when ready, else why not
 */
export async function whyNotReady(machine: Machine): Promise<string | undefined> {
  try {
    const answer = await askDaemon(machine, '/v1/ready')
    if (answer.status !== 200) return answer.body
    return existsSync(machine.path(CONFLIST)) ? undefined : `there is no ${CONFLIST} yet`
  } catch (error) {
    return (error as Error).message
  }
}

export const daemonLog = (machine: Machine): string => join(machine.state, 'twilld.log')

/** Does nothing if it runs. @throws Error with its last log lines if it ends, or is not ready in time */
export async function startDaemon(machine: Machine, options: DaemonOptions = {}): Promise<void> {
  if (machine.servicePid('twilld') === undefined) {
    const variables = Object.entries(options.env ?? {}).map(([name, value]) => `${name}=${value}`)
    const command = ['env', ...variables, join(ROOT, 'dist/bin/twilld'), '--config', CONFIG]
    await machine.startService('twilld', command)
  }
  if (options.wait !== false) await awaitReady(machine, options.timeoutMs)
}

export async function awaitReady(machine: Machine, timeoutMs = 30_000): Promise<void> {
  let reason: string | undefined
  await until(
    async () => {
      reason = await whyNotReady(machine)
      if (reason !== undefined && machine.servicePid('twilld') === undefined)
        throw new Error(`${machine.name}: twilld ended: ${lastLines(daemonLog(machine))}`)
      return reason === undefined
    },
    timeoutMs,
    () => `${machine.name}: twilld is not ready: ${reason}\n${lastLines(daemonLog(machine))}`,
  )
}
