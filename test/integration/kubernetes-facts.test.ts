/**
 * What a node knows of a real cluster: whose pods are whose, rights that are missing and then given by what rights.ts
 * says (and by nothing more), and a thousand pods.
 */
import { readFile } from 'node:fs/promises'
import { suite } from 'uvu'
import * as assert from 'uvu/assert'
import { reviewKubernetes } from '../../daemon/kubernetes/reviews.ts'
import { awaitPod } from '../../datastore/kubernetes/await-pod.ts'
import { connectKubernetes, type KubernetesClient } from '../../datastore/kubernetes/client.ts'
import { KubernetesFacts } from '../../datastore/kubernetes/facts.ts'
import { DAEMON_RIGHTS, missingRights, nameOf } from '../../datastore/kubernetes/rights.ts'
import { until } from '../../hack/rig/processes.ts'
import { systemClock } from '../../lib/clock.ts'
import { silentLog } from '../../lib/log.ts'
import { systemRandom } from '../../lib/random.ts'
import { startApiServer, type TestApiServer } from '../fixtures/kubernetes/api-server.ts'
import { putPods } from '../fixtures/kubernetes/synthetic-pods.ts'

const test = suite('facts of Kubernetes')
const PATIENCE_MS = 60_000

let api: TestApiServer
let client: KubernetesClient
const ends: (() => unknown)[] = []

const base = { clock: systemClock, random: systemRandom, log: silentLog }

test.before(async () => {
  api = await startApiServer()
  await api.kubectl(['create', 'serviceaccount', 'default'])
  client = await connect(api.kubeconfigFor('node', ['nodes-of-twill']))
})

test.after(async () => {
  for (const end of ends.reverse()) await end()
  await api.stop()
})

async function connect(kubeconfig: string): Promise<KubernetesClient> {
  const made = await connectKubernetes({ kubeconfig }, { ...base, readFile, environment: {} })
  ends.push(() => made.close())
  return made
}

function follow(nodeName: string): KubernetesFacts {
  const facts = new KubernetesFacts({ nodeName, pageSize: 100 }, { ...base, client })
  ends.push(() => facts.close())
  return facts
}

async function untilWell(facts: KubernetesFacts): Promise<void> {
  const isWell = () => facts.status().every(each => each.connected && each.problem === null)
  await until(isWell, PATIENCE_MS, () => JSON.stringify(facts.status()))
}

const podText = (name: string, node: string | null, more: object = {}) =>
  JSON.stringify({
    apiVersion: 'v1',
    kind: 'Pod',
    metadata: { name, labels: { app: name }, ...more },
    spec: {
      ...(node === null ? {} : { nodeName: node }),
      terminationGracePeriodSeconds: 0,
      containers: [{ name: 'c', image: 'i' }],
    },
  })

test('every verb that is missing is named; the ClusterRole made of rights.ts gives exactly those', async () => {
  const wanted = DAEMON_RIGHTS.flatMap(right => right.verbs.map(verb => `${verb} ${nameOf(right)}`))
  assert.equal(await missingRights(client), wanted)
  const facts = follow('n1')
  const review = reviewKubernetes({ records: false }, { ...base, client })
  ends.push(() => review.stop())
  const problem = () => facts.status()[0]?.problem ?? ''
  await until(() => /403 .*cannot list/.test(problem()), PATIENCE_MS, problem)
  await until(
    () => review.rights.missing.length === wanted.length,
    PATIENCE_MS,
    () => review.rights.missing.join(),
  )
  assert.equal(review.rights.missing, wanted)

  const rules = DAEMON_RIGHTS.map(({ group, resource, verbs }) => ({
    apiGroups: [group],
    resources: [resource],
    verbs,
  }))
  const role = {
    apiVersion: 'rbac.authorization.k8s.io/v1',
    kind: 'ClusterRole',
    metadata: { name: 'twill' },
    rules,
  }
  await api.kubectl(['apply', '-f', '-'], JSON.stringify(role))
  await api.kubectl([
    'create',
    'clusterrolebinding',
    'twill',
    '--clusterrole=twill',
    '--group=nodes-of-twill',
  ])
  await until(
    async () => (await missingRights(client)).length === 0,
    PATIENCE_MS,
    () => 'rights are still missing',
  )
  await untilWell(facts)
})

