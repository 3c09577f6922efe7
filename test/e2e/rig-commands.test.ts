/** hack/cluster as an operator calls it: words, exit statuses, pods through the node's own CNI configuration. */
import { spawnSync } from 'node:child_process'
import { writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { suite } from 'uvu'
import * as assert from 'uvu/assert'
import { Cluster } from '../../hack/rig/cluster.ts'
import { CniError } from '../../hack/rig/cni-client.ts'
import { ROOT } from '../../hack/rig/layout.ts'

const rig = new Cluster(`twf-${process.pid}`)
const test = suite('hack/cluster')

function cluster(words: string[], input = '') {
  const env = { ...process.env, TWILL_CLUSTER: rig.name }
  return spawnSync(join(ROOT, 'hack/cluster'), words, { env, encoding: 'utf8', input })
}

/** Reference plugins, so that this test knows nothing of twilld. */
const BRIDGE = {
  cniVersion: '1.0.0',
  name: 'reference',
  plugins: [
    {
      type: 'bridge',
      bridge: 'cni0',
      isGateway: true,
      ipam: { type: 'host-local', ranges: [[{ subnet: '172.30.0.0/24' }]], routes: [{ dst: '0.0.0.0/0' }] },
    },
    { type: 'portmap', capabilities: { portMappings: true } },
  ],
}

const writeList = (list: object) =>
  writeFileSync(rig.node('node1').path('/etc/cni/net.d/20-reference.conflist'), JSON.stringify(list))

test.before(() => {
  const { status, stderr } = cluster([
    'up',
    '--nodes',
    '1',
    '--mode',
    'vxlan',
    '--store',
    'etcd',
    '--machines-only',
  ])
  assert.is(status, 0, stderr)
})
test.after(async () => {
  await rig.down()
})

test('--help and help: the usage on standard output, status 0', () => {
  for (const words of [['--help'], ['help'], ['up', '-h']]) {
    const { status, stdout, stderr } = cluster(words)
    assert.equal([status, stderr], [0, ''], words.join(' '))
    assert.match(stdout, /^usage: hack\/cluster/)
  }
})

test('words and options that do not exist: status 2, and what would have been right', () => {
  const wrong = [
    [],
    ['upp'],
    ['up', '--nodes', '0'],
    ['up', '--mode', 'bgp'],
    ['up', '--store', 'sqlite'],
    ['pod', 'add', 'node1'],
    ['exec', 'node1'],
    ['up', '--frob'],
    ['pod', 'add', 'node1', 'x', '--label', 'noequals'],
  ]
  for (const words of wrong) {
    const { status, stderr } = cluster(words)
    assert.is(status, 2, words.join(' '))
    assert.match(stderr, /usage: hack\/cluster/)
  }
})

test('a node or pod that does not exist: status 1, named', () => {
  for (const words of [
    ['exec', 'nopod', '--', 'true'],
    ['daemon', 'stop', 'node9'],
    ['pod', 'del', 'nopod'],
  ]) {
    const { status, stderr } = cluster(words)
    assert.is(status, 1, words.join(' '))
    assert.match(stderr, /no such (node|pod): (nopod|node9)/)
  }
})

test('a cluster name that is no folder name is refused', () => {
  const env = { ...process.env, TWILL_CLUSTER: '../x' }
  const { status, stderr } = spawnSync(join(ROOT, 'hack/cluster'), ['down'], { env, encoding: 'utf8' })
  assert.is(status, 1)
  assert.match(stderr, /TWILL_CLUSTER/)
})

test('up again changes nothing', () => {
  const before = rig.node('node1').pid
  assert.is(cluster(['up', '--nodes', '1', '--machines-only']).status, 0)
  assert.is(rig.node('node1').pid, before)
})

test('exec passes input, output and status through, and arguments unchanged', () => {
  const { status, stdout, stderr } = cluster(
    ['exec', 'node1', '--', 'sh', '-c', 'cat; echo "$1" >&2; exit 9', 'sh', 'a  b --nodes'],
    'in',
  )
  assert.is(status, 9)
  assert.is(stdout, 'in')
  assert.is(stderr, 'a  b --nodes\n')
})

test('without a network configuration a pod is refused, and nothing of it stays', () => {
  const { status, stderr } = cluster(['pod', 'add', 'node1', 'early'])
  assert.is(status, 1)
  assert.match(stderr, /no network configuration/)
  assert.is(cluster(['exec', 'node1', '--', 'ls', '/run/netns']).stdout, '')
})

test('pod add runs the list of plugins and prints addresses; exec runs inside; del undoes it', async () => {
  writeList(BRIDGE)
  const { status, stdout, stderr } = cluster([
    'pod',
    'add',
    'node1',
    'a',
    '--namespace',
    'shop',
    '--label',
    'app=web',
  ])
  assert.is(status, 0, stderr)
  assert.match(stdout, /^172\.30\.0\.\d+\n$/)
  const other = await rig.addPod('node1', 'b')
  assert.is(cluster(['exec', 'a', '--', 'ping', '-c', '1', '-W', '2', other.addresses[0]!]).status, 0)
  assert.match(cluster(['status']).stdout, /a\s+│ shop\s+│ node1\s+│ 172\.30/)
  assert.is(cluster(['pod', 'del', 'a']).status, 0)
  await rig.deletePod('b')
  assert.equal(rig.pods(), [])
  assert.is(
    cluster(['exec', 'node1', '--', 'sh', '-c', 'ls /run/netns; ip -o link | grep -c veth']).stdout,
    '0\n',
  )
})

test('a pod name that is taken, and one that is no DNS label, are refused', async () => {
  await rig.addPod('node1', 'a')
  assert.match(cluster(['pod', 'add', 'node1', 'a']).stderr, /pod a exists/)
  assert.match(cluster(['pod', 'add', 'node1', '../a']).stderr, /not a DNS label/)
  await rig.deletePod('a')
})

test('a plugin that refuses: its code and message, DEL called, namespace gone', async () => {
  writeList({ ...BRIDGE, plugins: [...BRIDGE.plugins, { type: 'tuning', sysctl: { 'net.no.such': '1' } }] })
  try {
    await rig.addPod('node1', 'refused')
    assert.unreachable('ADD succeeded')
  } catch (error) {
    assert.instance(error, CniError)
    assert.match((error as CniError).message, /^tuning: /)
  }
  assert.equal(rig.pods(), [])
  const { stdout } = await rig.exec('node1', [
    'sh',
    '-c',
    'ls /run/netns; ls /var/lib/cni/networks/reference | grep ^172 | wc -l',
  ])
  assert.is(stdout, '0\n')
})

test('what a runtime puts into environment and configuration reaches the plugin', async () => {
  const recorder =
    '#!/bin/sh\ncat >>/run/stdin; env | grep ^CNI_ >>/run/env\necho \'{"cniVersion":"1.0.0","ips":[{"address":"10.9.8.7/32"}]}\'\n'
  writeFileSync(rig.node('node1').path('/opt/cni/bin/recorder'), recorder, { mode: 0o755 })
  writeList({ cniVersion: '1.0.0', name: 'rec', plugins: [{ type: 'recorder', mtu: 9 }] })
  const pod = await rig.addPod('node1', 'rec', { namespace: 'shop', labels: { app: 'web' } })
  assert.equal(pod.addresses, ['10.9.8.7'])
  const { stdout: env } = await rig.exec('node1', ['cat', '/run/env'])
  for (const line of [
    'CNI_COMMAND=ADD',
    `CNI_CONTAINERID=${pod.containerId}`,
    'CNI_NETNS=/run/netns/rec',
    'CNI_IFNAME=eth0',
    'CNI_PATH=/opt/cni/bin',
  ])
    assert.ok(env.split('\n').includes(line), line)
  assert.match(
    env,
    `CNI_ARGS=IgnoreUnknown=1;K8S_POD_NAMESPACE=shop;K8S_POD_NAME=rec;K8S_POD_INFRA_CONTAINER_ID=${pod.containerId};K8S_POD_UID=${pod.uid}`,
  )
  const { stdout: config } = await rig.exec('node1', ['cat', '/run/stdin'])
  assert.equal(JSON.parse(config), {
    type: 'recorder',
    mtu: 9,
    cniVersion: '1.0.0',
    name: 'rec',
    args: { cni: { labels: [{ key: 'app', value: 'web' }] } },
  })
  await rig.deletePod('rec')
})

test('store stop and start', () => {
  assert.is(cluster(['store', 'stop']).status, 0)
  assert.match(cluster(['status']).stdout, /etcd stopped/)
  assert.is(cluster(['store', 'start']).status, 0)
  assert.match(cluster(['status']).stdout, /etcd running/)
})

test('down says what it removed; a second one, that there is nothing', () => {
  const first = cluster(['down'])
  assert.is(first.status, 0)
  assert.match(first.stdout, /removed node1: /)
  assert.match(first.stdout, /removed folder /)
  assert.match(cluster(['down']).stdout, /nothing to remove/)
  assert.is(cluster(['leftovers']).stdout, '')
  assert.match(cluster(['status']).stdout, /there is no rig/)
})

test.run()
