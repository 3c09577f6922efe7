/**
 * The daemon and etcd end and come back, in every order, while pods talk: no ping and no byte is lost, nothing in the
 * kernel changes, and what happened meanwhile is caught up with.
 */
import { readFileSync } from 'node:fs'
import { suite } from 'uvu'
import * as assert from 'uvu/assert'
import { Cluster } from '../../hack/rig/cluster.ts'
import type { CniError } from '../../hack/rig/cni-client.ts'
import { daemonLog } from '../../hack/rig/daemon.ts'
import { until } from '../../hack/rig/processes.ts'
import { settledKernel, untilKernel } from '../fixtures/kernel-state.ts'
import { readHolders, readStatus } from '../fixtures/node-state.ts'
import { startTraffic } from '../fixtures/traffic.ts'

const rig = new Cluster(`twr-r-${process.pid}`)
const test = suite('recovery: restart')
const BOUND_MS = 30_000

test.before(async () => {
  await rig.up({ nodes: 2, config: { coolDown: '1s', heartbeatInterval: '1s' } })
  await rig.addPod('node1', 'here')
  await rig.addPod('node2', 'there')
})
test.after(async () => {
  await rig.down()
})

async function reaches(from: string, to: string): Promise<void> {
  for (const address of rig.pod(to).addresses) {
    const ping = await rig.exec(from, ['ping', '-c1', '-W3', address])
    assert.is(ping.status, 0, `${from} to ${address}: ${ping.stdout}`)
  }
}

/** Ledgers follow by group commit: waits until they name exactly the addresses that the node's pods hold. */
async function ledgerAgrees(node: string): Promise<void> {
  let difference = ''
  await until(
    async () => {
      const status = await readStatus(rig, node)
      const recorded = [...(await readHolders(rig, status.node.uid)).keys()].sort()
      const held = [...status.overlay.tunnel, ...status.pods.flatMap(pod => pod.addresses)].sort()
      difference = `ledger ${recorded}; held ${held}`
      return recorded.join() === held.join()
    },
    BOUND_MS,
    () => `${node}: ${difference}`,
  )
}

async function untilConnected(connected: boolean): Promise<void> {
  for (const node of rig.nodes)
    await until(
      async () => (await readStatus(rig, node)).datastore.connected === connected,
      BOUND_MS,
      () => `${node}: connected is not ${connected}`,
    )
}

for (const signal of ['SIGTERM', 'SIGKILL'] as const)
  test(`the daemons are restarted by ${signal} under traffic`, async () => {
    const before = await Promise.all(rig.nodes.map(node => settledKernel(rig, node)))
    const traffic = await startTraffic(rig, 'here', 'there')
    for (const [index, node] of rig.nodes.entries()) {
      const end = signal === 'SIGTERM' ? rig.stopDaemon(node) : rig.killDaemon(node)
      assert.ok(await end)
      await untilKernel(rig, node, before[index] as string, 0)
      await rig.startDaemon(node)
      await untilKernel(rig, node, before[index] as string, BOUND_MS)
      assert.equal(
        (await readStatus(rig, node)).reconcile.repairs,
        {},
        'nothing was lost, so nothing is mended',
      )
    }
    await traffic.stop()
  })

test('etcd is away under traffic: pods come and go, the ledgers follow later', async () => {
  await rig.addPod('node1', 'leaves')
  const traffic = await startTraffic(rig, 'here', 'there')
  assert.ok(await rig.stopStore())
  await untilConnected(false)
  const comer = await rig.addPod('node1', 'comes')
  await rig.deletePod('leaves')
  await reaches('comes', 'there')
  assert.is((await readStatus(rig, 'node1')).ready, true)
  await rig.startStore()
  await untilConnected(true)
  for (const node of rig.nodes) await ledgerAgrees(node)
  const holders = await readHolders(rig, (await readStatus(rig, 'node1')).node.uid)
  for (const address of comer.addresses) assert.ok(holders.has(address))
  await traffic.stop()
})

const mayGoOn = () => rig.api('node1', '/v1/ready?datastore')

