/** deploy/manifests as a real API server takes them: valid, admitted, and with the rights that the daemon needs and no others. */
import { readFile } from 'node:fs/promises'
import { join } from 'node:path'
import { suite } from 'uvu'
import * as assert from 'uvu/assert'
import { parse } from 'yaml'
import { connectKubernetes, type KubernetesClient } from '../../datastore/kubernetes/client.ts'
import {
  CLUSTER_ROLE,
  DAEMON_RIGHTS,
  missingRights,
  RECORD_RIGHTS,
  type Right,
} from '../../datastore/kubernetes/rights.ts'
import { TWILL_IMAGE } from '../../hack/image/twill.ts'
import { roleText } from '../../hack/rbac.ts'
import { ROOT } from '../../hack/rig/layout.ts'
import { systemClock } from '../../lib/clock.ts'
import { silentLog } from '../../lib/log.ts'
import { daemonSetPod } from '../fixtures/cri/daemonset.ts'
import { startApiServer, type TestApiServer } from '../fixtures/kubernetes/api-server.ts'

const test = suite('manifests')
const ACCOUNT = 'system:serviceaccount:twill-system:twilld'
const GROUPS = ['system:serviceaccounts', 'system:serviceaccounts:twill-system']

let api: TestApiServer
let daemon: KubernetesClient

test.before(async () => {
  api = await startApiServer()
  const kubeconfig = api.kubeconfigFor(ACCOUNT, GROUPS)
  daemon = await connectKubernetes(
    { kubeconfig },
    { clock: systemClock, log: silentLog, readFile, environment: {} },
  )
})
test.after(async () => {
  daemon?.close()
  await api?.stop()
})

const right = (group: string, resource: string, verb: string): Right => ({
  group,
  resource,
  verbs: [verb],
  why: '',
  cost: '',
})
const OTHERS = [
  right('', 'secrets', 'list'),
  right('', 'secrets', 'get'),
  right('', 'nodes', 'delete'),
  right('', 'pods', 'create'),
  right('', 'pods', 'patch'),
  right('apps', 'daemonsets', 'patch'),
  right('rbac.authorization.k8s.io', 'clusterroles', 'update'),
]

test('before they are applied the daemon has no right', async () => {
  const all = DAEMON_RIGHTS.reduce((sum, { verbs }) => sum + verbs.length, 0)
  assert.is((await missingRights(daemon)).length, all)
})

test('they are valid to the last field, and can be applied twice', async () => {
  for (const expected of [
    /daemonset.apps\/twilld created/,
    /daemonset.apps\/twilld (unchanged|configured)/,
  ]) {
    const said = await api.kubectl(['apply', '--validate=strict', '-k', join(ROOT, 'deploy/manifests/etcd')])
    assert.match(said, expected)
    assert.not.match(said, /warning/i)
  }
})

test('the daemon has each right of the table, and no other', async () => {
  assert.equal(await missingRights(daemon), [])
  assert.is((await missingRights(daemon, OTHERS)).length, OTHERS.length)
  const granted = JSON.parse(await api.kubectl(['get', 'clusterrole', CLUSTER_ROLE, '-o', 'json']))
  const [wanted] = roleText(CLUSTER_ROLE, DAEMON_RIGHTS).split('---')
  assert.equal(granted.rules, parse(wanted as string).rules)
})

test('with records as custom resources the same role has the rights for them, and no other', async () => {
  const all = [...DAEMON_RIGHTS, ...RECORD_RIGHTS]
  const records = RECORD_RIGHTS.reduce((sum, { verbs }) => sum + verbs.length, 0)
  assert.is((await missingRights(daemon, all)).length, records)
  const overlay = join(ROOT, 'deploy/manifests/kubernetes')
  assert.not.match(await api.kubectl(['apply', '--validate=strict', '-k', overlay]), /warning/i)
  assert.equal(await missingRights(daemon, all), [])
  const granted = JSON.parse(await api.kubectl(['get', 'clusterrole', CLUSTER_ROLE, '-o', 'json']))
  const [wanted] = roleText(CLUSTER_ROLE, all).split('---')
  assert.equal(granted.rules, parse(wanted as string).rules)
})

for (const store of ['etcd', 'kubernetes'])
  test(`${store}: what takes Twill off a node is its daemon's container with another errand, and nothing else`, async () => {
    const read = async (folder: string) => {
      const path = join(ROOT, 'deploy/manifests', folder)
      assert.not.match(await api.kubectl(['apply', '--validate=strict', '-k', path]), /warning/i)
      const text = await api.kubectl(['-n', 'twill-system', 'get', 'daemonset', 'twilld', '-o', 'json'])
      return (JSON.parse(text) as { spec: { template: { spec: PodSpec } } }).spec.template.spec
    }
    const daemon = await read(store)
    const taken = await read(`uninstall/${store}`)
    const [{ startupProbe, livenessProbe, readinessProbe, ...twilld }] = daemon.containers
    assert.ok(startupProbe && livenessProbe && readinessProbe)
    assert.equal(taken.initContainers, [
      { ...twilld, name: 'uninstall', args: [...(twilld.args as string[]), '--uninstall'] },
    ])
    const [done] = taken.containers
    assert.equal([done.name, done.image, done.volumeMounts], ['done', twilld.image, undefined])
    assert.equal(
      { ...taken, containers: [], initContainers: [] },
      { ...daemon, containers: [], initContainers: [] },
    )
  })

interface PodSpec {
  readonly containers: readonly [Record<string, unknown>]
  readonly initContainers?: readonly object[]
}

test('a pod of it is admitted where it is to run', async () => {
  const pod = {
    apiVersion: 'v1',
    kind: 'Pod',
    metadata: { name: 'tried', namespace: 'twill-system' },
    spec: daemonSetPod(),
  }
  const said = await api.kubectl(['create', '--dry-run=server', '-f', '-'], JSON.stringify(pod))
  assert.match(said, /pod\/tried created/)
})

test('it asks for the image that is built', () => {
  assert.is(daemonSetPod().containers[0].image, TWILL_IMAGE)
})

test.run()
