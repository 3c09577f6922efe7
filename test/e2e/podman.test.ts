/**
 * podman with its CNI backend: what it does to containers' networks in the course of their lives, each against what
 * podman says, what is in the container, and what the daemon has on record; afterwards nothing is left.
 */
import { writeFileSync } from 'node:fs'
import { suite } from 'uvu'
import * as assert from 'uvu/assert'
import type { PodStatus } from '../../daemon/api/types.ts'
import { Cluster } from '../../hack/rig/cluster.ts'
import { UNDERLAY } from '../../hack/rig/layout.ts'
import { until } from '../../hack/rig/processes.ts'
import { IMAGE } from '../fixtures/cri/image.ts'
import { readStatus, settledState, untilState } from '../fixtures/node-state.ts'
import { Podman, type PodmanNetwork } from '../fixtures/podman.ts'

const rig = new Cluster(`podman-${process.pid}`)
const test = suite('podman')
const NODE = 'node1'
const podman = new Podman({ machine: () => rig.node(NODE) })
const MAC = '02:00:5e:00:53:21'
let clean = ''

const SECOND = {
  cniVersion: '1.0.0',
  name: 'second',
  plugins: [
    { type: 'twill', capabilities: { ips: true } },
    { type: 'portmap', capabilities: { portMappings: true } },
  ],
}
const LAN = {
  cniVersion: '1.0.0',
  name: 'lan',
  plugins: [
    {
      type: 'bridge',
      bridge: 'cni-lan',
      isGateway: true,
      isDefaultGateway: true,
      ipMasq: true,
      ipam: { type: 'twill-ipam', pools: ['lan'] },
    },
  ],
}
const POOL = `
apiVersion: twill.network/v1alpha1
kind: IPPool
metadata: { name: lan }
spec: { cidr: 10.50.0.0/24, allowedUses: [ipam] }
`

test.before(async () => {
  await rig.up({ nodes: 1, config: { coolDown: '1s' } })
  const node = rig.node(NODE)
  await node.must(['sh', '-c', 'cat >/run/pool.yaml; twillctl apply -f /run/pool.yaml'], { input: POOL })
  for (const list of [SECOND, LAN])
    writeFileSync(node.path(`/etc/cni/net.d/20-${list.name}.conflist`), JSON.stringify(list))
  await podman.install()
  clean = await settledState(rig, NODE)
})
test.after(async () => {
  await rig.down()
})
test.after.each(async () => {
  await podman.run('rm', '--all', '--force', '--time', '0')
})

const nothingIsLeft = async () => {
  await untilState(rig, NODE, clean, 30_000)
  await until(
    async () => (await readStatus(rig, NODE)).leases.length === 0,
    30_000,
    () => 'a lease is left',
  )
}

/** Without those whose links await their deletion. */
const podsOf = async (network: string): Promise<PodStatus[]> =>
  (await readStatus(rig, NODE)).pods.filter(pod => pod.network === network && pod.state !== 'detaching')

/** podman, the container and the daemon agree about this one attachment. */
async function agree(name: string, network: string, ifName: string): Promise<PodmanNetwork> {
  const said = (await podman.networks(name))[network] as PodmanNetwork
  const [pod, ...others] = await podsOf(network)
  assert.equal(others, [])
  assert.equal(pod?.addresses, [said.IPAddress, said.GlobalIPv6Address])
  assert.equal([pod?.mac, pod?.ifName, pod?.state], [said.MacAddress, ifName, 'attached'])
  const there = await podman.must('exec', name, 'ip', 'addr', 'show', ifName)
  for (const text of [`${said.IPAddress}/32`, `${said.GlobalIPv6Address}/128`, said.MacAddress])
    assert.ok(there.includes(text), `${text} is not in ${there}`)
  return said
}

async function reachesOutside(name: string): Promise<void> {
  for (const address of [UNDERLAY.outside.v4, UNDERLAY.outside.v6])
    await podman.must('exec', name, 'ping', '-c', '1', '-W', '5', address)
}

test('CNI-183: podman takes our networks for networks', async () => {
  const names = (await podman.must('network', 'ls', '--format', '{{.Name}}')).trim().split('\n')
  assert.equal(names.sort(), ['lan', 'second', 'twill'])
})

test('CNI-032 CNI-224 run, stop and start again under the same container id, restart, remove', async () => {
  await podman.start('one', '--network', 'twill')
  const first = await agree('one', 'twill', 'eth0')
  await reachesOutside('one')
  const [before] = await podsOf('twill')
  await podman.must('stop', '--time', '0', 'one')
  await nothingIsLeft()
  await podman.must('start', 'one')
  await agree('one', 'twill', 'eth0')
  await podman.must('restart', '--time', '0', 'one')
  const last = await agree('one', 'twill', 'eth0')
  await reachesOutside('one')
  const [after] = await podsOf('twill')
  assert.is(after?.containerId, before?.containerId)
  assert.is.not(last.IPAddress, first.IPAddress, 'an address that cools is not given out')
  await podman.must('rm', '--force', '--time', '0', 'one')
  await nothingIsLeft()
})

