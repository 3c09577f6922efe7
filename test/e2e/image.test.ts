/**
 * The daemon as the container that the manifest describes: PIDs and mounts of its own, four capabilities, no shell. It means
 * the same pods as the runtime does, and pods do not notice when it is replaced.
 */
import { existsSync, readFileSync, statSync } from 'node:fs'
import { join } from 'node:path'
import { suite } from 'uvu'
import * as assert from 'uvu/assert'
import { Cluster } from '../../hack/rig/cluster.ts'
import { readConfList } from '../../hack/rig/cni-client.ts'
import { ROOT } from '../../hack/rig/layout.ts'
import { until } from '../../hack/rig/processes.ts'
import type { CriClient } from '../fixtures/cri/client.ts'
import { installContainerd } from '../fixtures/cri/containerd.ts'
import { daemonSetPod } from '../fixtures/cri/daemonset.ts'
import { runPod } from '../fixtures/cri/pods.ts'
import { importImage, TwilldPod, writeTwillImage } from '../fixtures/cri/twilld-pod.ts'
import { readStatus, settledState, untilState } from '../fixtures/node-state.ts'
import { startTraffic } from '../fixtures/traffic.ts'

const rig = new Cluster(`image-${process.pid}`)
const test = suite('image')
/** The one with a firewall that drops what it does not know; the daemon of the other runs on its node itself. */
const NODE = 'node2'
const manifest = daemonSetPod()

let client: CriClient
let daemon: TwilldPod
let clean = ''

test.before(async () => {
  await rig.up({ nodes: 2, config: { coolDown: '1s' }, daemons: false })
  const machine = rig.node(NODE)
  await rig.startDaemon('node1')
  client = await installContainerd(machine)
  // Real files: a link out of the folder leads nowhere in a container. Ours it installs itself.
  await machine.script('rm /opt/cni/bin/*; cd /usr/lib/cni; cp loopback portmap bandwidth /opt/cni/bin/')
  await importImage(machine, writeTwillImage(rig.folder))
  await machine.script(
    `sed -i /nodeName/d /etc/twill/twilld.yaml; echo ${HOST_NAME} >/proc/sys/kernel/hostname`,
  )
  daemon = new TwilldPod(machine, client, manifest)
  await daemon.start()
  await daemon.ready()
  clean = await settledState(rig, NODE)
})
test.after(async () => {
  client?.close()
  await rig.down()
})

/** Another than Kubernetes' name of the node. */
const HOST_NAME = 'by-another-name'

const inside = (script: string) => client.exec(daemon.container, ['/usr/bin/node', '-e', script])

test('it has PIDs of its own, the capabilities of the manifest and no other, and cannot write where it need not', async () => {
  const { stdout, stderr } = await inside(
    `const { readFileSync, readdirSync, writeFileSync } = require('node:fs')
    const refused = path => { try { writeFileSync(path, '0'); return 'written' } catch (error) { return error.code } }
    console.log(JSON.stringify({
      status: readFileSync('/proc/1/status', 'utf8'),
      processes: readdirSync('/proc').filter(name => /^\\d+$/.test(name)).length,
      root: refused('/x'), sysctl: refused('/proc/sys/net/ipv4/ip_forward'), kernel: refused('/proc/sys/kernel/panic'),
    }))`,
  )
  assert.is(stderr, '')
  const found = JSON.parse(stdout) as { status: string; processes: number }
  assert.is(found.processes, 2, 'itself and the one that looks')
  const numbers: Record<string, number> = { NET_BROADCAST: 11, NET_ADMIN: 12, NET_RAW: 13, SYS_ADMIN: 21 }
  const wanted = manifest.containers[0].securityContext.capabilities.add.map(name => numbers[name] as number)
  const mask = wanted.reduce((sum, bit) => sum + 2 ** bit, 0)
  for (const set of ['CapPrm', 'CapEff', 'CapBnd'])
    assert.is(Number.parseInt(new RegExp(`${set}:\\s+(\\w+)`).exec(found.status)?.[1] ?? '', 16), mask, set)
  assert.match(found.status, /Seccomp:\s+2/)
  const { root, sysctl, kernel } = found as unknown as Record<string, string>
  assert.equal([root, sysctl, kernel], ['EROFS', 'EROFS', 'EROFS'])
})

test('there is no shell to be had in it', async () => {
  for (const shell of ['/bin/sh', '/bin/bash', 'sh', '/usr/bin/env']) {
    const tried = await client
      .exec(daemon.container, [shell, '-c', 'true'])
      .catch(error => (error as Error).message)
    assert.match(JSON.stringify(tried), /not found|no such file/i, shell)
  }
})

