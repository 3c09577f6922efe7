/**
 * The client against a real API server: what each answer becomes, credentials that expire and are renewed, certificates
 * that are wrong, connections that are cut.
 */
import { copyFileSync, mkdirSync, mkdtempSync, readFileSync, writeFileSync } from 'node:fs'
import { readFile } from 'node:fs/promises'
import { join } from 'node:path'
import { test } from 'uvu'
import * as assert from 'uvu/assert'
import {
  type ClientModules,
  connectKubernetes,
  type KubernetesClient,
  type KubernetesObject,
} from '../../datastore/kubernetes/client.ts'
import { until } from '../../hack/rig/processes.ts'
import { systemClock } from '../../lib/clock.ts'
import { TwillError } from '../../lib/errors.ts'
import { silentLog } from '../../lib/log.ts'
import { authority } from '../fixtures/certificates.ts'
import { startProxy } from '../fixtures/cutting-proxy.ts'
import { startApiServer, type TestApiServer } from '../fixtures/kubernetes/api-server.ts'

const PODS = '/api/v1/namespaces/default/pods'
const CONFIG_MAPS = '/api/v1/namespaces/default/configmaps'

let api: TestApiServer
let admin: KubernetesClient
const clients: KubernetesClient[] = []

const modules: ClientModules = { clock: systemClock, log: silentLog, readFile, environment: {} }

async function connect(
  kubeconfig: string | null,
  options: { serviceAccount?: string; timeoutMs?: number; silenceMs?: number } = {},
  environment: Record<string, string> = {},
): Promise<KubernetesClient> {
  const client = await connectKubernetes({ kubeconfig, ...options }, { ...modules, environment })
  clients.push(client)
  return client
}

test.before(async () => {
  api = await startApiServer()
  admin = await connect(api.kubeconfig)
})

test.after(async () => {
  for (const client of clients) client.close()
  await api.stop()
})

async function failure(attempt: Promise<unknown>): Promise<TwillError> {
  try {
    await attempt
  } catch (error) {
    if (error instanceof TwillError) return error
    throw error
  }
  throw new Error('expected a failure')
}

const configMap = (name: string, data: Record<string, string>) => ({
  apiVersion: 'v1',
  kind: 'ConfigMap',
  metadata: { name },
  data,
})

/** With something of the administrator's kubeconfig replaced. */
function changed(name: string, replace: readonly [pattern: string | RegExp, by: string][]): string {
  const path = join(api.folder, name)
  const text = replace.reduce(
    (each, [pattern, by]) => each.replace(pattern, by),
    readFileSync(api.kubeconfig, 'utf8'),
  )
  writeFileSync(path, text)
  return path
}

test('what the server answers becomes an error of its own code, with verb, path and the server’s words', async () => {
  const created = await admin.request('POST', CONFIG_MAPS, { body: configMap('one', { a: '1' }) })
  const path = `${CONFIG_MAPS}/one`
  const codes: [string, () => Promise<unknown>, RegExp][] = [
    [
      'kubernetes.not-found',
      () => admin.request('GET', `${CONFIG_MAPS}/none`),
      /^GET \/api\/v1\/.*\/none at https:.*: 404 /,
    ],
    [
      'kubernetes.conflict',
      () => admin.request('POST', CONFIG_MAPS, { body: configMap('one', {}) }),
      /already exists/,
    ],
    [
      'kubernetes.invalid',
      () => admin.request('POST', CONFIG_MAPS, { body: configMap('No Name', {}) }),
      /422 .*No Name/,
    ],
    ['kubernetes.not-found', () => admin.request('GET', '/apis/none.twill.network/v1/things'), /404/],
  ]
  for (const [code, attempt, message] of codes) {
    const error = await failure(attempt())
    assert.is(error.code, code)
    assert.match(error.message, message)
    assert.is(error.data.sent, false)
    assert.is(error.retryable, false)
  }
  const stale = { ...configMap('one', { a: '2' }), metadata: created.metadata }
  await admin.request('PUT', path, { body: stale })
  const error = await failure(admin.request('PUT', path, { body: stale }))
  assert.is(error.code, 'kubernetes.conflict')
  assert.is(error.data.reason, 'Conflict')
  const patched = await admin.request('PATCH', path, {
    body: { data: { b: '3' } },
    contentType: 'application/merge-patch+json',
  })
  assert.equal(patched.data, { a: '2', b: '3' })
})

test('a user without the right to it is told which: kubernetes.forbidden', async () => {
  const bob = await connect(api.kubeconfigFor('bob', ['dev']))
  const error = await failure(bob.request('GET', PODS))
  assert.is(error.code, 'kubernetes.forbidden')
  assert.match(error.message, /GET .*pods at .*: 403 .*User "bob" cannot list resource "pods"/)
})

test('a client-certificate that expired is called so: the server itself does not say', async () => {
  const late = await connect(api.kubeconfigFor('late', [], { expired: true }))
  const error = await failure(late.request('GET', PODS))
  assert.is(error.code, 'kubernetes.unauthorized')
  assert.match(error.message, /401 Unauthorized: the client-certificate expired on /)
})

