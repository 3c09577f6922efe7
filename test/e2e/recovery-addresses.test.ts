/**
 * What may happen to etcd and to nodes while pods come and go, and what journal, daemon, ledgers and slots say
 * afterwards: the same. Etcd is away, is restored from a backup; a node leaves its cluster.
 */

import { readFileSync } from 'node:fs'
import { suite } from 'uvu'
import * as assert from 'uvu/assert'
import { Cluster } from '../../hack/rig/cluster.ts'
import { daemonLog } from '../../hack/rig/daemon.ts'
import { until } from '../../hack/rig/processes.ts'
import { contains, parseCidr, parseIp } from '../../lib/address.ts'
import { FAULT_POINTS, type FaultPoint } from '../../lib/fault.ts'
import { readOwnedParts, readStatus, untilAgreed } from '../fixtures/node-state.ts'

const rig = new Cluster(`twr-a-${process.pid}`)
const test = suite('recovery: addresses')
const BOUND_MS = 30_000
/** As a shell reports the end by SIGKILL. */
const KILLED = 137
const DATA = '/var/lib/twill/etcd'
const BACKUP = '/var/lib/twill/backup.db'

test.before(async () => {
  await rig.up({
    nodes: 2,
    config: {
      coolDown: '1s',
      heartbeatInterval: '1s',
      // Small enough that a few pods more ask for another part.
      firstPools: [{ name: 'pods-v4', spec: { cidr: '10.244.0.0/16', blockSize: 29 } }],
    },
  })
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

async function untilConnected(connected: boolean): Promise<void> {
  for (const node of rig.nodes)
    await until(
      async () => (await readStatus(rig, node)).datastore.connected === connected,
      BOUND_MS,
      () => `${node}: connected is not ${connected}`,
    )
}

const has = async (node: string, type: string): Promise<boolean> =>
  (await readStatus(rig, node)).conditions.some(condition => condition.type === type)

/** As many as there is room for: a part more cannot be had. */
async function addMany(node: string, prefix: string, count: number): Promise<number> {
  for (let i = 0; i < count; i++)
    try {
      await rig.addPod(node, `${prefix}${i}`)
    } catch {
      return i
    }
  return count
}

test('etcd is away while pods come and go and the daemon is killed: afterwards everything agrees', async () => {
  for (let i = 0; i < 4; i++) await rig.addPod('node1', `old${i}`)
  await untilAgreed(rig, 'node1')
  assert.ok(await rig.stopStore())
  await untilConnected(false)
  await rig.addPod('node1', 'new0')
  await rig.deletePod('old0')
  assert.ok(await rig.killDaemon('node1'))
  // By the executable alone: filed, and done when the daemon is back.
  await rig.deletePod('old1')
  await rig.startDaemon('node1')
  await rig.addPod('node1', 'new1')
  await rig.deletePod('old2')
  await rig.deletePod('new0')
  await rig.addPod('node2', 'new2')
  assert.ok(await rig.killDaemon('node1'))
  await rig.startDaemon('node1')
  await reaches('new1', 'new2')
  await rig.startStore()
  await untilConnected(true)
  for (const node of rig.nodes) await untilAgreed(rig, node)
  assert.equal((await readStatus(rig, 'node1')).pods.map(({ pod }) => pod?.name).sort(), [
    'here',
    'new1',
    'old3',
  ])
  await rig.addPod('node1', 'new3')
  await reaches('new3', 'there')
  assert.equal(
    (await rig.leaks()).filter(({ packets }) => packets > 0),
    [],
  )
})

const LEAVE = 'TWILL_FAULT=$1 twilld --leave --config /etc/twill/twilld.yaml; exit $?'
const leave = (fault = '') => rig.exec('node1', ['sh', '-c', LEAVE, 'sh', fault])

async function killedLeaving(point: FaultPoint): Promise<void> {
  const left = await leave(point)
  assert.is(left.status, KILLED, `${point}: ${left.stdout}${left.stderr}`)
}

const partWith = async (name: string) => {
  const { parts } = await readStatus(rig, 'node1')
  const [address] = rig.pod(name).addresses
  return parts.find(({ cidr }) => contains(parseCidr(cidr), parseIp(address as string)))?.cidr
}

test('a leave that is killed at any step takes nothing from the pod that lives there, and the node may return', async () => {
  const { node } = await readStatus(rig, 'node1')
  const kept = await partWith('here')
  for (const point of FAULT_POINTS.leave) {
    await rig.stopDaemon('node1')
    await killedLeaving(point)
    assert.ok((await readOwnedParts(rig, node.uid)).includes(kept as string), point)
    await reaches('here', 'there')
    await rig.startDaemon('node1')
    await untilAgreed(rig, 'node1')
    assert.is((await readStatus(rig, 'node1')).node.uid, node.uid)
    assert.is(await partWith('here'), kept)
    await rig.addPod('node1', 'returned')
    await reaches('returned', 'there')
    await rig.deletePod('returned')
  }
})

test('a node leaves its cluster, at the fourth attempt: refused while its daemon runs; then nothing of it is left but what its pod holds', async () => {
  const { node } = await readStatus(rig, 'node1')
  const running = await leave()
  assert.is(running.status, 1)
  assert.match(running.stderr, /runs/)
  for (const { name } of rig.pods().filter(pod => pod.node === 'node1' && pod.name !== 'here'))
    await rig.deletePod(name)
  await untilAgreed(rig, 'node1')
  await rig.stopDaemon('node1')
  for (const point of FAULT_POINTS.leave) await killedLeaving(point)
  const left = await leave()
  assert.is(left.status, 0, left.stderr)
  assert.match(
    left.stdout,
    /^Node node1 has left: \d+ parts? (is|are) free; 1 part in which pods live is fenced, free after/,
  )
  const owned = await readOwnedParts(rig, node.uid)
  assert.is(owned.length, 1)
  const again = await leave()
  assert.is(again.status, 0, again.stderr)
  assert.equal(await readOwnedParts(rig, node.uid), owned)
  await until(
    async () => !(await readStatus(rig, 'node2')).nodes.some(({ uid }) => uid === node.uid),
    BOUND_MS,
    () => 'node2 still knows node1',
  )
  await rig.startDaemon('node1')
  await untilAgreed(rig, 'node1')
  await reaches('here', 'there')
})

test('etcd is restored from a backup: parts of after it are entered again, nobody claims, no pod is lost', async () => {
  const saved = await rig.etcdctl(['snapshot', 'save', BACKUP])
  assert.is(saved.status, 0, saved.stderr)
  const { uid } = (await readStatus(rig, 'node1')).node
  const before = await readOwnedParts(rig, uid)
  for (let i = 0; i < 10; i++) await rig.addPod('node1', `after${i}`)
  await until(
    async () => (await readOwnedParts(rig, uid)).length > before.length,
    BOUND_MS,
    () => 'no part was claimed after the backup',
  )
  await untilAgreed(rig, 'node1')
  const since = await readOwnedParts(rig, uid)
  await rig.stopStore()
  await untilConnected(false)
  await rig.underlay.script(`rm -rf ${DATA}
ETCDCTL_API=3 etcdctl snapshot restore ${BACKUP} --data-dir ${DATA} --name default \\
  --initial-cluster default=http://127.0.0.1:2380 --initial-advertise-peer-urls http://127.0.0.1:2380`)
  await rig.startStore()
  await untilConnected(true)
  for (const node of rig.nodes)
    await until(
      () => has(node, 'StoreRestored'),
      BOUND_MS,
      () => `${node} does not say that etcd was restored`,
    )
  for (const node of rig.nodes) await untilAgreed(rig, node)
  assert.equal(await readOwnedParts(rig, uid), since)
  await reaches('after9', 'there')
  await reaches('there', 'after9')
  const came = await addMany('node2', 'fill', 30)
  assert.ok(came > 0 && came < 30, `${came} pods came: as many as there was room for`)
  assert.not.match(readFileSync(daemonLog(rig.node('node2')), 'utf8'), /no longer ours/)
  await untilAgreed(rig, 'node2')
})

test.run()
