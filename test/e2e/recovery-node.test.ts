/**
 * Machines come and go: one loses power and boots again, one is replaced under its name and address, one joins and is
 * removed by name, one comes back from its removal in time or too late. Nothing of what is gone stays in any kernel or
 * in etcd.
 */
import { suite } from 'uvu'
import * as assert from 'uvu/assert'
import type { Status } from '../../daemon/api/types.ts'
import { Cluster } from '../../hack/rig/cluster.ts'
import { until } from '../../hack/rig/processes.ts'
import { vtepMac } from '../../routing/vxlan/vtep.ts'
import { kernelState, settledKernel, untilKernel } from '../fixtures/kernel-state.ts'
import { readHolders, readOwnedParts, readStatus } from '../fixtures/node-state.ts'

const rig = new Cluster(`twr-n-${process.pid}`)
const test = suite('recovery: nodes')
const BOUND_MS = 30_000
/** Allowance, margin, two looks of whoever frees, 10 to 15 s apart. */
const FREED_MS = 90_000

test.before(async () => {
  const config = { coolDown: '1s', heartbeatInterval: '500ms', offlineAllowance: '8s', fenceMargin: '1s' }
  await rig.up({ nodes: 2, config })
  await rig.addPod('node1', 'anchor')
})
test.after(async () => {
  await rig.down()
})

async function talk(one: string, other: string): Promise<void> {
  for (const [from, to] of [
    [one, other],
    [other, one],
  ] as const)
    for (const address of rig.pod(to).addresses) {
      const ping = await rig.exec(from, ['ping', '-c1', '-W3', address])
      assert.is(ping.status, 0, `${from} to ${address}: ${ping.stdout}`)
    }
}

const partsOf = (status: Status): string[] => status.parts.map(part => part.cidr).sort()

/** What others' kernels would show of this node. */
const tracesOf = ({ node, overlay, parts }: Status): string[] => [
  vtepMac(node.uid),
  ...overlay.tunnel.map(address => `via ${address} `),
  ...parts.map(part => `${part.cidr} via`),
]

async function untilGone(node: string, traces: readonly string[]): Promise<void> {
  let left: string[] = []
  await until(
    async () => {
      const state = await kernelState(rig, node)
      left = traces.filter(trace => state.includes(trace))
      return left.length === 0
    },
    BOUND_MS,
    () => `${node} still has ${left.join(', ')}`,
  )
}

async function untilFreed(uid: string): Promise<void> {
  const begin = performance.now()
  let left: string[] = []
  await until(
    async () => {
      const { stdout } = await rig.etcdctl(['get', '--prefix', '/twill/v1/', '--keys-only'])
      left = [...(await readOwnedParts(rig, uid)), ...stdout.split('\n').filter(key => key.includes(uid))]
      return left.length === 0
    },
    FREED_MS,
    () => `${uid} still has ${left.join(', ')}`,
  )
  console.log(`  freed after ${Math.round(performance.now() - begin)} ms`)
}

test("power fails and comes back: same UID, parts and tunnel; the dead pods' addresses are released", async () => {
  const pod = await rig.addPod('node2', 'doomed')
  await talk('anchor', 'doomed')
  const before = await readStatus(rig, 'node2')
  const peer = await settledKernel(rig, 'node1')
  await rig.stopNode('node2')
  assert.is(await settledKernel(rig, 'node1'), peer, 'who is silent loses nothing')
  await rig.startNode('node2')
  const after = await readStatus(rig, 'node2')
  assert.is(after.node.uid, before.node.uid)
  assert.is.not(after.node.incarnation, before.node.incarnation)
  assert.equal(partsOf(after), partsOf(before))
  assert.equal(after.overlay.tunnel, before.overlay.tunnel)
  assert.equal(after.pods, [])
  await until(
    async () =>
      [...(await readHolders(rig, after.node.uid)).keys()].sort().join() ===
      [...after.overlay.tunnel].sort().join(),
    BOUND_MS,
    () => 'the ledger holds more than the tunnel addresses',
  )
  const own = await settledKernel(rig, 'node2')
  for (const address of pod.addresses) assert.not.ok(own.includes(`"${address}"`), address)
  await untilKernel(rig, 'node1', peer, BOUND_MS)
  await rig.addPod('node2', 'reborn')
  await talk('anchor', 'reborn')
  await rig.deletePod('reborn')
})

