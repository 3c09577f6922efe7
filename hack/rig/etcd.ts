/** The rig's etcd: real ones, in the underlay's namespaces, their data in the rig's folder. */
import { mkdirSync, readFileSync } from 'node:fs'
import { join } from 'node:path'
import { UNDERLAY } from './layout.ts'
import type { Machine } from './machine.ts'
import { type RunResult, until } from './processes.ts'

/** A service of the underlay; its peers' port is the next one. */
export interface RigEtcd {
  readonly name: string
  readonly port: number
}

/** Twill's. */
const ETCD: RigEtcd = { name: 'etcd', port: 2379 }

export const etcdUrl = ({ port }: RigEtcd): string => `http://${UNDERLAY.v4.address}:${port}`

/** Returns when it serves. Does nothing if it runs. */
export async function startEtcd(underlay: Machine, etcd = ETCD): Promise<void> {
  const { name, port } = etcd
  if (underlay.servicePid(name) !== undefined) return
  // /var/lib/twill is bound from the state folder, so that the data outlives the machine.
  const data = `/var/lib/twill/${name}`
  mkdirSync(underlay.path(data), { recursive: true, mode: 0o700 })
  const peer = `http://127.0.0.1:${port + 1}`
  const listen = ['--listen-client-urls', `http://0.0.0.0:${port}`, '--advertise-client-urls', etcdUrl(etcd)]
  const peers = ['--listen-peer-urls', peer, '--initial-cluster', `default=${peer}`]
  const self = ['--initial-advertise-peer-urls', peer, '--name', 'default', '--data-dir', data]
  // Elections with itself: the shortest that etcd allows, since start-up waits for one.
  const timing = ['--heartbeat-interval', '10', '--election-timeout', '50', '--logger', 'zap']
  await underlay.startService(name, ['etcd', ...listen, ...peers, ...self, ...timing])
  await until(
    async () => (await run(underlay, etcd, ['endpoint', 'health', '--command-timeout', '1s'])).status === 0,
    20_000,
    () => `${name} does not serve: ${lastLines(join(underlay.state, `${name}.log`))}`,
  )
}

export function stopEtcd(underlay: Machine, etcd = ETCD): Promise<boolean> {
  return underlay.endService(etcd.name, 'TERM')
}

/** Asks Twill's. */
export const etcdctl = (underlay: Machine, args: string[], input?: string): Promise<RunResult> =>
  run(underlay, ETCD, args, input)

function run(underlay: Machine, etcd: RigEtcd, args: string[], input?: string): Promise<RunResult> {
  return underlay.run(['env', 'ETCDCTL_API=3', 'etcdctl', '--endpoints', etcdUrl(etcd), ...args], {
    ...(input === undefined ? {} : { input }),
  })
}

export function lastLines(file: string, count = 5): string {
  return readFileSync(file, 'utf8').trim().split('\n').slice(-count).join('\n')
}
