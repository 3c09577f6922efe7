/**
 * What root in a pod can do to its own interface, against running daemons: nobody else is harmed, the pod is taken
 * down like any other, and the daemon neither ends nor stays busy. Storms are of as many changes as one shell makes.
 */
import { suite } from 'uvu'
import * as assert from 'uvu/assert'
import { Cluster } from '../../hack/rig/cluster.ts'
import { until } from '../../hack/rig/processes.ts'
import { settledState, untilState } from '../fixtures/node-state.ts'

const rig = new Cluster(`twx-${process.pid}`)
const test = suite('hostile pods')
const NODE = 'node1'
let far = ''
let baseline = ''

test.before(async () => {
  await rig.up({ nodes: 2, config: { coolDown: '1s' } })
  far = (await rig.addPod('node2', 'far')).addresses[0] as string
  await rig.addPod(NODE, 'victim')
  baseline = await settledState(rig, NODE)
})
test.after(async () => {
  await rig.down()
})

const talks = async (pod: string) => (await rig.exec(pod, ['ping', '-c1', '-W1', far])).status === 0
const untilTalking = (pod: string) =>
  until(
    () => talks(pod),
    20_000,
    () => `${pod} does not reach ${far}`,
  )
const inPod = async (pod: string, script: string) => {
  const { status, stdout, stderr } = await rig.exec(pod, ['sh', '-ec', script])
  assert.is(status, 0, `${stdout}${stderr}`)
}

test('a pod without IPv6 (MTU under 1280) can be deleted, also by a daemon that starts', async () => {
  for (const restart of [false, true]) {
    await rig.addPod(NODE, 'small')
    await inPod('small', 'ip link set eth0 mtu 1000')
    if (restart) await rig.stopDaemon(NODE)
    await rig.deletePod('small')
    if (restart) await rig.startDaemon(NODE)
    await untilState(rig, NODE, baseline)
  }
})

test("a forged veth does not take another pod's MAC away", async () => {
  await rig.addPod(NODE, 'thief')
  await untilTalking('victim')
  const { stdout } = await rig.exec(NODE, ['sh', '-c', 'ip -o link | grep "twl" | cut -d: -f1'])
  for (const index of stdout.trim().split('\n').map(Number))
    await rig.exec('thief', [
      'sh',
      '-c',
      `ip link add f${index} type veth peer name g${index} index ${index}; ip link set f${index} up`,
    ])
  await new Promise(resolve => setTimeout(resolve, 1500))
  assert.ok(await talks('victim'))
  await rig.deletePod('thief')
  await untilState(rig, NODE, baseline)
})

test('a MAC changed while the daemon was away is learned when it starts', async () => {
  await rig.addPod(NODE, 'changed')
  await untilTalking('changed')
  await rig.stopDaemon(NODE)
  await inPod('changed', 'ip link set eth0 address 02:00:00:00:88:88')
  await rig.startDaemon(NODE)
  await untilTalking('changed')
  await rig.deletePod('changed')
  await untilState(rig, NODE, baseline)
})

test('pods that flap their link and their MAC hold up neither the others nor the daemon', async () => {
  await rig.addPod(NODE, 'flapper')
  const pid = rig.node(NODE).servicePid('twilld')
  const storm = rig.exec('flapper', [
    'sh',
    '-c',
    'for i in $(seq 1 3000); do echo "link set eth0 down"; printf "link set eth0 address 02:00:00:01:%02x:%02x\\n" $((i/256)) $((i%256)); echo "link set eth0 up"; done | ip -b -',
  ])
  await rig.addPod(NODE, 'newcomer')
  await untilTalking('newcomer')
  await rig.deletePod('newcomer')
  await storm
  assert.ok(await talks('victim'))
  assert.is(rig.node(NODE).servicePid('twilld'), pid)
  await rig.deletePod('flapper')
  await untilState(rig, NODE, baseline)
})

for (const [what, script] of [
  ['deletes', 'for i in $(seq 30); do ip link del eth0 || true; sleep 0.05; done'],
  ['renames', 'ip link set eth0 down; ip link set eth0 name away; ip link set away up'],
  ['replaces', "printf 'link del eth0\\nlink add eth0 type veth peer name other\\n' | ip -b -"],
  ['gives away', 'unshare -n sleep 30 >/dev/null 2>&1 & sleep 0.3; ip link set eth0 netns $!'],
] as const)
  test(`a pod that ${what} its interface is taken down like any other`, async () => {
    await rig.addPod(NODE, 'own')
    await inPod('own', script)
    await new Promise(resolve => setTimeout(resolve, 500))
    assert.ok(await talks('victim'))
    await rig.deletePod('own')
    await untilState(rig, NODE, baseline)
  })

test.run()
