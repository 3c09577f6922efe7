/**
 * Calls that cannot be right, and surroundings that fail: each gets a clear error, and afterwards the node is exactly as
 * it was: kernel, attachments, spool, ledgers.
 */
import { randomBytes } from 'node:crypto'
import { writeFileSync } from 'node:fs'
import { suite } from 'uvu'
import * as assert from 'uvu/assert'
import { Cluster } from '../../hack/rig/cluster.ts'
import { type CniCall, execPlugin } from '../../hack/rig/cni-client.ts'
import { until } from '../../hack/rig/processes.ts'
import { differences, kernelState, settledKernel } from '../fixtures/kernel-state.ts'
import { nodeState, readStatus, untilState } from '../fixtures/node-state.ts'

const rig = new Cluster(`twr-c-${process.pid}`)
const test = suite('refusal: calls')
const NODE = 'node1'
const CONFIG = JSON.stringify({ cniVersion: '1.0.0', name: 'twill', type: 'twill' })
const BOUND_MS = 30_000

let far = ''
const before = { kernel: '', node: '' }

test.before(async () => {
  await rig.up({ nodes: 2, config: { coolDown: '1s', heartbeatInterval: '1s' } })
  far = (await rig.addPod('node2', 'far')).addresses[0] as string
  await rig.addPod(NODE, 'bystander')
  await rig.node(NODE).script('ip netns add empty')
})
test.before.each(async () => {
  before.kernel = await settledKernel(rig, NODE)
  before.node = await nodeState(rig, NODE)
})
test.after.each(async () => {
  await untilState(rig, NODE, before.node, BOUND_MS)
  assert.is(differences(before.kernel, await kernelState(rig, NODE)), '')
  const ping = await rig.exec('bystander', ['ping', '-c1', '-W3', far])
  assert.is(ping.status, 0, ping.stdout)
})
test.after(async () => {
  await rig.down()
})

const call = (changes: Partial<CniCall> = {}): CniCall => ({
  containerId: randomBytes(16).toString('hex'),
  netns: '/run/netns/empty',
  ifName: 'eth0',
  args: {},
  ...changes,
})

interface Refusal {
  code: number
  msg: string
  details: string
  text: string
}

async function refused(command: string, each: CniCall, config = CONFIG): Promise<Refusal> {
  const { status, stdout } = await execPlugin(rig.node(NODE), command, 'twill', each, config)
  assert.is(status, 1, `${command} was not refused: ${stdout}`)
  const error = JSON.parse(stdout) as { code: number; msg: string; details?: string }
  return { ...error, details: error.details ?? '', text: `${error.msg} ${error.details ?? ''}` }
}

const interfacesIn = async (netns: string) =>
  (await rig.node(NODE).must(['ip', '-n', netns, '-o', 'link'])).trim().split('\n').length

test('malformed configuration (CNI-040): what, where, what was expected', async () => {
  for (const text of ['{', '', 'null', '[]', '{"cniVersion":"1.0.0","name":"twill","type":"twill"', '\u0000'])
    assert.is((await refused('ADD', call(), text)).code, 6, JSON.stringify(text))
  const unknown = await refused(
    'ADD',
    call(),
    JSON.stringify({ ...JSON.parse(CONFIG), twill: { pool: 'x' } }),
  )
  assert.match(unknown.text, /twill\.pool|"pool"/)
  const mtu = await refused('ADD', call(), JSON.stringify({ ...JSON.parse(CONFIG), mtu: 'big' }))
  assert.match(mtu.text, /mtu.*big/)
})

test('missing and empty variables, an interface name of 16 bytes: code 4 and the variable', async () => {
  assert.match((await refused('ADD', call({ containerId: '' }))).text, /CNI_CONTAINERID/)
  assert.match((await refused('ADD', call({ netns: '' }))).text, /CNI_NETNS/)
  assert.match((await refused('ADD', call({ ifName: '' }))).text, /CNI_IFNAME/)
  const long = await refused('ADD', call({ ifName: 'sixteen-bytes-00' }))
  assert.is(long.code, 4)
  assert.match(long.text, /CNI_IFNAME.*sixteen-bytes-00.*15/)
})

