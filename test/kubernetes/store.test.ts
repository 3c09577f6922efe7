/** Twill where nobody may touch an etcd: deployed with its records as custom resources. Pods talk, come and go. */
import * as assert from 'uvu/assert'
import { RECORD_KINDS, RECORDS_GROUP } from '../../datastore/kubernetes/records.ts'
import { DAEMON_POD, NAMESPACE } from '../../hack/rig/kubernetes/daemonset.ts'
import { until } from '../../hack/rig/processes.ts'
import { churn } from '../fixtures/kubernetes/churn.ts'
import { KubernetesLab, type LabPod } from '../fixtures/kubernetes/lab.ts'
import { askHttp } from '../fixtures/kubernetes/netexec.ts'
import { deployment } from '../fixtures/kubernetes/objects.ts'
import { readStatus } from '../fixtures/node-state.ts'
import { v4, v6 } from '../fixtures/talk.ts'

const lab = new KubernetesLab('store')
const test = lab.suite('store', { nodes: 2, install: 'daemonset', store: 'kubernetes' })

let before: string[]

const attached = async (): Promise<string[]> => {
  const all = await Promise.all(lab.nodes.map(node => readStatus(lab.cluster.rig, node)))
  return all.flatMap(({ pods }) => pods.flatMap(({ addresses }) => addresses)).sort()
}

/** Waits until every daemon finds that its records, its kernel and the datastore agree. */
async function untilChecked(): Promise<void> {
  for (const { name, node } of await lab.ready(DAEMON_POD, 2)) {
    let found = ''
    await until(
      async () => {
        const { status, stdout, stderr } = await lab.inside(name, ['twillctl', 'ipam', 'check'])
        found = stdout + stderr
        return status === 0
      },
      120_000,
      () => `${node}: ${found}`,
      1_000,
    )
  }
}

test('records are custom resources, and the service account may write them', async () => {
  for (const node of lab.nodes) {
    const { datastore, kubernetes } = await readStatus(lab.cluster.rig, node)
    assert.is(datastore.connected, true)
    assert.equal(kubernetes?.missingRights, [])
  }
  for (const { plural } of RECORD_KINDS)
    await until(
      async () => (await lab.kubectl('get', `${plural}.${RECORDS_GROUP}`, '-o', 'name')) !== '',
      60_000,
      () => `there are no ${plural}`,
      500,
    )
  before = await attached()
})

test('pods on two nodes talk under their own addresses', async () => {
  const web = deployment('web', 2)
  await lab.apply(web)
  const [one, two] = (await lab.ready('app=web', 2)) as [LabPod, LabPod]
  for (const [from, to] of [
    [one, two],
    [two, one],
  ] as const)
    for (const family of [v4, v6])
      assert.is(await askHttp(lab, from.name, family(to.addresses)), family(from.addresses))
  await lab.remove(web)
})

test('nothing is left of 40 pods, 10 of which were deleted during their start', async () => {
  await churn(lab, { completions: 30, deletions: 10 })
  await until(
    async () => (await attached()).join() === before.join(),
    90_000,
    () => 'attachments are left',
    1_000,
  )
  await untilChecked()
})

test('daemons that are started anew go on with what they find there', async () => {
  const uids = async () =>
    Promise.all(lab.nodes.map(async node => (await readStatus(lab.cluster.rig, node)).node.uid))
  const known = await uids()
  await lab.kubectl('-n', NAMESPACE, 'delete', 'pod', '-l', DAEMON_POD)
  await lab.ready(DAEMON_POD, 2)
  assert.equal(await uids(), known)
  await untilChecked()
})

test.run()
