/** A container runtime works in a node of the rig as on any machine, and leaves nothing on the host. */
import { existsSync, readdirSync } from 'node:fs'
import { join } from 'node:path'
import { suite } from 'uvu'
import * as assert from 'uvu/assert'
import { Cluster } from '../../hack/rig/cluster.ts'
import { until } from '../../hack/rig/processes.ts'

const rig = new Cluster(`twf-${process.pid}`)
const test = suite('rig with a runtime')

test.before(() => rig.up({ nodes: 1, daemons: false }))
test.after(async () => {
  await rig.down()
})

async function startContainerd(): Promise<void> {
  const machine = rig.node('node1')
  await machine.startService('containerd', ['containerd'])
  await until(
    async () => (await machine.run(['ctr', 'version'])).status === 0,
    30_000,
    () => 'containerd does not answer',
  )
}

const topCgroups = () =>
  ['.', ...readdirSync('/sys/fs/cgroup')].flatMap(controller => {
    const folder = join('/sys/fs/cgroup', controller, `twfc-${process.pid}`)
    return existsSync(folder) ? [folder] : []
  })

test("containerd runs a container; its folders, sockets and cgroups are the node's", async () => {
  const machine = rig.node('node1')
  await startContainerd()
  await machine.script('mkdir -p /var/lib/rootfs/bin; cp /bin/busybox /var/lib/rootfs/bin/')
  const run = [
    'ctr',
    '--namespace',
    `twfc-${process.pid}`,
    'run',
    '--rootfs',
    '/var/lib/rootfs',
    'c1',
    '/bin/busybox',
    'echo',
    'hello',
  ]
  assert.is(await machine.must(run), 'hello\n')
  assert.match(await machine.must(['ctr', 'plugins', 'ls']), /snapshotter\.v1\s+overlayfs\s+\S+\s+ok/)
  assert.match(await machine.must(['sh', '-c', 'ls /sys/fs/cgroup /sys/fs/cgroup/*']), `twfc-${process.pid}`)
  assert.equal(topCgroups(), [], 'on the host')
})

const runDetached = (name: string) =>
  rig
    .node('node1')
    .must(['ctr', 'run', '-d', '--rootfs', '/var/lib/rootfs', name, '/bin/busybox', 'sleep', '1000'])

test('a node that boots again has no cgroups of the containers that ran before', async () => {
  const folders = () => rig.node('node1').must(['find', '/sys/fs/cgroup', '-type', 'd', '-name', 'c1'])
  await runDetached('c1')
  assert.match(await folders(), '/c1')
  await rig.stopNode('node1')
  await rig.startNode('node1', { daemon: false })
  assert.is(await folders(), '')
  await startContainerd()
})

test('down takes a running container with it', async () => {
  await runDetached('c2')
  const removed = await rig.down()
  assert.ok(
    removed.some(line => line.startsWith('cgroup ')),
    removed.join('\n'),
  )
  assert.equal(rig.leftovers(), [])
})

test.run()