test("a namespace that is not there, is no namespace, or is the host's own", async () => {
  const absent = await refused('ADD', call({ netns: '/run/netns/absent' }))
  assert.match(absent.text, /\/run\/netns\/absent/)
  await rig.node(NODE).script('echo no >/run/netns-file')
  assert.match((await refused('ADD', call({ netns: '/run/netns-file' }))).text, /\/run\/netns-file/)
  const host = await refused('ADD', call({ netns: '/proc/1/ns/net' }))
  assert.is(host.code, 8)
  assert.match(host.text, /host/)
})

test('a path that means another namespace to the caller: by PID namespace', async () => {
  // A process that is PID 1 of its own PID namespace, in a network namespace of its own: /proc/1/ns/net is its own to it.
  const machine = rig.node(NODE)
  const { env, input } = callerOf(call({ netns: '/proc/1/ns/net' }))
  const result = await machine.run(
    ['ip', 'netns', 'exec', 'empty', 'unshare', '--pid', '--fork', '--mount-proc', '/opt/cni/bin/twill'],
    { env: { ...machine.environment, ...env }, input },
  )
  assert.is(result.status, 1, result.stdout)
  const error = JSON.parse(result.stdout)
  assert.match(`${error.msg} ${error.details}`, /\/proc\/1\/ns\/net/)
  assert.is(await interfacesIn('empty'), 1)
})

test('a path that means another namespace to the caller: by mount namespace', async () => {
  const machine = rig.node(NODE)
  await machine.script('ip netns add other')
  before.node = await nodeState(rig, NODE)
  const { env, input } = callerOf(call({ netns: '/run/netns/empty' }))
  const script = 'mount --bind /run/netns/other /run/netns/empty; exec /opt/cni/bin/twill'
  const result = await machine.run(['unshare', '--mount', '--propagation', 'private', 'sh', '-euc', script], {
    env: { ...machine.environment, ...env },
    input,
  })
  assert.is(result.status, 1, result.stdout)
  const error = JSON.parse(result.stdout)
  assert.match(`${error.msg} ${error.details}`, /\/run\/netns\/empty/)
  for (const netns of ['empty', 'other']) assert.is(await interfacesIn(netns), 1, netns)
})

test("a namespace of the same name in place of the pod's: the new one is left alone, DEL succeeds", async () => {
  const machine = rig.node(NODE)
  await machine.script('ip netns add fleeting')
  const pod = call({ netns: '/run/netns/fleeting' })
  assert.is((await execPlugin(machine, 'ADD', 'twill', pod, CONFIG)).status, 0)
  await machine.script('ip netns del fleeting; ip netns add fleeting')
  const check = await execPlugin(machine, 'CHECK', 'twill', pod, CONFIG)
  assert.is(check.status, 1)
  await new Promise(resolve => setTimeout(resolve, 2_000))
  assert.is(await interfacesIn('fleeting'), 1, 'only lo')
  assert.is((await execPlugin(machine, 'DEL', 'twill', pod, CONFIG)).status, 0)
  await machine.script('ip netns del fleeting')
})

test('1 MiB of junk on both sockets, connections that say nothing, a frame that never ends', async () => {
  const machine = rig.node(NODE)
  writeFileSync(machine.path('/run/junk'), randomBytes(1 << 20))
  const junk = 'nc -N -U -w 5 /run/twill/$1.sock </run/junk >/dev/null || :'
  for (const socket of ['cni', 'api']) await machine.run(['sh', '-c', junk, 'sh', socket])
  for (const socket of ['cni', 'api'])
    await machine.run(['sh', '-c', 'head -c 9 /run/junk | nc -N -U -w 2 /run/twill/$1.sock', 'sh', socket])
  const silent = await machine.run(
    [
      'sh',
      '-c',
      'for i in $(seq 50); do (sleep 3 | nc -U -w 3 /run/twill/cni.sock) & done; sleep 0.3; CNI_COMMAND=VERSION /opt/cni/bin/twill; wait',
    ],
    { env: machine.environment, input: '{"cniVersion":"1.0.0"}' },
  )
  assert.match(silent.stdout, /supportedVersions/)
  await machine.script('rm /run/junk')
  assert.is((await readStatus(rig, NODE)).ready, true)
})

