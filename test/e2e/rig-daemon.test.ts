/** The rig's words that concern twilld: pods through the real executable, and the daemon's, etcd's and nodes' comings and goings. */
import { suite } from 'uvu'
import * as assert from 'uvu/assert'
import { Cluster } from '../../hack/rig/cluster.ts'
import { readConfList } from '../../hack/rig/cni-client.ts'
import { until } from '../../hack/rig/processes.ts'

const rig = new Cluster(`twf-${process.pid}`)
const test = suite('rig with twilld')

test.before(() => rig.up({ nodes: 2 }))
test.after(async () => {
  await rig.down()
})

const reaches = async (from: string, address: string): Promise<boolean> =>
  (await rig.exec(from, ['ping', '-c', '1', '-W', '1', address])).status === 0

async function assertReaches(from: string, to: string): Promise<void> {
  for (const address of rig.pod(to).addresses)
    await until(
      () => reaches(from, address),
      20_000,
      () => `${from} does not reach ${to} at ${address}`,
    )
}

const dropped = async () => (await rig.leaks()).reduce((sum, leak) => sum + leak.packets, 0)

test("the node has a conflist, sockets that are nobody else's, and no way in for others", async () => {
  const machine = rig.node('node1')
  const list = readConfList(machine)
  assert.equal(
    list.plugins.map(({ type }) => type),
    ['twill', 'portmap', 'bandwidth'],
  )
  const { stdout } = await rig.exec('node1', [
    'stat',
    '-c',
    '%a',
    '/run/twill/cni.sock',
    '/run/twill/api.sock',
  ])
  assert.is(stdout, '600\n600\n')
})

test('pods of both nodes reach each other over both families, and the underlay sees none of their addresses', async () => {
  const web = await rig.addPod('node1', 'web')
  const client = await rig.addPod('node2', 'client')
  assert.is(web.addresses.length, 2)
  assert.is(client.addresses.length, 2)
  await assertReaches('client', 'web')
  await assertReaches('web', 'client')
  await assertReaches('node2', 'web')
  for (const address of ['192.168.77.12', 'fd77::12', '198.51.100.1', '2001:db8:51::1'])
    assert.ok(await reaches('web', address), address)
  assert.is(await dropped(), 0)
})

for (const end of ['stopDaemon', 'killDaemon'] as const) {
  test(`${end}: pods go on talking, a new one waits for the daemon`, async () => {
    assert.is(await rig[end]('node1'), true)
    assert.is(await rig[end]('node1'), false)
    await assertReaches('client', 'web')
    try {
      await rig.addPod('node1', 'late')
      assert.unreachable('ADD succeeded without a daemon')
    } catch (error) {
      assert.match((error as Error).message, /code 11/)
    }
    await rig.startDaemon('node1')
    await rig.addPod('node1', 'late')
    await assertReaches('client', 'late')
    await rig.deletePod('late')
  })
}

test('etcd stops: pods go on starting; it comes back', async () => {
  await rig.stopStore()
  try {
    await rig.addPod('node1', 'offline')
    await assertReaches('client', 'offline')
  } finally {
    await rig.startStore()
  }
  await rig.deletePod('offline')
})

test('a node boots again: its pods are gone, new ones talk', async () => {
  await rig.stopNode('node1')
  await rig.startNode('node1')
  assert.equal(
    rig.pods().map(pod => pod.name),
    ['client'],
  )
  await rig.addPod('node1', 'web')
  await assertReaches('client', 'web')
  await assertReaches('web', 'client')
})

test('a node is replaced: another identity under the name, new pods talk', async () => {
  const uid = async () => JSON.parse((await rig.api('node1', '/v1/status')).body).node.uid as string
  const before = await uid()
  await rig.replaceNode('node1', { timeoutMs: 120_000 })
  assert.is.not(await uid(), before)
  await rig.addPod('node1', 'web')
  await assertReaches('client', 'web')
  await assertReaches('web', 'client')
  assert.is(await dropped(), 0)
})

test.run()
