/** Twill goes off a node of the rig, killed at each step on the way: nothing of it is left, and it may come back. */
import { suite } from 'uvu'
import * as assert from 'uvu/assert'
import { Cluster } from '../../hack/rig/cluster.ts'
import { until } from '../../hack/rig/processes.ts'
import { FAULT_POINTS } from '../../lib/fault.ts'
import { nodeLeftovers } from '../fixtures/node-leftovers.ts'
import { readOwnedParts, readStatus, untilAgreed } from '../fixtures/node-state.ts'

const rig = new Cluster(`twr-u-${process.pid}`)
const test = suite('uninstall')
const BOUND_MS = 30_000
/** As a shell reports the end by SIGKILL. */
const KILLED = 137

test.before(async () => {
  await rig.up({
    nodes: 2,
    config: { coolDown: '1s', heartbeatInterval: '1s', cni: { binDir: '/opt/cni/bin' } },
  })
  await rig.addPod('node1', 'here')
  await rig.addPod('node2', 'there')
})
test.after(async () => {
  await rig.down()
})

const COMMAND =
  'fault=$1; shift; TWILL_FAULT=$fault twilld --uninstall --config /etc/twill/twilld.yaml "$@"; exit $?'
const uninstall = (node: string, options: { force?: boolean; fault?: string } = {}) =>
  rig.exec(node, ['sh', '-c', COMMAND, 'sh', options.fault ?? '', ...(options.force ? ['--force'] : [])])

async function reaches(from: string, to: string): Promise<void> {
  for (const address of rig.pod(to).addresses)
    await until(
      async () => (await rig.exec(from, ['ping', '-c1', '-W1', address])).status === 0,
      BOUND_MS,
      () => `${from} does not reach ${to} at ${address}`,
    )
}

const leftovers = (node: string): Promise<string[]> => nodeLeftovers(rig, node)

test('refused while its daemon runs, and while pods live there: nothing is changed', async () => {
  const running = await uninstall('node1', { force: true })
  assert.is(running.status, 1)
  assert.match(running.stderr, /runs on this node/)
  await rig.stopDaemon('node1')
  const before = await leftovers('node1')
  const refused = await uninstall('node1')
  assert.is(refused.status, 1)
  assert.match(refused.stderr, /1 pod of this node would be cut off/)
  assert.equal(await leftovers('node1'), before)
  await reaches('there', 'here')
  await rig.startDaemon('node1')
})

test('killed at each step it is finished by the next run: no file, no object, no rule, no record is left', async () => {
  const { uid } = (await readStatus(rig, 'node1')).node
  await rig.stopDaemon('node1')
  for (const point of FAULT_POINTS.uninstall) {
    const killed = await uninstall('node1', { force: true, fault: point })
    assert.is(killed.status, KILLED, `${point}: ${killed.stdout}${killed.stderr}`)
  }
  const last = await uninstall('node1')
  assert.is(last.status, 0, last.stderr)
  assert.match(last.stdout, /knows of no cluster/)
  assert.match(last.stdout, /^Twill is off node node1$/m)
  assert.equal(await leftovers('node1'), [])
  assert.equal(await readOwnedParts(rig, uid), [])
  await until(
    async () => !(await readStatus(rig, 'node2')).nodes.some(node => node.uid === uid),
    BOUND_MS,
    () => 'node2 still knows node1',
  )
})

test('it may come back, as another node of the name; the runtime ends the pods of before', async () => {
  await rig.startDaemon('node1')
  await rig.deletePod('here')
  await untilAgreed(rig, 'node1')
  await rig.addPod('node1', 'here')
  await reaches('here', 'there')
  await reaches('there', 'here')
})

test('without pods no force is needed; while etcd is away it says what is left there, and how that is ended', async () => {
  await rig.deletePod('there')
  await untilAgreed(rig, 'node2')
  await rig.stopStore()
  await rig.stopDaemon('node2')
  const gone = await uninstall('node2')
  await rig.startStore()
  assert.is(gone.status, 0, gone.stderr)
  assert.match(gone.stdout, /stays: the cluster was not left .*twillctl delete node node2/)
  assert.match(gone.stdout, /^removed link twill-vx4$/m)
  assert.equal(await leftovers('node2'), [])
})

test.run()