test('etcd is away and the daemon is killed: the data path stays, and pods come and go as before', async () => {
  const traffic = await startTraffic(rig, 'here', 'there')
  const before = await settledKernel(rig, 'node1')
  assert.ok(await rig.stopStore())
  await untilConnected(false)
  assert.ok(await rig.killDaemon('node1'))
  await rig.startDaemon('node1')
  await untilKernel(rig, 'node1', before, BOUND_MS)
  const { conditions, overlay } = await readStatus(rig, 'node1')
  assert.ok(
    conditions.some(({ type }) => type === 'OldFacts'),
    'it says how old its facts are',
  )
  assert.match((await mayGoOn()).body, /has not said since the start at .* who this node is: etcd at /)
  const mtuOf = async (pod: string) => (await rig.exec(pod, ['cat', '/sys/class/net/eth0/mtu'])).stdout.trim()
  await rig.addPod('node1', 'meanwhile')
  assert.is(await mtuOf('meanwhile'), await mtuOf('here'))
  assert.is(await mtuOf('meanwhile'), String(overlay.podMtu))
  await reaches('meanwhile', 'there')
  await reaches('there', 'meanwhile')
  await rig.deletePod('comes')
  await rig.startStore()
  await untilConnected(true)
  await until(
    async () => !(await readStatus(rig, 'node1')).conditions.some(({ type }) => type === 'OldFacts'),
    BOUND_MS,
    () => 'the facts are still old',
  )
  await until(
    async () => (await mayGoOn()).status === 200,
    BOUND_MS,
    () => 'a rollout still may not go on',
  )
  await ledgerAgrees('node1')
  await rig.addPod('node1', 'later')
  await reaches('later', 'there')
  await traffic.stop()
})

test('etcd is away, the daemon is killed and its snapshot is damaged: the data path stays, DEL works, ADD says why not', async () => {
  const traffic = await startTraffic(rig, 'here', 'there')
  const before = await settledKernel(rig, 'node1')
  assert.ok(await rig.stopStore())
  await untilConnected(false)
  assert.ok(await rig.killDaemon('node1'))
  await rig.node('node1').script('sed -i s/10.244/10.245/ /var/lib/twill/cluster-snapshot')
  await rig.startDaemon('node1', { wait: false })
  const ready = () =>
    rig.api('node1', '/v1/ready').then(
      answer => answer.body,
      () => '',
    )
  await until(
    async () => /facts are not known yet.*no connection/.test(await ready()),
    BOUND_MS,
    () => 'no reason is given',
  )
  await untilKernel(rig, 'node1', before, BOUND_MS)
  const refused = await rig.addPod('node1', 'too-early').then(
    () => null,
    error => error as CniError,
  )
  assert.is(refused?.code, 11, `ADD without rules that this daemon answers for: ${refused?.message}`)
  assert.match(readFileSync(daemonLog(rig.node('node1')), 'utf8'), /snapshot of the cluster is damaged/)
  await rig.deletePod('meanwhile')
  await rig.startStore()
  await untilConnected(true)
  await rig.startDaemon('node1')
  await ledgerAgrees('node1')
  await rig.addPod('node1', 'afterwards')
  await reaches('afterwards', 'there')
  await traffic.stop()
})

test('the daemon stops, others change the cluster and etcd is compacted: the exact resulting state', async () => {
  await rig.stopDaemon('node1')
  await rig.up({ nodes: 3, daemons: false })
  await rig.startDaemon('node3')
  await rig.addPod('node3', 'newcomer')
  const { stdout } = await rig.etcdctl(['get', '/twill/v1/cluster', '-w', 'json'])
  const { revision } = (JSON.parse(stdout) as { header: { revision: number } }).header
  const compacted = await rig.etcdctl(['compact', String(revision)])
  assert.is(compacted.status, 0, compacted.stderr)
  await rig.startDaemon('node1')
  await reaches('here', 'newcomer')
  await reaches('newcomer', 'here')
})

test('history is compacted while a daemon is cut off from etcd: deletions included', async () => {
  const cut = (verb: string) =>
    rig.node('node1').script(`iptables -${verb} OUTPUT -d 192.168.77.1 -p tcp --dport 2379 -j DROP`)
  const { uid } = (await readStatus(rig, 'node3')).node
  await cut('A')
  try {
    await rig.stopDaemon('node3')
    // Two and a half heartbeats, then the node is taken out by name.
    const left = await rig.exec('node2', ['twillctl', 'delete', 'node', 'node3'], { timeoutMs: BOUND_MS })
    assert.is(left.status, 0, left.stderr)
    const { stdout } = await rig.etcdctl(['get', '/twill/v1/cluster', '-w', 'json'])
    const { revision } = (JSON.parse(stdout) as { header: { revision: number } }).header
    await rig.etcdctl(['compact', String(revision)])
  } finally {
    await cut('D')
  }
  await until(
    async () => !(await readStatus(rig, 'node1')).nodes.some(node => node.uid === uid),
    BOUND_MS,
    () => 'node1 still knows node3',
  )
  await until(
    async () => !(await settledKernel(rig, 'node1')).includes('192.168.77.13'),
    BOUND_MS,
    () => 'something of node3 is left in the kernel',
  )
  await reaches('here', 'there')
})

test.run()
