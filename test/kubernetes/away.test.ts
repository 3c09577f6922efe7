/**
 * What a node depends on loses power and comes back after a minute, longer than everybody's time limits: etcd, then the
 * API server. Pods that run notice nothing, pods come and go, daemons are killed meanwhile, and all comes to rest by itself.
 */
import { rmSync, writeFileSync } from 'node:fs'
import * as assert from 'uvu/assert'
import type { PodStatus, Status } from '../../daemon/api/types.ts'
import { execPlugin } from '../../hack/rig/cni-client.ts'
import { API, ETC } from '../../hack/rig/kubernetes/layout.ts'
import { ETCD_URL } from '../../hack/rig/layout.ts'
import { until } from '../../hack/rig/processes.ts'
import { untilAllAnswer } from '../fixtures/kubernetes/answers.ts'
import { conditionOf, readySince } from '../fixtures/kubernetes/conditions.ts'
import { KubernetesLab, type LabPod } from '../fixtures/kubernetes/lab.ts'
import { daemonSet, deployment, onNode, pod } from '../fixtures/kubernetes/objects.ts'
import { silence } from '../fixtures/kubernetes/silence.ts'
import { allTraces, type Traces, untilClean } from '../fixtures/kubernetes/traces.ts'
import { readStatus, untilAgreed } from '../fixtures/node-state.ts'
import { startTraffic, type Traffic } from '../fixtures/traffic.ts'

const lab = new KubernetesLab('away')
const test = lab.suite('away', { nodes: 2, install: 'process', containerd: '2.4' })

const [NODE, OTHER] = ['node1', 'node2'] as const
const AWAY_MS = 60_000
const PATIENCE_MS = 120_000

let web: LabPod[]
/** Of `web` alone. */
let traces: Traces

const statusOf = (node: string): Promise<Status> => readStatus(lab.cluster.rig, node)

async function untilStatus(node: string, wanted: string, holds: (status: Status) => boolean): Promise<void> {
  let last: Status | undefined
  await until(
    async () => {
      last = await statusOf(node)
      return holds(last)
    },
    PATIENCE_MS,
    () => `${node}: expected ${wanted}: ${JSON.stringify(last)}`,
    200,
  )
}

/** For the API server a pod is gone before its node has heard of it. */
const untilNone = (node: string, name: string): Promise<void> =>
  untilStatus(node, `no pod ${name}`, ({ pods }) => !pods.some(each => each.pod?.name.startsWith(`${name}-`)))

/** As the runtime asks. */
async function serves(node: string): Promise<void> {
  const call = { containerId: '', netns: '', ifName: '', args: {} }
  const config = JSON.stringify({ cniVersion: '1.1.0', name: 'twill', type: 'twill' })
  const { status, stdout } = await execPlugin(lab.node(node), 'STATUS', 'twill', call, config)
  assert.is(status, 0, stdout)
  const { ready, reasons } = await statusOf(node)
  assert.ok(ready, reasons.join())
}

interface Server {
  readonly port: number
  /** SIGKILL. */
  kill(): Promise<unknown>
  start(): Promise<void>
}

/**
 * To the nodes it falls silent; it ends and begins where they do not see it.
 * @returns traffic between `web`'s pods since before that
 */
async function awayForAMinute(
  { port, kill, start }: Server,
  meanwhile: () => Promise<void>,
): Promise<Traffic> {
  const [from, to] = web as [LabPod, LabPod]
  const traffic = await startTraffic(lab, from.name, to.name)
  const endSilence = await silence(lab.underlay, port)
  try {
    const begin = performance.now()
    await meanwhile()
    await kill()
    await start()
    await new Promise(resolve => setTimeout(resolve, begin + AWAY_MS - performance.now()))
  } finally {
    await endSilence()
  }
  return traffic
}

async function restart(node: string): Promise<void> {
  const held = async () => (await statusOf(node)).pods.map(({ id, addresses }) => `${id} ${addresses}`).sort()
  const before = await held()
  await lab.cluster.rig.killDaemon(node)
  await lab.cluster.rig.startDaemon(node, { timeoutMs: PATIENCE_MS })
  await serves(node)
  assert.equal(await held(), before)
}

const addressesOf = (pods: readonly Pick<LabPod, 'addresses'>[]) => pods.flatMap(({ addresses }) => addresses)

test('pods run on two nodes', async () => {
  await lab.apply(daemonSet('web'))
  web = await lab.ready('app=web', 2)
  await untilAllAnswer(lab, web)
  traces = await allTraces(lab)
})

