/**
 * Debian's containerd on a node, and every order in which CRI lets sandboxes and containers be created, killed and
 * removed, with daemon, runtime and node coming and going in between. Afterwards the node is as it was before.
 */
import { readdirSync } from 'node:fs'
import { suite } from 'uvu'
import * as assert from 'uvu/assert'
import type { AuditReport } from '../../daemon/api/types.ts'
import { Cluster } from '../../hack/rig/cluster.ts'
import { until } from '../../hack/rig/processes.ts'
import type { CriClient } from '../fixtures/cri/client.ts'
import { installContainerd, startContainerd, stopContainerd } from '../fixtures/cri/containerd.ts'
import { containerConfig, type RuntimePod, runPod, sandboxConfig } from '../fixtures/cri/pods.ts'
import { settledState, untilState } from '../fixtures/node-state.ts'

const rig = new Cluster(`tws-order-${process.pid}`)
const test = suite('containerd, orders')
const NODE = 'node1'

let client: CriClient
let clean = ''

test.before(async () => {
  await rig.up({ nodes: 2, config: { coolDown: '1s', audit: { interval: '1h', grace: '1s' } } })
  await rig.addPod('node2', 'far')
  client = await installContainerd(rig.node(NODE))
  await until(
    async () => (await client.whyNot('NetworkReady')) === undefined,
    20_000,
    () => 'the runtime does not see the network',
  )
  clean = await settledState(rig, NODE)
})
test.after(async () => {
  client?.close()
  await rig.down()
})

/** Kernel, journal, ledgers, spool and namespaces as before, and nothing in the runtime's own records. */
async function nothingIsLeft(): Promise<void> {
  assert.equal(await client.sandboxes(), [])
  await untilState(rig, NODE, clean, 30_000)
  assert.equal(readdirSync(rig.node(NODE).path('/var/lib/cni/results')), [], 'results that libcni keeps')
}

async function reachesFar({ container }: RuntimePod): Promise<void> {
  for (const address of rig.pod('far').addresses) {
    const ping = await client.exec(container, ['ping', '-c', '1', '-W', '5', address])
    assert.is(ping.status, 0, ping.stdout + ping.stderr)
  }
}

/** Registers an order: a pod that talks, then what happens to it. */
function order(name: string, happens: (pod: RuntimePod) => Promise<void>): void {
  test(name, async () => {
    const pod = await runPod(client, 'pod')
    await reachesFar(pod)
    await happens(pod)
    await nothingIsLeft()
  })
}

order('CNI-194 as kubelet does: container stopped, removed; sandbox stopped, removed', async pod => {
  await client.stopContainer(pod.container)
  await client.removeContainer(pod.container)
  await client.stopSandbox(pod.sandbox)
  await client.removeSandbox(pod.sandbox)
})

order('sandbox stopped with its container running (CNI-132)', async pod => {
  await client.stopSandbox(pod.sandbox)
  assert.is((await client.sandboxStatus(pod.sandbox)).state, 'SANDBOX_NOTREADY')
  await client.removeSandbox(pod.sandbox)
})

order('running sandbox removed', async pod => {
  await client.removeSandbox(pod.sandbox)
})

order('running container removed, then the running sandbox', async pod => {
  await client.removeContainer(pod.container)
  await client.removeSandbox(pod.sandbox)
})

order('everything twice: containerd sends DEL each time (CNI-131, CNI-132)', async pod => {
  for (const _ of [1, 2]) await client.stopContainer(pod.container)
  for (const _ of [1, 2, 3]) await client.stopSandbox(pod.sandbox)
  for (const _ of [1, 2]) await client.removeContainer(pod.container)
  for (const _ of [1, 2]) await client.removeSandbox(pod.sandbox)
})

order('stopped by two callers at once', async pod => {
  await Promise.all([client.stopSandbox(pod.sandbox), client.stopSandbox(pod.sandbox)])
  await client.removeSandbox(pod.sandbox)
})

order('container replaced in the same sandbox, which keeps its addresses', async pod => {
  await client.stopContainer(pod.container)
  await client.removeContainer(pod.container)
  const container = await client.createContainer(pod.sandbox, containerConfig('pod'), pod.config)
  await client.startContainer(container)
  await reachesFar({ ...pod, container })
  assert.equal((await client.sandboxStatus(pod.sandbox)).addresses, pod.addresses)
  await client.removeSandbox(pod.sandbox)
})

test('sandbox without any container', async () => {
  const sandbox = await client.runSandbox(sandboxConfig('empty'))
  await client.stopSandbox(sandbox)
  await client.removeSandbox(sandbox)
  await nothingIsLeft()
})

test('container created and never started', async () => {
  const config = sandboxConfig('created')
  const sandbox = await client.runSandbox(config)
  await client.createContainer(sandbox, containerConfig('created'), config)
  await client.stopSandbox(sandbox)
  await client.removeSandbox(sandbox)
  await nothingIsLeft()
})

order('sandbox killed from outside: its pause process, which its namespace survives', async pod => {
  const { pid } = await client.sandboxStatus(pod.sandbox)
  await rig.node(NODE).must(['kill', '-KILL', String(pid)])
  await until(
    async () => (await client.sandboxStatus(pod.sandbox)).state === 'SANDBOX_NOTREADY',
    20_000,
    () => 'the runtime does not notice',
  )
  await client.stopSandbox(pod.sandbox)
  await client.removeSandbox(pod.sandbox)
})