test('another machine under the same name and address: a new identity, nothing of the old one stays', async () => {
  await rig.addPod('node2', 'gone')
  const before = await readStatus(rig, 'node2')
  const traces = tracesOf(before)
  const peer = await settledKernel(rig, 'node1')
  for (const trace of traces) assert.ok(peer.includes(trace), `${trace} is what to look for`)
  await rig.replaceNode('node2')
  const after = await readStatus(rig, 'node2')
  assert.is.not(after.node.uid, before.node.uid)
  assert.equal(
    partsOf(after).filter(part => partsOf(before).includes(part)),
    [],
    'it inherits nothing',
  )
  await rig.addPod('node2', 'successor')
  await talk('anchor', 'successor')
  await untilGone('node1', traces)
  const state = await settledKernel(rig, 'node1')
  for (const trace of tracesOf(await readStatus(rig, 'node2'))) assert.ok(state.includes(trace), trace)
  await untilFreed(before.node.uid)
  await talk('anchor', 'successor')
})

test('a node that lives is not removed', async () => {
  const refused = await rig.exec('node1', ['twillctl', 'delete', 'node', 'node2'])
  assert.is(refused.status, 1)
  assert.match(refused.stderr, /node2.*heartbeat/s)
  await talk('anchor', 'successor')
})

test('a node joins, is removed, and comes back in time: its fence is lifted, its pods never noticed', async () => {
  await rig.up({ nodes: 3 })
  await rig.addPod('node3', 'third')
  await talk('anchor', 'third')
  await talk('successor', 'third')
  const before = await readStatus(rig, 'node3')
  await rig.stopDaemon('node3')
  const removed = await rig.exec('node1', ['twillctl', 'delete', 'node', 'node3'])
  assert.is(removed.status, 0, removed.stderr)
  await untilGone('node1', tracesOf(before))
  await untilGone('node2', tracesOf(before))
  await rig.startDaemon('node3')
  const after = await readStatus(rig, 'node3')
  assert.is(after.node.uid, before.node.uid)
  assert.equal(partsOf(after), partsOf(before))
  assert.equal(
    after.pods.map(pod => pod.addresses),
    before.pods.map(pod => pod.addresses),
  )
  await until(
    async () => (await readStatus(rig, 'node3')).parts.every(part => part.usable),
    BOUND_MS,
    () => 'the fence is not lifted',
  )
  for (const node of ['node1', 'node2'])
    await until(
      async () => (await kernelState(rig, node)).includes(vtepMac(after.node.uid)),
      BOUND_MS,
      () => `${node} does not know node3 again`,
    )
  await talk('anchor', 'third')
})

test('it is removed again and comes back too late: what it held is lost, its pods are cut off', async () => {
  const before = await readStatus(rig, 'node3')
  await rig.stopDaemon('node3')
  const removed = await rig.exec('node2', ['twillctl', 'delete', 'node', 'node3'])
  assert.is(removed.status, 0, removed.stderr)
  await untilFreed(before.node.uid)
  await rig.startDaemon('node3')
  await until(
    async () => (await readStatus(rig, 'node3')).pods.length === 0,
    BOUND_MS,
    () => 'a pod with a lost address is still attached',
  )
  const link = await rig.exec('third', ['ip', 'link', 'show', 'eth0'])
  assert.is.not(link.status, 0, 'the pod has no interface any more')
  let found = ''
  await until(
    async () => {
      const { node, overlay } = await readStatus(rig, 'node3')
      const holders = await readHolders(rig, node.uid)
      found = `${overlay.tunnel} of ${[...holders.keys()]}`
      return overlay.tunnel.length === 2 && overlay.tunnel.every(address => holders.has(address))
    },
    BOUND_MS,
    () => `the tunnel's addresses are not held by this node: ${found}`,
  )
  await rig.deletePod('third')
  await rig.addPod('node3', 'fourth')
  await talk('anchor', 'fourth')
})

test('it starts under the name of one that lives: its pods stay while their part is its own, and are cut off after', async () => {
  const { uid } = (await readStatus(rig, 'node3')).node
  const misnamed = async () => {
    const args = ['twilld', '--config', '/etc/twill/twilld.yaml', '--node-name', 'node1']
    const ended = await rig.exec('node3', ['timeout', '-s', 'KILL', '30', ...args])
    assert.is(ended.status, 1, ended.stdout + ended.stderr)
    return ended.stdout
  }
  await rig.stopDaemon('node3')
  assert.match(await misnamed(), /node name node1 is taken.*no longer of this machine: none/)
  await talk('anchor', 'fourth')
  const removed = await rig.exec('node2', ['twillctl', 'delete', 'node', 'node3'])
  assert.is(removed.status, 0, removed.stderr)
  await untilFreed(uid)
  const said = await misnamed()
  assert.match(said, /node name node1 is taken.*no longer of this machine: 1; cut off: /)
  for (const address of rig.pod('fourth').addresses) assert.ok(said.includes(address), said)
  const link = await rig.exec('fourth', ['ip', 'link', 'show', 'eth0'])
  assert.is.not(link.status, 0, 'the pod has no interface any more')
  await rig.deletePod('fourth')
  await rig.startDaemon('node3')
  await rig.addPod('node3', 'fifth')
  await talk('anchor', 'fifth')
})

test.run()
