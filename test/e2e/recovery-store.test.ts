/**
 * Etcd comes back as another one: empty, or of another cluster under the same prefix. It is refused with the reason,
 * nothing is written into it, the data path stays; when the right one is back everything goes on.
 */

import { readFileSync } from 'node:fs'
import { suite } from 'uvu'
import * as assert from 'uvu/assert'
import { Cluster } from '../../hack/rig/cluster.ts'
import { daemonLog } from '../../hack/rig/daemon.ts'
import { until } from '../../hack/rig/processes.ts'
import { settledKernel, untilKernel } from '../fixtures/kernel-state.ts'
import { readHolders, readOwnedParts, readStatus } from '../fixtures/node-state.ts'
import { startTraffic } from '../fixtures/traffic.ts'

const rig = new Cluster(`twr-s-${process.pid}`)
const test = suite('recovery: the store')
const BOUND_MS = 30_000
const DATA = '/var/lib/twill/etcd'
const FOREIGN = '11111111-2222-4333-8444-555555555555'

test.before(async () => {
  await rig.up({ nodes: 2, config: { coolDown: '1s', heartbeatInterval: '1s' } })
  await rig.addPod('node1', 'here')
  await rig.addPod('node2', 'there')
})
test.after(async () => {
  await rig.down()
})

async function untilReason(node: string, pattern: RegExp): Promise<void> {
  let reason: string | null = ''
  await until(
    async () => {
      reason = (await readStatus(rig, node)).datastore.reason
      return pattern.test(reason ?? '')
    },
    BOUND_MS,
    () => `${node} says ${reason}`,
  )
}

async function swapStore(work: () => Promise<void>): Promise<void> {
  await rig.stopStore()
  await work()
  await rig.startStore()
}

const keys = async () => (await rig.etcdctl(['get', '--prefix', '', '--keys-only'])).stdout.trim()

test('emptied etcd: refused, the data path stays, pods come by the term; the old one is taken back', async () => {
  const before = await Promise.all(rig.nodes.map(node => settledKernel(rig, node)))
  const { node, datastore } = await readStatus(rig, 'node1')
  const parts = await readOwnedParts(rig, node.uid)
  const traffic = await startTraffic(rig, 'here', 'there')
  await swapStore(async () => void (await rig.underlay.script(`mv ${DATA} ${DATA}.kept`)))
  for (const name of rig.nodes) await untilReason(name, new RegExp(`${datastore.clusterUid}`))
  for (const [index, name] of rig.nodes.entries()) await untilKernel(rig, name, before[index] as string, 0)
  await rig.addPod('node1', 'meanwhile')
  await new Promise(resolve => setTimeout(resolve, 3_000))
  assert.is(await keys(), '', 'a node that knows its cluster writes nothing into an empty etcd')
  await swapStore(async () => void (await rig.underlay.script(`rm -rf ${DATA}; mv ${DATA}.kept ${DATA}`)))
  await until(
    async () => (await readStatus(rig, 'node1')).datastore.connected,
    BOUND_MS,
    () => 'not connected again',
  )
  await until(
    async () => {
      const holders = await readHolders(rig, node.uid)
      return rig.pod('meanwhile').addresses.every(address => holders.has(address))
    },
    BOUND_MS,
    () => 'the ledger did not follow',
  )
  assert.equal(await readOwnedParts(rig, node.uid), parts)
  await traffic.stop()
})

test('etcd of another cluster under the same prefix: refused naming both, also by a restarted daemon', async () => {
  const before = await settledKernel(rig, 'node1')
  const { clusterUid } = (await readStatus(rig, 'node1')).datastore
  const traffic = await startTraffic(rig, 'here', 'there')
  await swapStore(async () => void (await rig.underlay.script(`mv ${DATA} ${DATA}.kept`)))
  await rig.etcdctl(['put', '/twill/v1/cluster', JSON.stringify({ v: 1, uid: FOREIGN })])
  const foreign = await keys()
  const names = new RegExp(`${clusterUid}.*${FOREIGN}|${FOREIGN}.*${clusterUid}`)
  await untilReason('node1', names)
  await untilReason('node2', names)
  await rig.killDaemon('node1')
  await rig.startDaemon('node1', { wait: false })
  await until(
    async () =>
      (
        await rig.api('node1', '/v1/status').then(
          ({ body }) => body,
          () => '',
        )
      ).includes(FOREIGN),
    BOUND_MS,
    () => 'the restarted daemon does not name the foreign cluster',
  )
  assert.match(readFileSync(daemonLog(rig.node('node1')), 'utf8'), new RegExp(FOREIGN))
  await untilKernel(rig, 'node1', before, BOUND_MS)
  await rig.deletePod('meanwhile')
  assert.is(await keys(), foreign, 'nothing of ours is written into it')
  const cli = await rig.exec('node2', ['twillctl', 'status'])
  assert.match(cli.stdout + cli.stderr, new RegExp(FOREIGN))
  await swapStore(async () => void (await rig.underlay.script(`rm -rf ${DATA}; mv ${DATA}.kept ${DATA}`)))
  await rig.startDaemon('node1')
  await rig.addPod('node1', 'after')
  await traffic.stop()
})

test.run()
