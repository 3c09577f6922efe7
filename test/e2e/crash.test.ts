/**
 * The daemon is killed with SIGKILL at every step of ADD and DEL (lib/fault.ts names them). After a restart and a
 * reconcile nothing of the pod is left that was not answered for, and no other pod is harmed.
 */
import { randomBytes } from 'node:crypto'
import { suite } from 'uvu'
import * as assert from 'uvu/assert'
import { Cluster } from '../../hack/rig/cluster.ts'
import { execPlugin } from '../../hack/rig/cni-client.ts'
import { until } from '../../hack/rig/processes.ts'
import { FAULT_POINTS, type FaultPoint } from '../../lib/fault.ts'
import { readOwnedParts, readStatus, settledState, untilState } from '../fixtures/node-state.ts'

const rig = new Cluster(`crash-${process.pid}`)
const test = suite('crash')
const NODE = 'node1'
const CONFIG = JSON.stringify({ cniVersion: '1.0.0', name: 'twill', type: 'twill' })

let baseline = ''
let neighbourAddress = ''

test.before(async () => {
  await rig.up({ nodes: 2, config: { coolDown: '1s', heartbeatInterval: '1s' } })
  neighbourAddress = (await rig.addPod('node2', 'far')).addresses[0] as string
  await rig.addPod(NODE, 'bystander')
  baseline = await settledState(rig, NODE)
})
test.after(async () => {
  await rig.down()
})

const call = (name: string) => ({
  containerId: randomBytes(16).toString('hex'),
  netns: `/run/netns/${name}`,
  ifName: 'eth0',
  args: {},
})
const plugin = (command: string, each: ReturnType<typeof call>) =>
  execPlugin(rig.node(NODE), command, 'twill', each, CONFIG)

async function withFault(point: FaultPoint): Promise<void> {
  await rig.stopDaemon(NODE)
  await rig.startDaemon(NODE, { env: { TWILL_FAULT: point } })
}

async function untilDead(): Promise<void> {
  const machine = rig.node(NODE)
  await until(
    () => machine.servicePid('twilld') === undefined,
    10_000,
    () => 'the fault point was never reached',
  )
}

async function bystanderTalks(): Promise<void> {
  const ping = await rig.exec('bystander', ['ping', '-c1', '-W2', neighbourAddress])
  assert.is(ping.status, 0, ping.stdout)
}

/** From here on the runtime may hold a result, so that only its DEL ends the attachment. */
const ANSWERED_FOR: readonly FaultPoint[] = ['add.done-written', 'add.answered']

for (const point of FAULT_POINTS.add)
  test(`ADD, killed at ${point} (CNI-009, CNI-120)`, async () => {
    await withFault(point)
    const name = point.replace('.', '-')
    await rig.node(NODE).must(['ip', 'netns', 'add', name])
    const pod = call(name)
    const added = await plugin('ADD', pod)
    await untilDead()
    if (point === 'add.answered') assert.is(added.status, 0, added.stdout)
    else assert.is(JSON.parse(added.stdout).code, 11, added.stdout)
    await bystanderTalks()
    await rig.startDaemon(NODE)
    const clean = `${baseline}\nnetns ${name}`.split('\n').sort().join('\n')
    if (!ANSWERED_FOR.includes(point)) await untilState(rig, NODE, clean)
    assert.is((await plugin('DEL', pod)).status, 0)
    await untilState(rig, NODE, clean)
    assert.is(
      (await rig.exec(NODE, ['ip', '-n', name, 'link', 'show', 'eth0'])).status,
      1,
      'eth0 is gone in the pod',
    )
    await rig.node(NODE).must(['ip', 'netns', 'del', name])
    await bystanderTalks()
  })

for (const point of FAULT_POINTS.del)
  test(`DEL, killed at ${point} (CNI-130, CNI-134)`, async () => {
    const name = point.replace('.', '-')
    await rig.node(NODE).must(['ip', 'netns', 'add', name])
    const pod = call(name)
    assert.is((await plugin('ADD', pod)).status, 0)
    await withFault(point)
    const deleted = await plugin('DEL', pod)
    assert.is(deleted.status, 0, deleted.stdout)
    await untilDead()
    await bystanderTalks()
    await rig.startDaemon(NODE)
    await untilState(rig, NODE, `${baseline}\nnetns ${name}`.split('\n').sort().join('\n'))
    assert.is(
      (await rig.exec(NODE, ['ip', '-n', name, 'link', 'show', 'eth0'])).status,
      1,
      'eth0 is gone in the pod',
    )
    await rig.node(NODE).must(['ip', 'netns', 'del', name])
    await bystanderTalks()
  })

for (const point of FAULT_POINTS.ledger)
  test(`group commit, killed at ${point}: the ledger agrees afterwards`, async () => {
    const name = point.replace('.', '-')
    await rig.node(NODE).must(['ip', 'netns', 'add', name])
    const pod = call(name)
    // The commit that follows an ADD finds no etcd, and the one that a restart makes up for it with is cut off.
    await rig.stopStore()
    assert.is((await plugin('ADD', pod)).status, 0)
    await rig.killDaemon(NODE)
    await rig.startStore()
    await rig.startDaemon(NODE, { env: { TWILL_FAULT: point }, wait: false })
    await untilDead()
    await rig.startDaemon(NODE)
    const state = (await settledState(rig, NODE)).split('\n')
    const attachment = (await readStatus(rig, NODE)).pods.find(each => each.containerId === pod.containerId)
    assert.is(attachment?.addresses.length, 2)
    for (const address of attachment?.addresses ?? [])
      assert.ok(state.includes(`ledger ${address} ${attachment?.id}`), state.join('\n'))
    assert.is((await plugin('DEL', pod)).status, 0)
    await rig.node(NODE).must(['ip', 'netns', 'del', name])
    await untilState(rig, NODE, baseline)
  })

for (const point of FAULT_POINTS.claim)
  test(`claiming a part, killed at ${point}: what the slots give us is what we use`, async () => {
    const fresh = `claim-${point.split('.')[1]}`
    await rig.replaceNode('node2', { env: { TWILL_FAULT: point }, wait: false })
    const machine = rig.node('node2')
    await until(
      () => machine.servicePid('twilld') === undefined,
      20_000,
      () => `${fresh}: never reached`,
    )
    await rig.startDaemon('node2')
    const status = await readStatus(rig, 'node2')
    assert.equal(status.parts.map(part => part.cidr).sort(), await readOwnedParts(rig, status.node.uid))
    await rig.addPod('node2', fresh)
  })

test.run()
