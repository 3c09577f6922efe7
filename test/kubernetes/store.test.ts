/** Twill where nobody may touch an etcd: deployed with its records as custom resources. Pods talk, come and go. */
import { rmSync } from 'node:fs'
import * as assert from 'uvu/assert'
import { RECORD_KINDS, RECORDS_GROUP } from '../../datastore/kubernetes/records.ts'
import { DAEMON_POD, NAMESPACE } from '../../hack/rig/kubernetes/daemonset.ts'
import { until } from '../../hack/rig/processes.ts'
import { untilAllAnswer } from '../fixtures/kubernetes/answers.ts'
import { churn } from '../fixtures/kubernetes/churn.ts'
import { KubernetesLab, type LabPod } from '../fixtures/kubernetes/lab.ts'
import { askHttp } from '../fixtures/kubernetes/netexec.ts'
import { daemonSet, deployment } from '../fixtures/kubernetes/objects.ts'
import { readStatus } from '../fixtures/node-state.ts'
import { v4, v6 } from '../fixtures/talk.ts'

const lab = new KubernetesLab('store')
const test = lab.suite('store', { nodes: 2, install: 'daemonset', store: 'kubernetes' })

const JOURNAL = '/var/lib/twill/journal'

let before: string[]

const uids = () =>
  Promise.all(lab.nodes.map(async node => (await readStatus(lab.cluster.rig, node)).node.uid))

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
      assert.is(
        await askHttp(lab, from.name, family(to.addresses)),
        family(from.addresses),
        `whom ${to.name} on ${to.node} sees when ${from.name} on ${from.node} asks`,
      )
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

/** Off the nodes, and there again. */
async function withoutDaemons(meanwhile: () => void): Promise<void> {
  const select = (nodeSelector: object) => {
    const patch = JSON.stringify({ spec: { template: { spec: { nodeSelector } } } })
    return lab.kubectl('-n', NAMESPACE, 'patch', 'daemonset/twilld', '--type=merge', '-p', patch)
  }
  await select({ none: 'such' })
  try {
    await lab.kubectl('-n', NAMESPACE, 'wait', 'pod', '-l', DAEMON_POD, '--for=delete', '--timeout=120s')
    meanwhile()
  } finally {
    await select({ none: null })
  }
  await lab.kubectl('-n', NAMESPACE, 'rollout', 'status', 'daemonset/twilld', '--timeout=300s')
}

test('daemons whose nodes have lost their journals are who they were, and know their pods', async () => {
  const standing = daemonSet('standing')
  await lab.apply(standing)
  const pods = await lab.ready('app=standing', 2)
  // What they hold is in the ledgers.
  await untilChecked()
  const known = [await uids(), await attached()]
  await withoutDaemons(() => {
    for (const node of lab.nodes) rmSync(lab.node(node).path(JOURNAL))
  })
  assert.equal([await uids(), await attached()], known)
  await untilAllAnswer(lab, pods)
  await lab.remove(standing)
  await untilChecked()
})

test.run()
