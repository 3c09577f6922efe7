/**
 * The reflector against a real API server while the network and the server fail: whatever happens, what it tells is
 * each change once, and what it holds in the end is what the server has.
 */

import { readFile } from 'node:fs/promises'
import { join } from 'node:path'
import { suite } from 'uvu'
import * as assert from 'uvu/assert'
import {
  type ClientModules,
  connectKubernetes,
  type KubernetesClient,
  type KubernetesObject,
} from '../../datastore/kubernetes/client.ts'
import { Reflector, type ReflectorOptions } from '../../datastore/kubernetes/reflector.ts'
import { until } from '../../hack/rig/processes.ts'
import { systemClock } from '../../lib/clock.ts'
import { isTwillError } from '../../lib/errors.ts'
import { silentLog } from '../../lib/log.ts'
import { systemRandom } from '../../lib/random.ts'
import { type CuttingProxy, startProxy } from '../fixtures/cutting-proxy.ts'
import { etcdctl } from '../fixtures/etcdctl.ts'
import { startApiServer, type TestApiServer } from '../fixtures/kubernetes/api-server.ts'
import { Replica } from '../fixtures/kubernetes/replica.ts'
import { SeededRandom } from '../fixtures/manual-clock.ts'

const test = suite('reflector')
const MAPS = '/api/v1/namespaces/default/configmaps'
const PATIENCE_MS = 60_000

let api: TestApiServer
let admin: KubernetesClient
let proxy: CuttingProxy
let proxied: string
const ends: (() => unknown)[] = []

const modules: ClientModules = { clock: systemClock, log: silentLog, readFile, environment: {} }

test.before(async () => {
  api = await startApiServer()
  proxy = await startProxy(api)
  proxied = api.kubeconfigFor('admin', ['system:masters'], { server: `https://127.0.0.1:${proxy.port}` })
  admin = await connectKubernetes({ kubeconfig: api.kubeconfig }, modules)
})

test.after(async () => {
  for (const end of ends.reverse()) await end()
  admin.close()
  await proxy.close()
  await api.stop()
})

/** The administrator waits where a server that has just come back, on a busy machine, does not answer yet. */
async function asAdmin<T = KubernetesObject>(...args: Parameters<KubernetesClient['request']>): Promise<T> {
  let said: unknown = null
  let answer: T | null = null
  await until(
    async () => {
      try {
        answer = await admin.request<T>(...args)
        return true
      } catch (error) {
        if (!isTwillError(error, 'kubernetes.unavailable')) throw error
        said = error.message
        return false
      }
    },
    PATIENCE_MS,
    () => String(said),
  )
  return answer as T
}

const write = (name: string, value: string) =>
  asAdmin('PATCH', `${MAPS}/${name}`, {
    query: { fieldManager: 'test', force: true },
    body: {
      apiVersion: 'v1',
      kind: 'ConfigMap',
      metadata: { name, labels: { test: 'yes' } },
      data: { value },
    },
    contentType: 'application/apply-patch+yaml',
  })

const remove = (name: string) =>
  asAdmin('DELETE', `${MAPS}/${name}`).catch(error => {
    if (!isTwillError(error, 'kubernetes.not-found')) throw error
  })

async function follow(
  kubeconfig: string,
  options: Partial<ReflectorOptions<string>> & { client?: KubernetesClient } = {},
) {
  const client = options.client ?? (await connectKubernetes({ kubeconfig }, modules))
  const replica = new Replica<string>()
  const reflector = new Reflector<string>(
    {
      path: MAPS,
      labelSelector: 'test=yes',
      slim: object => (object as KubernetesObject & { data: { value: string } }).data.value,
      onChange: replica.onChange,
      ...options,
    },
    { client, clock: systemClock, random: systemRandom, log: silentLog },
  )
  ends.push(async () => {
    await reflector.close()
    client.close()
  })
  return { client, replica, reflector }
}

async function expected(): Promise<string[]> {
  type List = { items: { metadata: { name: string }; data: { value: string } }[] }
  const { items } = await asAdmin<List>('GET', MAPS, { query: { labelSelector: 'test=yes' } })
  return items.map(({ metadata, data }) => `default/${metadata.name}=${data.value}`).sort()
}

async function untilSame(replica: Replica<string>): Promise<void> {
  const wanted = await expected()
  const state = () => replica.state.join()
  await until(
    () => state() === wanted.join(),
    PATIENCE_MS,
    () => `expected ${wanted.join()}, found ${state()}`,
  )
  assert.equal(replica.mistakes, [])
}

test('connections cut at many places of lists and watches, while objects come, change and go', async () => {
  const random = new SeededRandom(11)
  const whole = await follow(api.kubeconfig)
  const { replica, reflector } = await follow(proxied, { pageSize: 3 })
  await reflector.synced()
  proxy.cutEach([10, 2_000, 3_000, 3_100, 5_000, 3_333, 4_000, 2_500, 3_700])
  for (let step = 0; step < 120; step++) {
    const name = `m${Math.floor(random.fraction() * 12)}`
    if (random.fraction() < 0.3) await remove(name)
    else await write(name, String(step))
    if (step % 20 === 10) proxy.cutAfter(Math.floor(random.fraction() * 900))
    if (step % 30 === 29) proxy.cut()
  }
  await untilSame(whole.replica)
  await untilSame(replica)
  assert.ok(proxy.connections > 5, `${proxy.connections} connections`)
  // No change of the other's was skipped by a list: what is lost is the connection, not the history.
  assert.is(reflector.lists, 1)
  assert.is(replica.changes, whole.replica.changes)
})

test('the server forgets the past while nobody listens (410): the exact differences, deletions told', async () => {
  const { replica, reflector } = await follow(proxied)
  await reflector.synced()
  await untilSame(replica)
  proxy.refuse(true)
  proxy.cut()
  await write('new', 'while away')
  await write('kept', 'first')
  await remove('kept')
  await write('kept', 'second')
  for (const name of [...replica.entries.keys()].slice(0, 3)) await remove(name.replace('default/', ''))
  await api.compact()
  await api.kill()
  await api.start()
  proxy.refuse(false)
  await untilSame(replica)
  assert.is(reflector.lists, 2)
})

test('the server is restarted, and nothing has changed: the watch goes on without a list', async () => {
  const { replica, reflector } = await follow(api.kubeconfig)
  await until(
    () => reflector.isConnected,
    PATIENCE_MS,
    () => `not watched: ${reflector.problem()}`,
  )
  await api.kill()
  await until(
    () => reflector.problem() !== null,
    PATIENCE_MS,
    () => 'no problem was noticed',
  )
  assert.match(reflector.problem() ?? '', /WATCH .*: (connection refused|the connection was)/)
  await api.start()
  await write('after', 'restart')
  await untilSame(replica)
  assert.is(reflector.problem(), null)
  assert.ok(reflector.lists <= 2)
})

test('the server is restored to an older state: the exact differences, and what comes after', async () => {
  const { replica, reflector } = await follow(api.kubeconfig)
  await reflector.synced()
  await write('kept', 'of the backup')
  const backup = join(api.folder, 'backup')
  await etcdctl(api.etcd, 'snapshot', 'save', backup)
  await write('kept', 'of later')
  for (let i = 0; i < 20; i++) await write('lost', String(i))
  await untilSame(replica)
  await api.kill()
  await api.etcd.restore(backup)
  await api.start()
  await write('came', 'after')
  await untilSame(replica)
})

test.run()
