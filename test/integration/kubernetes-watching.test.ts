/**
 * What a daemon says, and does, at an API server that does not let it, does not have its definitions, or does not know it any
 * more: each is named in status with what helps, the rest goes on, and it mends by itself. Time goes twenty times as fast.
 */
import { rmSync, writeFileSync } from 'node:fs'
import { readFile } from 'node:fs/promises'
import { join } from 'node:path'
import { suite } from 'uvu'
import * as assert from 'uvu/assert'
import { stringify } from 'yaml'
import { connectDaemon } from '../../daemon/kubernetes/connection.ts'
import { type KubernetesWatching, watchKubernetes } from '../../daemon/kubernetes/watching.ts'
import { kubernetesConditions } from '../../daemon/status.ts'
import { slotKey } from '../../datastore/keys.ts'
import { connectKubernetes, type KubernetesClient } from '../../datastore/kubernetes/client.ts'
import { definitionsOf } from '../../datastore/kubernetes/definitions/served.ts'
import {
  DAEMON_RIGHTS,
  missingRights,
  nameOf,
  RECORD_RIGHTS,
  type Right,
  rightsMessage,
} from '../../datastore/kubernetes/rights.ts'
import { kubernetesStore } from '../../datastore/kubernetes/store.ts'
import { until } from '../../hack/rig/processes.ts'
import { parseCidr } from '../../lib/address.ts'
import { systemClock } from '../../lib/clock.ts'
import { isTwillError, type TwillError } from '../../lib/errors.ts'
import { silentLog } from '../../lib/log.ts'
import { systemRandom } from '../../lib/random.ts'
import { fastClock } from '../fixtures/fast-clock.ts'
import { type ApiRequests, apiRequests } from '../fixtures/kubernetes/api-request.ts'
import { startApiServer, type TestApiServer } from '../fixtures/kubernetes/api-server.ts'
import { accountFolder, inCluster } from '../fixtures/kubernetes/daemon-pod.ts'
import { applyDefinitions } from '../fixtures/kubernetes/definitions.ts'

const test = suite('a server that does not serve everything')
const PATIENCE_MS = 60_000
const clock = fastClock(20)
const modules = { clock, random: systemRandom, log: silentLog }
const RIGHTS = [...DAEMON_RIGHTS, ...RECORD_RIGHTS]
const ROLE = '/apis/rbac.authorization.k8s.io/v1/clusterroles/twill'

let api: TestApiServer
let admin: ApiRequests
/** Of a service account that has no right but those of the role. */
let account: string
const ends: (() => unknown)[] = []

test.before(async () => {
  api = await startApiServer()
  admin = apiRequests(api)
  await api.kubectl(['create', 'serviceaccount', 'twilld'])
  await api.kubectl(['create', 'clusterrole', 'twill', '--verb=get', '--resource=pods'])
  await api.kubectl([
    'create',
    'clusterrolebinding',
    'twill',
    '--clusterrole=twill',
    '--serviceaccount=default:twilld',
  ])
  account = accountFolder(api, 'twilld', await api.token('default', 'twilld', 3600))
})

test.after.each(async () => {
  for (const end of ends.splice(0).reverse()) await end()
})
test.after(async () => {
  admin?.close()
  await api?.stop()
})

/** The role has the rights of the table, but for one verb of one resource. */
async function grant(without: { resource: string; verb: string } | null): Promise<void> {
  const rules = RIGHTS.map(right => ({
    apiGroups: [right.group],
    resources: [right.resource],
    verbs: right.verbs.filter(verb => without?.resource !== nameOf(right) || without.verb !== verb),
  }))
  const body = { rules: rules.filter(({ verbs }) => verbs.length > 0) }
  assert.is((await admin.send('PATCH', ROLE, body, 'application/merge-patch+json')).code, 200)
}

async function connect(
  folder: string,
  onAnswer = (_verb: string, _code: number) => {},
): Promise<KubernetesClient> {
  const client = await connectKubernetes(
    { kubeconfig: null, serviceAccount: folder },
    { ...modules, clock: systemClock, readFile, environment: inCluster(api), onAnswer },
  )
  ends.push(() => client.close())
  return client
}

/** Of the daemon whose service account it is. */
async function watch(folder = account): Promise<KubernetesWatching> {
  const onAnswer = (_verb: string, code: number) => void (code === 403 && watching.refused())
  const client = await connectDaemon(
    { enabled: true, kubeconfig: kubeconfigOf(folder) },
    { ...modules, onAnswer },
  )
  const watching: KubernetesWatching = watchKubernetes(
    { datastore: { type: 'kubernetes' }, nodeName: 'n1' },
    { ...modules, client },
  )
  ends.push(() => watching.stop().finally(() => client.close()))
  return watching
}