test('CNI-191 two networks, and a container between others on each', async () => {
  await podman.start(
    'both',
    '--network',
    'twill:interface_name=eth0',
    '--network',
    'second:interface_name=net7',
  )
  await podman.start('peer', '--network', 'second')
  const there = await podman.networks('both')
  assert.equal(Object.keys(there).sort(), ['second', 'twill'])
  assert.equal([(await podsOf('twill')).length, (await podsOf('second')).length], [1, 2])
  await podman.must('exec', 'both', 'ip', 'link', 'show', 'net7')
  const peer = (await podman.networks('peer')).second as PodmanNetwork
  await podman.must('exec', 'both', 'ping', '-c', '1', '-W', '5', peer.IPAddress)
  await podman.must('rm', '--all', '--force', '--time', '0')
  await nothingIsLeft()
})

test('connect and disconnect while it runs', async () => {
  await podman.start('one', '--network', 'twill')
  const first = await agree('one', 'twill', 'eth0')
  await podman.must('network', 'connect', 'second', 'one')
  await agree('one', 'second', 'eth1')
  assert.equal(await agree('one', 'twill', 'eth0'), first)
  await podman.must('network', 'disconnect', 'second', 'one')
  assert.equal(await podsOf('second'), [])
  const { stderr } = await podman.run('exec', 'one', 'ip', 'link', 'show', 'eth1')
  assert.match(stderr, /can't find device/)
  await reachesOutside('one')
  await podman.must('rm', '--force', '--time', '0', 'one')
  await nothingIsLeft()
})

test('CNI-207 CNI-224 a MAC that was asked for', async () => {
  await podman.start('one', '--network', 'twill', '--mac-address', MAC)
  assert.is((await agree('one', 'twill', 'eth0')).MacAddress, MAC)
  await podman.must('rm', '--force', '--time', '0', 'one')
  await nothingIsLeft()
})

test('CNI-207 CNI-224 CNI-247 two networks with addresses that were asked for, and a MAC: again after a restart', async () => {
  const ours = ['ip=10.244.200.7', 'ip6=fd00:10:244::c807', `mac=${MAC}`, 'interface_name=eth0']
  await podman.start(
    'one',
    ...['--network', `twill:${ours.join(',')}`],
    ...['--network', 'second:ip=10.244.201.9,interface_name=net7'],
  )
  const check = async () => {
    const { IPAddress, GlobalIPv6Address, MacAddress } = await agree('one', 'twill', 'eth0')
    assert.equal([IPAddress, GlobalIPv6Address, MacAddress], ['10.244.200.7', 'fd00:10:244::c807', MAC])
    assert.is((await agree('one', 'second', 'net7')).IPAddress, '10.244.201.9')
    await reachesOutside('one')
  }
  await check()
  await podman.must('restart', '--time', '0', 'one')
  await check()
  const taken = ['--network', 'second:ip=10.244.200.7', IMAGE, '/bin/true']
  const { status, stderr } = await podman.run('run', '--name', 'other', ...taken)
  assert.is.not(status, 0)
  assert.match(stderr, /10\.244\.200\.7/)
  await podman.must('rm', '--all', '--force', '--time', '0')
  await nothingIsLeft()
})

test('CNI-224 CNI-247 network reload: the same addresses again, at once', async () => {
  await podman.start('one', '--network', 'twill')
  const first = await agree('one', 'twill', 'eth0')
  await podman.must('network', 'reload', 'one')
  assert.equal(await agree('one', 'twill', 'eth0'), first)
  await reachesOutside('one')
  await podman.must('rm', '--force', '--time', '0', 'one')
  await nothingIsLeft()
})

test('CNI-240 a bridge of podman`s with addresses from twill-ipam', async () => {
  await podman.start('one', '--network', 'lan')
  const { IPAddress } = (await podman.networks('one')).lan as PodmanNetwork
  assert.match(IPAddress, /^10\.50\.0\./)
  const { leases } = await readStatus(rig, NODE)
  assert.equal(
    leases.map(({ network, addresses }) => [network, addresses]),
    [['lan', [IPAddress]]],
  )
  await podman.must('exec', 'one', 'ping', '-c', '1', '-W', '5', UNDERLAY.outside.v4)
  await podman.must('restart', '--time', '0', 'one')
  await podman.must('exec', 'one', 'ping', '-c', '1', '-W', '5', '10.50.0.1')
  await podman.must('rm', '--force', '--time', '0', 'one')
  await nothingIsLeft()
})

test.run()