order('namespace gone before the sandbox is stopped (CNI-132)', async pod => {
  const machine = rig.node(NODE)
  const [name] = (await machine.must(['ls', '/run/netns'])).trim().split('\n')
  await machine.must(['umount', '-l', `/run/netns/${name}`])
  await machine.must(['rm', '-f', `/run/netns/${name}`])
  await client.stopSandbox(pod.sandbox)
  await client.removeSandbox(pod.sandbox)
})

/** What the daemon's audit says of the node, asked now. */
async function audit(method: 'GET' | 'POST', path: string): Promise<AuditReport> {
  const curl = ['curl', '-s', '-X', method, '--unix-socket', '/run/twill/api.sock', `http://localhost${path}`]
  return JSON.parse(await rig.node(NODE).must(curl)) as AuditReport
}

order('rule 17: an audit agrees with the runtime, and mends nothing that it still has', async pod => {
  const { runtime, findings } = await audit('GET', '/v1/audit')
  assert.equal([runtime, findings], ['/run/containerd/containerd.sock', []])
  const machine = rig.node(NODE)
  const { pid } = await client.sandboxStatus(pod.sandbox)
  await machine.script('for ns in /run/netns/*; do umount -l $ns; rm -f $ns; done')
  assert.equal(
    (await audit('GET', '/v1/audit')).findings.map(({ kind, repair }) => `${kind} ${repair}`),
    ['attachment.namespace-gone no'],
  )
  await client.stopContainer(pod.container)
  await machine.must(['kill', '-KILL', String(pid)])
  const dead = async () => (await audit('GET', '/v1/audit')).findings.map(({ kind }) => kind).join()
  await until(
    async () => (await dead()) === 'attachment.dead',
    20_000,
    () => 'its end is not seen',
  )
  await new Promise(resolve => setTimeout(resolve, 1500))
  assert.equal((await audit('POST', '/v1/audit/repair')).mended, [])
  assert.is(await dead(), 'attachment.dead', 'its DEL is awaited')
  await client.stopSandbox(pod.sandbox)
  await client.removeSandbox(pod.sandbox)
})

for (const end of ['stopDaemon', 'killDaemon'] as const)
  order(`daemon away (${end}) while the sandbox is stopped and removed (CNI-135)`, async pod => {
    await rig[end](NODE)
    await client.stopSandbox(pod.sandbox)
    await client.removeSandbox(pod.sandbox)
    assert.not.match((await rig.exec(NODE, ['ip', '-o', 'link'])).stdout, / twl/)
    await rig.startDaemon(NODE)
  })

order('daemon restarted while the pod runs', async pod => {
  await rig.killDaemon(NODE)
  await reachesFar(pod)
  await rig.startDaemon(NODE)
  await reachesFar(pod)
  await client.stopSandbox(pod.sandbox)
  await client.removeSandbox(pod.sandbox)
})

order('daemon away at the stop, back at the removal', async pod => {
  await rig.stopDaemon(NODE)
  await client.stopSandbox(pod.sandbox)
  await rig.startDaemon(NODE)
  await client.removeSandbox(pod.sandbox)
})

for (const signal of ['TERM', 'KILL'] as const)
  order(`runtime restarted (SIG${signal}) while the pod runs`, async pod => {
    client.close()
    await stopContainerd(rig.node(NODE), signal)
    client = await startContainerd(rig.node(NODE))
    await reachesFar(pod)
    await client.stopSandbox(pod.sandbox)
    await client.removeSandbox(pod.sandbox)
  })

order('runtime restarted between stop and removal', async pod => {
  await client.stopSandbox(pod.sandbox)
  client.close()
  await stopContainerd(rig.node(NODE), 'KILL')
  client = await startContainerd(rig.node(NODE))
  await client.removeSandbox(pod.sandbox)
})

test('CNI-100 CNI-117 a sandbox is refused while the daemon is away, and made by the next try', async () => {
  await rig.stopDaemon(NODE)
  const config = sandboxConfig('later')
  const refused = await client.runSandbox(config).then(
    () => '',
    error => (error as Error).message,
  )
  assert.match(refused, /twilld is not running on this node/)
  await rig.startDaemon(NODE)
  await nothingIsLeft()
  await client.removeSandbox(await client.runSandbox(config))
  await nothingIsLeft()
})

test('CNI-193 node lost its power: what ran is removed with its namespace gone, and a new pod talks', async () => {
  const pod = await runPod(client, 'before')
  client.close()
  await rig.stopNode(NODE)
  await rig.startNode(NODE)
  client = await startContainerd(rig.node(NODE))
  assert.equal(await client.sandboxes(), [pod.sandbox])
  await client.stopSandbox(pod.sandbox)
  await client.removeSandbox(pod.sandbox)
  await nothingIsLeft()
  const next = await runPod(client, 'after')
  await reachesFar(next)
  await client.removeSandbox(next.sandbox)
  await nothingIsLeft()
})

test.run()