/** With the token by file, as a pod has it. */
function kubeconfigOf(folder: string): string {
  const path = join(folder, 'kubeconfig')
  const named = (kind: string, value: object) => [{ name: 'test', [kind]: value }]
  const config = {
    clusters: named('cluster', { server: api.url, 'certificate-authority': api.ca }),
    users: named('user', { tokenFile: join(folder, 'token') }),
    contexts: named('context', { cluster: 'test', user: 'test' }),
    'current-context': 'test',
  }
  writeFileSync(path, stringify(config))
  return path
}

const conditions = (watching: KubernetesWatching) =>
  kubernetesConditions(watching.status()).map(({ message }) => message)

async function untilSaid(watching: KubernetesWatching, is: (messages: string[]) => boolean, what: string) {
  await until(
    () => is(conditions(watching)),
    PATIENCE_MS,
    () => `${what}: ${JSON.stringify([conditions(watching), watching.status()])}`,
  )
}

async function untilMissing(client: KubernetesClient, wanted: readonly string[]): Promise<void> {
  let missing: string[] = []
  await until(
    async () => {
      missing = await missingRights(client, RIGHTS)
      return missing.join() === wanted.join()
    },
    PATIENCE_MS,
    () => `expected ${wanted.join() || 'none'} to be missing, found ${missing.join()}`,
    10,
  )
}

// ---------------------------------------------------------------- definitions

test('definitions that are missing, older, and then there: named, with the command that helps, without a right to them', async () => {
  await grant(null)
  const watching = await watch()
  const all = definitionsOf({ records: true }).map(({ metadata }) => metadata.name)
  const isOfDefinitions = ([first, ...more]: string[]) =>
    /^definitions /.test(first ?? '') && more.length === 0
  await untilSaid(watching, isOfDefinitions, 'nothing said of definitions')
  const [said = ''] = conditions(watching)
  for (const name of all) assert.match(said, `${name} is not there`)
  assert.match(said, /: kubectl apply -f deploy\/crds$/)

  await applyDefinitions(api, admin)
  await untilSaid(watching, messages => messages.length === 0, 'they are still missing')

  const path = '/apis/apiextensions.k8s.io/v1/customresourcedefinitions/ippools.twill.network'
  const { body: older } = await admin.send('GET', path)
  const { spec } = older.spec.versions[0].schema.openAPIV3Schema.properties
  delete spec.properties.disabled
  delete spec.properties.nodeSelector.properties.matchExpressions
  spec.properties.mode.enum = spec.properties.mode.enum.slice(0, 1)
  spec['x-kubernetes-validations'] = spec['x-kubernetes-validations'].slice(0, -2)
  assert.is((await admin.send('PUT', path, older)).code, 200)
  const later = await watch()
  await untilSaid(later, isOfDefinitions, 'nothing said of an older definition')
  assert.match(
    conditions(later)[0] ?? '',
    /older than this daemon: ippools\.twill\.network lacks .*spec\.disabled.*: kubectl apply/,
  )
  for (const lack of ['spec.mode "', 'spec.nodeSelector.matchExpressions', '2 rules of spec'])
    assert.match(conditions(later)[0] ?? '', lack)
  assert.not.match(conditions(later)[0] ?? '', 'ipreservations')
  await applyDefinitions(api, admin)
  await untilSaid(later, messages => messages.length === 0, 'it is still the older one')
})

// ---------------------------------------------------------------- rights

const VERBS = RIGHTS.flatMap(right => right.verbs.map(verb => ({ right, verb })))

test('each verb of the table taken away: it is named, and nothing else, with what it costs', async () => {
  const client = await connect(account)
  for (const { right, verb } of VERBS) {
    const resource = nameOf(right)
    await grant({ resource, verb })
    await untilMissing(client, [`${verb} ${resource}`])
    assert.match(
      rightsMessage(await missingRights(client, RIGHTS)),
      `let this node ${verb} ${resource} (${right.cost}): `,
    )
  }
})

const FOLLOWED: readonly (readonly [verb: string, resource: string, whats: readonly string[]])[] = [
  ['list', 'pods', ['pods of this node', 'pods of other nodes']],
  ['watch', 'namespaces', ['namespaces']],
  ['watch', 'nodes', ['nodes']],
  ['list', 'networkpolicies.networking.k8s.io', ['network policies']],
]

