/** The rig without twilld: nodes look like machines, the underlay is unkind, and nothing is left behind. */
import { spawn } from 'node:child_process'
import { existsSync, readdirSync, writeFileSync } from 'node:fs'
import { suite } from 'uvu'
import * as assert from 'uvu/assert'
import { Cluster } from '../../hack/rig/cluster.ts'
import { MARK } from '../../hack/rig/layout.ts'
import { alive, until } from '../../hack/rig/processes.ts'

const rig = new Cluster(`twf-${process.pid}`)
const test = suite('rig machines')

test.before(() => rig.up({ nodes: 2, daemons: false }))
test.after(async () => {
  await rig.down()
})

const sh = async (name: string, script: string): Promise<string> => {
  const result = await rig.exec(name, ['sh', '-c', script])
  return result.stdout.trim()
}

const leaksOf = async (kind: string): Promise<number> =>
  (await rig.leaks()).find(leak => leak.kind === kind)!.packets

const macOf = (node: string) => sh(node, 'cat /sys/class/net/eth0/address')

test('a node has its own name, interfaces, folders and processes', async () => {
  assert.is(await sh('node1', 'hostname'), 'node1')
  assert.is(await sh('node1', 'ls /sys/class/net | sort | xargs'), 'docker0 eth0 lo')
  await sh(
    'node1',
    'touch /run/twill-x /var/lib/twill/x /etc/cni/net.d/x /opt/cni/bin/x /etc/twill/x; ip netns add x',
  )
  for (const path of [
    '/run/twill-x',
    '/var/lib/twill/x',
    '/etc/cni/net.d/x',
    '/opt/cni/bin/x',
    '/etc/twill/x',
    '/run/netns/x',
  ]) {
    assert.is(await sh('node2', `ls ${path} 2>/dev/null | wc -l`), '0', path)
    assert.not.ok(existsSync(path), `${path} on the host`)
  }
  assert.is(await sh('node1', 'ip netns exec x ls /sys/class/net'), 'lo')
  assert.is(await sh('node1', 'ip netns del x; ls /run/netns | wc -l'), '0')
  assert.is(await sh('node1', 'cat /proc/1/cmdline | tr "\\0" " " | cut -d" " -f1'), 'sh')
})

test('the reference plugins are where runtimes look for them', async () => {
  assert.match(await sh('node1', 'CNI_COMMAND=VERSION /opt/cni/bin/bridge </dev/null'), /supportedVersions/)
})

test('exec passes input, output and exit status through', async () => {
  const result = await rig.exec('node1', ['sh', '-c', 'cat; echo err >&2; exit 7'], { input: 'in' })
  assert.equal(result, { status: 7, stdout: 'in', stderr: 'err\n' })
})

test('nodes reach each other, the outside by their default route, and etcd', async () => {
  for (const address of ['192.168.77.12', 'fd77::12', '198.51.100.1', '2001:db8:51::1']) {
    const { status } = await rig.exec('node1', ['ping', '-c', '1', '-W', '2', address])
    assert.is(status, 0, address)
  }
  const put = await rig.exec('node2', ['etcdctl', '--endpoints', 'http://192.168.77.1:2379', 'put', 'a', 'b'])
  assert.is(put.status, 0, put.stderr)
})

const pods = [
  { kind: 'ip', own: '10.244.1.1/32', far: '10.244.2.2', via: '192.168.77.12', reach: '192.168.77.12' },
  { kind: 'ip6', own: 'fd00:10:244::11/128', far: 'fd00:10:244::22', via: 'fd77::12', reach: 'fd77::12' },
]

for (const { kind, own, far, via, reach } of pods) {
  test(`the underlay drops and counts ${kind} packets with a pod's source, and with a pod's destination`, async () => {
    const address = own.replace(/\/.*/, '')
    const sources = await leaksOf(`${kind}-source`)
    await sh('node1', `ip addr add ${own} dev lo`)
    assert.is((await rig.exec('node1', ['ping', '-c', '1', '-W', '1', '-I', address, reach])).status, 1)
    assert.ok((await leaksOf(`${kind}-source`)) > sources)
    const destinations = await leaksOf(`${kind}-destination`)
    await sh('node1', `ip route add ${far} via ${via}; ip -6 route add ${far} via ${via}`)
    assert.is((await rig.exec('node1', ['ping', '-c', '1', '-W', '1', far])).status, 1)
    assert.ok((await leaksOf(`${kind}-destination`)) > destinations)
    // Not the filter but the address decides: the same question from the node's own address is answered.
    assert.is((await rig.exec('node1', ['ping', '-c', '1', '-W', '2', reach])).status, 0)
    await sh('node1', `ip addr del ${own} dev lo; ip route del ${far}; ip -6 route del ${far}`)
  })
}