test('a client killed in mid-ADD: everything is undone', async () => {
  const machine = rig.node(NODE)
  await rig.stopDaemon(NODE)
  await rig.startDaemon(NODE, { env: { TWILL_FAULT: 'add.host-configured=sleep3000' } })
  const { env, input } = callerOf(call())
  const script =
    'cat >/run/conf; /opt/cni/bin/twill </run/conf >/run/answer & sleep 1; kill -9 $!; cat /run/answer; rm /run/conf /run/answer'
  const killed = await machine.run(['sh', '-c', script], { env: { ...machine.environment, ...env }, input })
  assert.is(killed.stdout, '', 'it was killed before its answer')
  await untilState(rig, NODE, before.node, BOUND_MS)
  assert.is(await interfacesIn('empty'), 1)
  await rig.stopDaemon(NODE)
  await rig.startDaemon(NODE)
})

test('the disk is full: ADD is refused naming the journal, nothing is half-done; DEL works', async () => {
  const machine = rig.node(NODE)
  const doomed = call()
  assert.is((await execPlugin(machine, 'ADD', 'twill', doomed, CONFIG)).status, 0)
  await rig.stopDaemon(NODE)
  await machine.script(`
mkdir -p /run/small
mount -t tmpfs -o size=256k,mode=700 tmpfs /run/small
cp -a /var/lib/twill/. /run/small/
mount --bind /run/small /var/lib/twill`)
  await rig.startDaemon(NODE)
  await machine.run(['sh', '-c', 'cat /dev/zero >/var/lib/twill/ballast'])
  // What is left of the journal's last page is used up first.
  let last: Refusal | null = null
  const served: CniCall[] = []
  for (let i = 0; i < 20 && last === null; i++) {
    const each = call({ ifName: `eth${i + 1}` })
    const { status, stdout } = await execPlugin(machine, 'ADD', 'twill', each, CONFIG)
    if (status === 0) served.push(each)
    else last = { text: stdout, ...JSON.parse(stdout) } as Refusal
  }
  assert.ok(last, 'no ADD was refused on a full disk')
  assert.match(last.text, /journal.*(ENOSPC|no space)/i)
  for (const each of [...served, doomed])
    assert.is((await execPlugin(machine, 'DEL', 'twill', each, CONFIG)).status, 0)
  // When DEL returns the interface is down and without address; it goes a moment later.
  await until(
    async () => (await interfacesIn('empty')) === 1,
    BOUND_MS,
    () => 'interfaces stay in the pod',
  )
  await machine.script('rm /var/lib/twill/ballast')
  await rig.stopDaemon(NODE)
  await machine.script(`
umount /var/lib/twill
rm -rf /var/lib/twill/*
cp -a /run/small/. /var/lib/twill/
umount /run/small`)
  await rig.startDaemon(NODE)
  // What was attached when `before` was taken is detached now: nothing else may differ.
  await execPlugin(machine, 'DEL', 'twill', doomed, CONFIG)
})

test('the daemon is away and the spool cannot be written: DEL says so (11) and is repeated later', async () => {
  const machine = rig.node(NODE)
  const pod = call()
  assert.is((await execPlugin(machine, 'ADD', 'twill', pod, CONFIG)).status, 0)
  await rig.stopDaemon(NODE)
  await machine.script(`
mkdir -p /run/none
mount -t tmpfs -o ro tmpfs /run/none
mount --bind /run/none /var/lib/twill/spool`)
  const error = await refused('DEL', pod)
  assert.is(error.code, 11)
  assert.match(error.text, /spool/)
  assert.is(await interfacesIn('empty'), 1, 'its interface is gone all the same')
  await machine.script('umount /var/lib/twill/spool; umount /run/none; rmdir /run/none')
  assert.is((await execPlugin(machine, 'DEL', 'twill', pod, CONFIG)).status, 0, 'spooled')
  await rig.startDaemon(NODE)
})

function callerOf(each: CniCall) {
  return {
    input: CONFIG,
    env: {
      CNI_COMMAND: 'ADD',
      CNI_CONTAINERID: each.containerId,
      CNI_NETNS: each.netns,
      CNI_IFNAME: each.ifName,
      CNI_ARGS: '',
      CNI_PATH: '/opt/cni/bin',
    },
  }
}

test.run()
