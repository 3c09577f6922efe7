/** The rig's etcd: a real one, in the underlay's namespaces, its data in the rig's folder. */
import { mkdirSync, readFileSync } from 'node:fs'
import { join } from 'node:path'
import { ETCD_URL } from './layout.ts'
import type { Machine } from './machine.ts'
import { until } from './processes.ts'

/** Returns when it serves. Does nothing if it runs. */
export async function startEtcd(underlay: Machine): Promise<void> {
  if (underlay.servicePid('etcd') !== undefined) return
  // /var/lib/twill is bound from the state folder, so that the data outlives the machine.
  const data = '/var/lib/twill/etcd'
  mkdirSync(underlay.path(data), { recursive: true, mode: 0o700 })
  const listen = ['--listen-client-urls', `http://0.0.0.0:2379`, '--advertise-client-urls', ETCD_URL]
  const peers = [
    '--listen-peer-urls',
    'http://127.0.0.1:2380',
    '--initial-cluster',
    'default=http://127.0.0.1:2380',
  ]
  const self = [
    '--initial-advertise-peer-urls',
    'http://127.0.0.1:2380',
    '--name',
    'default',
    '--data-dir',
    data,
  ]
  // Elections with itself: the shortest that etcd allows, since start-up waits for one.
  const timing = ['--heartbeat-interval', '10', '--election-timeout', '50', '--logger', 'zap']
  await underlay.startService('etcd', ['etcd', ...listen, ...peers, ...self, ...timing])
  await until(
    async () => (await etcdctl(underlay, ['endpoint', 'health', '--command-timeout', '1s'])).status === 0,
    20_000,
    () => `etcd does not serve: ${lastLines(join(underlay.state, 'etcd.log'))}`,
  )
}

export function stopEtcd(underlay: Machine): Promise<boolean> {
  return underlay.endService('etcd', 'TERM')
}

export function etcdctl(underlay: Machine, args: string[], input?: string) {
  return underlay.run(['env', 'ETCDCTL_API=3', 'etcdctl', '--endpoints', ETCD_URL, ...args], {
    ...(input === undefined ? {} : { input }),
  })
}

export function lastLines(file: string, count = 5): string {
  return readFileSync(file, 'utf8').trim().split('\n').slice(-count).join('\n')
}