const ETCD: Server = {
  port: Number(new URL(ETCD_URL).port),
  kill: () => lab.underlay.endService('etcd', 'KILL'),
  start: () => lab.cluster.rig.startStore(),
}

test('etcd is away: pods start and end, nothing is given twice, also not by a daemon that was killed', async () => {
  const leaving = deployment('leaving', 4)
  await lab.apply(leaving)
  const left = addressesOf(await lab.ready('app=leaving', 4))
  const since = await readySince(lab)
  const traffic = await awayForAMinute(ETCD, async () => {
    await lab.remove(leaving)
    for (const node of lab.nodes) await untilNone(node, 'leaving')
    await lab.apply(deployment('early', 4))
    const early = await lab.ready('app=early', 4)
    await untilAllAnswer(lab, web, early)
    for (const node of lab.nodes)
      await untilStatus(node, 'no etcd', ({ datastore }) => !datastore.connected && datastore.reason !== null)
    await restart(NODE)
    await lab.apply(deployment('late', 4))
    const late = await lab.ready('app=late', 4)
    await untilAllAnswer(lab, web, late)
    const all = [...left, ...addressesOf([...web, ...early, ...late])]
    assert.is(new Set(all).size, all.length, all.join(' '))
    for (const node of lab.nodes) await serves(node)
  })
  for (const node of lab.nodes) {
    await untilStatus(node, 'etcd', ({ datastore }) => datastore.connected)
    await untilAgreed(lab.cluster.rig, node, PATIENCE_MS)
  }
  await traffic.stop()
  assert.equal(await readySince(lab), since)
  await lab.kubectl('delete', 'deployment', 'early', 'late')
  await untilClean(lab, traces)
})

// ---------------------------------------------------------------- the API server

/** kubelet starts it whether or not there is an API server. */
const STATIC = 'static'
const manifestOf = (node: string) => lab.node(node).path(`${ETC}/manifests/${STATIC}.yaml`)

async function startStatic(node: string): Promise<void> {
  writeFileSync(manifestOf(node), JSON.stringify(pod(STATIC, {}, { namespace: 'default' })))
  const name = `${STATIC}-${node}`
  let found: PodStatus | undefined
  await until(
    async () => {
      found = (await statusOf(node)).pods.find(each => each.pod?.name === name)
      return found?.state === 'attached'
    },
    PATIENCE_MS,
    () => `${node}: ${name} is ${found?.state ?? 'not there'}`,
    200,
  )
  await untilAllAnswer(lab, web, [{ name, node, addresses: found?.addresses ?? [] }])
}

async function endStatic(node: string): Promise<void> {
  rmSync(manifestOf(node))
  await untilNone(node, STATIC)
}

const API_SERVER: Server = {
  port: API.port,
  kill: () => lab.cluster.stopApiServer('KILL'),
  start: () => lab.cluster.startApiServer(),
}

const isAway = ({ kubernetes, conditions }: Status): boolean =>
  kubernetes?.connected === false &&
  kubernetes.reason !== null &&
  conditions.some(({ type }) => type === 'Kubernetes')

const isBack = ({ kubernetes, conditions }: Status): boolean =>
  kubernetes?.connected === true && conditions.length === 0

test('the API server is away: kubelet starts and ends pods, and a daemon that was killed serves them', async () => {
  const leaving = deployment('leaving', 4)
  await lab.apply(leaving)
  await lab.ready('app=leaving', 4)
  const traffic = await awayForAMinute(API_SERVER, async () => {
    await startStatic(OTHER)
    for (const node of lab.nodes) await untilStatus(node, 'no API server', isAway)
    await restart(NODE)
    await untilStatus(NODE, 'etcd, and no API server', status => isAway(status) && status.datastore.connected)
    await startStatic(NODE)
    await endStatic(OTHER)
    // The kubelets hear of it later.
    await lab.remove(leaving)
    for (const node of lab.nodes) await serves(node)
  })
  await readySince(lab)
  for (const node of lab.nodes) {
    await untilStatus(node, 'the API server, and no condition', isBack)
    const unavailable = await conditionOf(lab, `node/${node}`, 'NetworkUnavailable')
    assert.is(unavailable?.reason, 'TwillIsUp')
  }
  await traffic.stop()
  await endStatic(NODE)
  await untilClean(lab, traces)
})

test('pods come and go as before', async () => {
  const pods = lab.nodes.map(node => pod(`after-${node}`, onNode(node)))
  await lab.apply(...pods)
  for (const node of lab.nodes) await untilAllAnswer(lab, web, await lab.ready(`app=after-${node}`, 1))
  await lab.remove(...pods)
  await untilClean(lab, traces)
})

test.run()