test('its name is what Kubernetes calls the node; it says how it is, and twillctl is at hand', async () => {
  assert.is((await readStatus(rig, NODE)).node.name, NODE)
  assert.is((await inside('console.log(require("node:os").hostname())')).stdout, `${HOST_NAME}\n`)
  const health = await rig.node(NODE).run(['busybox', 'wget', '-qO-', 'http://127.0.0.1:9484/v1/ready'])
  assert.match(health.stdout, /"ready":true/)
  const { stdout } = await client.exec(daemon.container, ['twillctl', 'get', 'nodes'])
  assert.match(stdout, /node1[\s\S]*node2/)
})

test('its executables are on the node, and the plugins that are there are chained', async () => {
  const machine = rig.node(NODE)
  for (const name of ['twill', 'twill-ipam', 'twill-offline']) {
    const file = machine.path(`/opt/cni/bin/${name}`)
    assert.ok(readFileSync(file).equals(readFileSync(join(ROOT, 'dist/bin', name))), name)
  }
  const chained = readConfList(machine).plugins.map(({ type }) => type)
  assert.equal(chained, ['twill', 'portmap', 'bandwidth'])
  assert.equal((await readStatus(rig, NODE)).conditions, [])
})

test('CNI-002 a pod that the runtime makes reaches one of another node, through the firewall of its own', async () => {
  await rig.addPod('node1', 'there')
  const pod = await runPod(client, 'of-runtime')
  for (const address of rig.pod('there').addresses) {
    const got = await client.exec(pod.container, ['ping', '-c', '1', '-W', '5', address])
    assert.is(got.status, 0, `${address}: ${got.stdout}${got.stderr}`)
  }
  for (const address of pod.addresses) {
    const got = await rig.exec('there', ['ping', '-n', '-c1', '-W5', address])
    assert.is(got.status, 0, `${address}: ${got.stdout}${got.stderr}`)
  }
  await client.stopSandbox(pod.sandbox)
  await client.removeSandbox(pod.sandbox)
  await untilState(rig, NODE, clean, 30_000)
})

test('nobody loses a packet while the container is killed, or its whole pod replaced', async () => {
  await rig.addPod(NODE, 'here')
  const traffic = await startTraffic(rig, 'here', 'there')
  await daemon.restart()
  await daemon.ready()
  await daemon.stop()
  await daemon.start()
  await daemon.ready()
  await traffic.stop()
})

test('CNI-049 what is deleted while it is away is filed on the node, and over when it is back', async () => {
  const machine = rig.node(NODE)
  const before = await settledState(rig, NODE)
  const pod = await rig.addPod(NODE, 'gone')
  await daemon.stop()
  await rig.deletePod('gone')
  assert.match(await machine.must(['ls', '/var/lib/twill/spool']), /\w/)
  await daemon.start()
  await daemon.ready()
  await untilState(rig, NODE, before, 30_000)
  assert.not((await readStatus(rig, NODE)).pods.some(({ containerId }) => containerId === pod.containerId))
})

test('a namespace named by a process of the node is refused, for the number means another here', async () => {
  const machine = rig.node(NODE)
  const pod = rig.pod('here')
  const holder = machine.run(['ip', 'netns', 'exec', pod.name, 'sleep', '30'])
  let pid = ''
  await until(
    async () => {
      pid = (await machine.run(['ip', 'netns', 'pids', pod.name])).stdout.trim().split('\n')[0] ?? ''
      return pid !== ''
    },
    10_000,
    () => 'nobody is in the namespace',
  )
  const env = {
    ...machine.environment,
    CNI_COMMAND: 'ADD',
    CNI_CONTAINERID: 'by-process',
    CNI_NETNS: `/proc/${pid}/ns/net`,
    CNI_IFNAME: 'eth1',
    CNI_PATH: '/opt/cni/bin',
  }
  const list = readConfList(machine)
  const input = JSON.stringify({ ...list.plugins[0], cniVersion: list.cniVersion, name: list.name })
  const said = await machine.run(['/opt/cni/bin/twill'], { env, input })
  assert.match(said.stdout, /processes are not seen from here/)
  await machine.run(['kill', pid])
  await holder
})

test('rules, routes and switches that somebody removes come back', async () => {
  const machine = rig.node(NODE)
  const before = await settledState(rig, NODE)
  await machine.script(`nft delete table inet twill
ip route flush proto 84
echo 0 >/proc/sys/net/ipv4/ip_forward`)
  await untilState(rig, NODE, before, 30_000)
  await until(
    async () => (await machine.must(['cat', '/proc/sys/net/ipv4/ip_forward'])) === '1\n',
    30_000,
    () => 'the switch stays off',
  )
})

test('what it keeps on the node is for root alone, and the node is as before when the pods are gone', async () => {
  const machine = rig.node(NODE)
  for (const file of ['/var/lib/twill/journal', '/run/twill/api.sock', '/run/twill/cni.sock'])
    assert.is(statSync(machine.path(file)).mode & 0o077, 0, file)
  assert.ok(existsSync(machine.path('/etc/cni/net.d/10-twill.conflist')))
  for (const name of ['here', 'there']) await rig.deletePod(name)
  await untilState(rig, NODE, clean, 30_000)
})

test.run()