test('what may not be followed is said, what may is followed; and all of it once it may', async () => {
  const client = await connect(account)
  for (const [verb, resource, whats] of FOLLOWED) {
    await grant({ resource, verb })
    await untilMissing(client, [`${verb} ${resource}`])
    const watching = await watch()
    const lost = () => watching.status().watched.filter(({ problem }) => problem !== null)
    await until(
      () =>
        watching.status().watched.every(({ what, connected }) => connected !== whats.includes(what)) &&
        lost().every(({ problem }) => /403/.test(problem ?? '')),
      PATIENCE_MS,
      () => `${verb} ${resource}: ${JSON.stringify(watching.status())}`,
    )
    assert.equal(
      lost().map(({ what }) => what),
      whats,
    )
    const named = `let this node ${verb} ${resource} (`
    const isNamed = ([first, ...more]: string[]) => first?.includes(named) === true && more.length === 0
    await untilSaid(watching, isNamed, `${named} is not said`)
    await grant(null)
    await untilSaid(watching, messages => messages.length === 0, `${verb} ${resource} is back`)
    await until(
      () => watching.status().connected,
      PATIENCE_MS,
      () => JSON.stringify(watching.status()),
    )
  }
})

test('a right that is taken away later is named once something is refused for the lack of it', async () => {
  await grant(null)
  const client = await connect(account)
  const watching = await watch()
  await until(
    () => watching.status().connected,
    PATIENCE_MS,
    () => JSON.stringify(watching.status()),
  )
  const resource = 'ippools.twill.network'
  await grant({ resource, verb: 'get' })
  await untilMissing(client, [`get ${resource}`])
  assert.equal(conditions(watching), [], 'nothing was refused yet')
  const refusal = await watching.client
    .request('GET', '/apis/twill.network/v1alpha1/ippools/none')
    .catch(error => error.code)
  assert.is(refusal, 'kubernetes.forbidden')
  await untilSaid(
    watching,
    ([first]) => first?.includes(`let this node get ${resource} (`) === true,
    'the right',
  )
  await grant(null)
})

test('records that may not be written: the attempt may be made again, and is made once it may', async () => {
  const client = await connect(account)
  const store = kubernetesStore({ ...modules, client })
  ends.push(() => store.close())
  const resource = nameOf(RECORD_RIGHTS.find(({ resource: name }) => name === 'slots') as Right)
  await grant({ resource, verb: 'create' })
  await untilMissing(client, [`create ${resource}`])
  const commit = { key: slotKey('p', parseCidr('10.0.0.0/26')), value: '{}', expected: 0 }
  const refused = await store.commit(commit).then(
    () => null,
    error => error as TwillError,
  )
  assert.ok(isTwillError(refused, 'store.unavailable') && refused.retryable, String(refused))
  assert.match(refused.message, /403 .*cannot create resource "slots"/)
  await grant(null)
  await untilMissing(client, [])
  assert.ok((await store.commit(commit)).committed)
})

// ---------------------------------------------------------------- tokens

test('a token that the server does not take any more is read again, and the request goes through', async () => {
  await grant(null)
  const folder = accountFolder(api, 'renewed', await api.token('default', 'twilld', -600))
  const codes: number[] = []
  const client = await connect(folder, (_, code) => codes.push(code))
  writeFileSync(join(folder, 'token'), await api.token('default', 'twilld', 3600))
  await client.request('GET', '/api/v1/nodes')
  assert.equal(codes, [401, 200])
  assert.is(client.status().reason, null)
})

test('a token that has expired stands in status, once, until the file holds another', async () => {
  const folder = accountFolder(api, 'expired', await api.token('default', 'twilld', -600))
  const watching = await watch(folder)
  await untilSaid(watching, ([message]) => /401: the token expired at 20/.test(message ?? ''), 'not said')
  assert.is(conditions(watching).length, 1)
  const requests = () => watching.status().requests

  rmSync(join(folder, 'token'))
  await untilSaid(
    watching,
    ([message]) => /the token expired at .*, and .*tokenFile.*expected a readable file/.test(message ?? ''),
    'the file is gone',
  )
  // Each refusal leads to one look at the file; the server is not asked more for that.
  const [before, begun] = [requests(), clock.boottimeMs()]
  await clock.sleep(20_000)
  const seconds = (clock.boottimeMs() - begun) / 1_000
  assert.ok(requests() - before < 8 * (2 + seconds / 2), `${requests() - before} requests in ${seconds} s`)

  writeFileSync(join(folder, 'token'), `${await api.token('default', 'twilld', 3600)}\n`)
  await untilSaid(watching, messages => messages.length === 0, 'it does not come back')
  await until(
    () => watching.status().connected,
    PATIENCE_MS,
    () => JSON.stringify(watching.status()),
  )
})

test.run()