test('rp_filter is 1 on every node, and each has another interface with global addresses', async () => {
  for (const node of rig.nodes) {
    assert.is(
      await sh(
        node,
        'cd /proc/sys/net/ipv4/conf; cat all/rp_filter eth0/rp_filter docker0/rp_filter | sort -u',
      ),
      '1',
    )
    assert.match(await sh(node, 'ip -4 -o addr show docker0 scope global'), /172\.17\.0\.1/)
    assert.match(await sh(node, 'ip -6 -o addr show docker0 scope global'), /fd17::1/)
    const index = async (device: string) => Number(await sh(node, `cat /sys/class/net/${device}/ifindex`))
    assert.ok((await index('docker0')) < (await index('eth0')), 'docker0 comes first by index')
  }
})

test('node2 drops what its firewall does not foresee, node1 does not', async () => {
  const connect = (address: string) => rig.exec('underlay', ['nc', '-z', '-w', '1', '-v', address, '4789'])
  assert.match((await connect('192.168.77.11')).stderr, /refused/)
  assert.match((await connect('192.168.77.12')).stderr, /timed out/)
  assert.match((await connect('fd77::12')).stderr, /timed out/)
  for (const program of ['iptables', 'ip6tables'])
    assert.match(await sh('node2', `${program} -S FORWARD`), /^-P FORWARD DROP/)
})

test('etcd keeps its data over a stop', async () => {
  await rig.etcdctl(['put', 'kept', 'yes'])
  assert.is(await rig.stopStore(), true)
  assert.is(await rig.stopStore(), false)
  assert.is.not((await rig.etcdctl(['--command-timeout', '500ms', 'get', 'kept'])).status, 0)
  await rig.startStore()
  assert.is((await rig.etcdctl(['get', 'kept', '--print-value-only'])).stdout.trim(), 'yes')
})

test('a node that stops loses processes, interfaces and /run, and comes back the same machine', async () => {
  const mac = await macOf('node1')
  await sh('node1', 'echo kept >/var/lib/twill/kept; touch /run/lost; ip link add twf0 type bridge')
  await rig.exec('node1', ['sh', '-c', 'setsid sleep 1000 >/dev/null 2>&1 &'])
  const sleeper = Number(await sh('node1', 'pgrep -x -f "sleep 1000"'))
  assert.ok(sleeper > 1)
  await rig.stopNode('node1')
  assert.is((await rig.exec('node2', ['ping', '-c', '1', '-W', '1', '192.168.77.11'])).status, 1)
  await rig.startNode('node1', { daemon: false })
  assert.is(await macOf('node1'), mac)
  assert.is(await sh('node1', 'cat /var/lib/twill/kept'), 'kept')
  assert.is(await sh('node1', 'ls /run/lost /sys/class/net/twf0 2>/dev/null; pgrep -x -f "sleep 1000"'), '')
  assert.is((await rig.exec('node2', ['ping', '-c', '1', '-W', '2', '192.168.77.11'])).status, 0)
})

test('a replaced node has the same name and address, another MAC and an empty disk', async () => {
  const mac = await macOf('node1')
  await sh('node1', 'touch /var/lib/twill/old')
  await rig.replaceNode('node1', { daemon: false })
  assert.is.not(await macOf('node1'), mac)
  assert.is(await sh('node1', 'hostname; ls /var/lib/twill'), 'node1')
  assert.is((await rig.exec('node2', ['ping', '-c', '1', '-W', '2', '192.168.77.11'])).status, 0)
})

test('another rig is not touched by this one', async () => {
  const other = new Cluster(`twf-${process.pid}-b`)
  try {
    await other.up({ nodes: 1, daemons: false })
    assert.ok((await other.down()).length > 0)
  } finally {
    await other.down()
  }
  assert.equal(other.leftovers(), [])
  assert.is((await rig.exec('node1', ['ping', '-c', '1', '-W', '2', '192.168.77.12'])).status, 0)
})

test('up after a lost holder repairs, and leaves what runs', async () => {
  const before = rig.node('node2').pid
  process.kill(rig.node('node1').pid, 'SIGKILL')
  await until(
    () => !rig.node('node1').running,
    5000,
    () => 'node1 still runs',
  )
  await rig.up({ nodes: 2, daemons: false })
  assert.is(rig.node('node2').pid, before)
  assert.is((await rig.exec('node1', ['ping', '-c', '1', '-W', '2', '192.168.77.12'])).status, 0)
})

test('down finds what no record names: a marked stray, a rig whose records are lost', async () => {
  const broken = new Cluster(`twf-${process.pid}-c`)
  await broken.up({ nodes: 1, daemons: false })
  const holder = broken.node('node1').pid
  const stray = spawn('sleep', ['1000'], { env: { PATH: process.env.PATH, [MARK]: broken.name } })
  for (const file of readdirSync(broken.folder))
    if (file.endsWith('.json')) writeFileSync(`${broken.folder}/${file}`, '{"nodes":{},"config":{}}')
  const found = broken.leftovers()
  assert.ok(
    found.some(line => line.startsWith(`process ${stray.pid} `)),
    found.join('\n'),
  )
  const removed = await broken.down()
  assert.ok(
    removed.some(line => line.startsWith(`process ${stray.pid} `)),
    removed.join('\n'),
  )
  assert.not.ok(alive(holder))
  assert.not.ok(existsSync(broken.folder))
  assert.equal(broken.leftovers(), [])
  assert.equal(await broken.down(), [])
})

test.run()