test('pods of this node, of others, of none; one that ends, one that goes; labels as they change', async () => {
  const facts = follow('n1')
  const told: string[] = []
  facts.subscribe({
    pods: changes => told.push(...changes.map(({ key, after }) => `${key} ${after?.state ?? 'gone'}`)),
  })
  await untilWell(facts)
  for (const [name, node] of [
    ['here', 'n1'],
    ['there', 'n2'],
    ['nowhere', null],
  ] as const)
    await api.kubectl(['create', '-f', '-'], podText(name, node))
  const has = (name: string) => facts.ownPods.entries.get(`default/${name}`)
  await until(
    () => told.length === 2,
    PATIENCE_MS,
    () => told.join(),
  )
  assert.equal(told.sort(), ['default/here pending', 'default/there pending'])

  const status = { phase: 'Running', podIP: '10.1.0.7', podIPs: [{ ip: '10.1.0.7' }] }
  const patch = (name: string, value: object) =>
    api.kubectl([
      'patch',
      'pod',
      name,
      '--subresource=status',
      '--type=merge',
      '-p',
      JSON.stringify({ status: value }),
    ])
  await patch('here', status)
  await patch('there', { ...status, podIP: '10.1.0.8', podIPs: [{ ip: '10.1.0.8' }] })
  await api.kubectl(['label', 'pod', 'here', 'app=other', '--overwrite'])
  await until(
    () => has('here')?.labels.app === 'other',
    PATIENCE_MS,
    () => JSON.stringify(has('here')),
  )
  assert.equal(has('here')?.addresses, ['10.1.0.7'])

  // Ended: of this node it is known as such, of another it is no longer sent.
  await patch('here', { phase: 'Succeeded' })
  await patch('there', { phase: 'Failed' })
  await until(
    () => has('here')?.state === 'ended' && facts.otherPods.entries.size === 0,
    PATIENCE_MS,
    () => told.join(),
  )
  assert.equal(has('here')?.addresses, [])
  await api.kubectl(['delete', 'pod', '--all', '--force', '--grace-period=0'])
  await until(
    () => has('here') === undefined,
    PATIENCE_MS,
    () => told.join(),
  )
  assert.equal(facts.policies.problem(), null)
})

test('an ADD is served by the watch; two pods of one name in quick succession are told apart', async () => {
  const facts = follow('n1')
  await untilWell(facts)
  const create = async () => {
    await api.kubectl(['create', '-f', '-'], podText('twice', 'n1'))
    return api.kubectl(['get', 'pod', 'twice', '-o', 'jsonpath={.metadata.uid}'])
  }
  const first = await create()
  await api.kubectl(['delete', 'pod', 'twice', '--force', '--grace-period=0'])
  const second = await create()
  const modules = { ...base, facts, client }
  const found = await awaitPod({ namespace: 'default', name: 'twice', uid: second }, modules)
  assert.is(found?.uid, second)
  const { requests } = client.status()
  assert.is((await awaitPod({ namespace: 'default', name: 'twice', uid: second }, modules))?.uid, second)
  assert.is(client.status().requests, requests)
  assert.is(facts.podFor({ namespace: 'default', name: 'twice', uid: first }), null)
})

test('a thousand pods: all known, by pages, each with what is kept of it and nothing else', async () => {
  await putPods(api.etcd, { count: 1_000, nodes: 10 })
  const facts = follow('n3')
  await untilWell(facts)
  assert.is(facts.ownPods.entries.size, 100)
  await until(
    () => facts.otherPods.entries.size >= 900,
    PATIENCE_MS,
    () => String(facts.otherPods.entries.size),
  )
  const [pod] = [...facts.otherPods.entries.values()].filter(each => each.labels.team !== undefined)
  assert.equal(Object.keys(pod ?? {}).sort(), [
    'addresses',
    'hostNetwork',
    'labels',
    'name',
    'namespace',
    'node',
    'ports',
    'state',
    'uid',
  ])
  assert.equal(pod?.ports, [{ name: 'http', protocol: 'TCP', port: 8080 }])
})

test.run()