test('in a pod: a token that expired is read again, and with the new one the same request succeeds', async () => {
  await api.kubectl(['create', 'serviceaccount', 'node'])
  await api.kubectl(['create', 'role', 'reader', '--verb=list', '--resource=pods'])
  await api.kubectl(['create', 'rolebinding', 'node', '--role=reader', '--serviceaccount=default:node'])
  const folder = join(api.folder, 'service-account')
  mkdirSync(folder)
  copyFileSync(api.ca, join(folder, 'ca.crt'))
  writeFileSync(join(folder, 'token'), await api.token('default', 'node', -60))
  const environment = { KUBERNETES_SERVICE_HOST: api.host, KUBERNETES_SERVICE_PORT: String(api.port) }
  const node = await connect(null, { serviceAccount: folder }, environment)
  const error = await failure(node.request('GET', PODS))
  assert.is(error.code, 'kubernetes.unauthorized')
  assert.match(error.message, /the token expired at 20/)

  writeFileSync(join(folder, 'token'), `${await api.token('default', 'node', 3600)}\n`)
  // The server learns of a role by a watch of its own.
  const isAllowed = () =>
    node.request('GET', PODS).then(
      () => true,
      () => false,
    )
  await until(isAllowed, 20_000, () => 'the new token is not taken')
})

test('a server whose certificate is wrong, or that speaks something else: said in the words of a kubeconfig', async () => {
  const stranger = authority(mkdtempSync(join(api.folder, 'other-')), 'stranger')
  const cases: [string, string, RegExp][] = [
    [
      'authority',
      changed('authority', [[api.ca, stranger.cert]]),
      /not signed by an authority of certificate-authority$/,
    ],
    [
      'none',
      changed('none', [[/certificate-authority: "[^"]*"/, 'x: 1']]),
      /authority of the system \(no certificate-authority is given\)/,
    ],
    ['host', changed('host', [['127.0.0.1', 'localhost']]), /its certificate is for another host: /],
    ['http', changed('http', [[api.url, api.etcd.endpoint.replace('http', 'https')]]), /is it http there\?/],
    [
      'refused',
      changed('refused', [[/https:\/\/[^"]*/, 'https://127.0.0.1:1']]),
      /connection refused: nothing listens there/,
    ],
  ]
  for (const [name, kubeconfig, message] of cases) {
    const client = await connect(kubeconfig)
    const error = await failure(client.request('POST', CONFIG_MAPS, { body: configMap('never', {}) }))
    assert.is(error.code, 'kubernetes.unavailable', name)
    assert.match(error.message, message)
    assert.is(error.data.sent, false, name)
    assert.is(error.retryable, true)
    assert.is(client.status().connected, false)
  }
  const plain = await connect(changed('plain', [['https', 'http']]))
  assert.match((await failure(plain.request('GET', PODS))).message, /HTTP request to an HTTPS server/)
})

test('a host that the certificate is not for, with the name that it is for', async () => {
  const named = changed('named', [
    ['127.0.0.1', 'localhost'],
    ['cluster: {', 'cluster: {tls-server-name: "127.0.0.1", '],
  ])
  assert.ok((await (await connect(named)).request('GET', PODS)).items)
  const trusting = changed('insecure', [
    ['127.0.0.1', 'localhost'],
    [/certificate-authority: "[^"]*"/, 'insecure-skip-tls-verify: true'],
  ])
  assert.ok((await (await connect(trusting)).request('GET', PODS)).items)
})

test('a change whose answer was lost is in doubt: it was made, and the error says that it may have been', async () => {
  const proxy = await startProxy(api)
  const client = await connect(
    api.kubeconfigFor('admin', ['system:masters'], { server: `https://127.0.0.1:${proxy.port}` }),
    {
      timeoutMs: 1_000,
    },
  )
  await client.request('GET', PODS)
  proxy.swallowAnswers(true)
  const error = await failure(client.request('POST', CONFIG_MAPS, { body: configMap('doubt', {}) }))
  assert.is(error.code, 'kubernetes.unavailable')
  assert.match(error.message, /silent for 1 s/)
  assert.is(error.data.sent, true)
  assert.is((await admin.request('GET', `${CONFIG_MAPS}/doubt`)).metadata.name, 'doubt')
  proxy.swallowAnswers(false)
  proxy.cut()
  assert.ok((await client.request('GET', PODS)).items)
  await proxy.close()
})

test('a watch: every event, in order; a black hole is noticed by its silence', async () => {
  const proxy = await startProxy(api)
  const client = await connect(
    api.kubeconfigFor('admin', ['system:masters'], { server: `https://127.0.0.1:${proxy.port}` }),
    { silenceMs: 1_000 },
  )
  const { metadata } = await client.request<KubernetesObject>('GET', CONFIG_MAPS)
  const seen: string[] = []
  const { resourceVersion } = metadata
  const watching = client.watch(
    CONFIG_MAPS,
    { resourceVersion },
    ({ type, object }) => seen.push(`${type} ${object.metadata.name}`),
    new AbortController().signal,
  )
  const ended = failure(watching)
  await admin.request('POST', CONFIG_MAPS, { body: configMap('watched', {}) })
  await admin.request('DELETE', `${CONFIG_MAPS}/watched`)
  await until(
    () => seen.length === 2,
    20_000,
    () => `seen: ${seen.join(', ')}`,
  )
  assert.equal(seen, ['ADDED watched', 'DELETED watched'])
  proxy.blackHole()
  const error = await ended
  assert.is(error.code, 'kubernetes.unavailable')
  assert.match(error.message, /^WATCH .*configmaps at .*: silent for 1 s$/)
  await proxy.close()
})

test('a watch from a version that the server no longer has: kubernetes.gone', async () => {
  await api.kill()
  await api.start()
  const watching = admin.watch(PODS, { resourceVersion: '1' }, () => {}, new AbortController().signal)
  const error = await failure(watching)
  assert.is(error.code, 'kubernetes.gone')
  assert.match(error.message, /410 too old resource version/)
})

test('closed: what is under way ends as cancelled', async () => {
  const client = await connect(api.kubeconfig)
  const watching = client.watch(
    PODS,
    {},
    () => {},
    new AbortController().signal,
    () => client.close(),
  )
  assert.is((await failure(watching)).code, 'cancelled')
})

test.run()
