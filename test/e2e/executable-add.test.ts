/** What ADD answers, compared in full with what is then in the container's namespace, at every version. */
import { suite } from 'uvu'
import * as assert from 'uvu/assert'
import { attachmentId } from '../../cni-bin/attachment-id.ts'
import { Cluster } from '../../hack/rig/cluster.ts'
import { Container } from '../fixtures/cni/caller.ts'
import { VERSIONS } from '../fixtures/cni/case.ts'
import { found, resultOf } from '../fixtures/cni/found.ts'
import { nodeTarget } from '../fixtures/cni/node-target.ts'
import { readStatus, settledState, untilState } from '../fixtures/node-state.ts'

const rig = new Cluster(`tws-add-${process.pid}`)
const test = suite('ADD against twilld')
const NODE = 'node1'
const machine = () => rig.node(NODE)
const target = nodeTarget(machine, 'twill')

let clean = ''
let far = ''
let far6 = ''

test.before(async () => {
  await rig.up({ nodes: 2, config: { coolDown: '1s' } })
  const [four, six] = (await rig.addPod('node2', 'far')).addresses as [string, string]
  far = four
  far6 = six
  clean = await settledState(rig, NODE)
})
test.after(async () => {
  await rig.down()
})

/** Registers a test with a container of its own, after which the node is as it was. */
function withContainer(name: string, run: (container: Container) => Promise<void>): void {
  test(name, async () => {
    const container = new Container({ name: 'pod' }, { machine: machine(), target })
    await container.make()
    try {
      await run(container)
      await container.quietly('DEL')
    } catch (error) {
      // Or each test after it would fail for what this one left.
      await container.call('DEL')
      throw error
    } finally {
      await container.remove()
    }
    await untilState(rig, NODE, clean, 30_000)
  })
}

async function talks(container: Container, device?: string): Promise<void> {
  for (const address of [far, far6])
    await container.inside(['ping', '-c1', '-W5', ...(device ? ['-I', device] : []), address])
}

for (const cniVersion of VERSIONS)
  withContainer(
    `CNI-071 CNI-072 CNI-073 CNI-075 CNI-076 CNI-078 CNI-114 the answer at ${cniVersion} is what is there`,
    async container => {
      const result = await container.add({ config: { cniVersion } })
      // At once: what ADD has answered is usable (CNI-119), no detection of duplicates is under way (CNI-082).
      await talks(container)
      const real = await found(machine(), container.name, 'eth0')
      assert.equal(result, resultOf(real, { cniVersion, sandbox: container.netns }))
      assert.is(real.addresses.length, 2)
      assert.equal(real.tentative, [])
      assert.ok(real.link.flags.includes('UP') && real.host.flags.includes('UP'), 'both ends are up')
    },
  )

withContainer('CNI-082 IPv6 works though a sysctl of the namespace disabled it', async container => {
  await container.inside(['sysctl', '-qw', 'net.ipv6.conf.all.disable_ipv6=1'])
  await container.inside(['sysctl', '-qw', 'net.ipv6.conf.default.disable_ipv6=1'])
  await container.add()
  await talks(container)
})

withContainer(
  'CNI-074 CNI-118 CNI-205 dns of the configuration, unless the runtime asks for another',
  async container => {
    const dns = { nameservers: ['10.96.0.10'], domain: 'd', search: ['s.local'], options: ['ndots:5'] }
    assert.equal((await container.add({ config: { dns } })).dns, dns)
    await container.quietly('DEL')
    const asked = { servers: ['10.96.0.11'], searches: null, options: ['ndots:1'] }
    const again = await container.add({ config: { dns, runtimeConfig: { dns: asked } } })
    assert.equal(again.dns, { nameservers: ['10.96.0.11'], options: ['ndots:1'] })
  },
)

withContainer('CNI-050 CNI-071 the MTU asked for, at both ends', async container => {
  const result = await container.add({ config: { mtu: 1400 } })
  const real = await found(machine(), container.name, 'eth0')
  assert.equal([real.link.mtu, real.host.mtu], [1400, 1400])
  assert.equal(
    result.interfaces?.map(({ mtu }) => mtu),
    [1400, 1400],
  )
})

withContainer('CNI-071 an MTU that the paths cannot carry is lowered to what they can', async container => {
  await container.add({ config: { mtu: 9000 } })
  assert.is((await found(machine(), container.name, 'eth0')).link.mtu, 1450)
})

withContainer('CNI-207 the MAC that runtimeConfig asks for', async container => {
  const mac = '02:00:5e:00:53:01'
  const result = await container.add({
    config: { runtimeConfig: { mac } },
    env: { CNI_ARGS: 'IgnoreUnknown=1;MAC=02:00:5e:00:53:02' },
  })
  assert.is((await found(machine(), container.name, 'eth0')).link.address, mac)
  assert.is(result.interfaces?.[1]?.mac, mac)
  await talks(container)
})

withContainer('CNI-224 the MAC that CNI_ARGS asks for, as podman does', async container => {
  const mac = '02:00:5e:00:53:02'
  await container.add({ env: { CNI_ARGS: `IgnoreUnknown=1;K8S_POD_NAME=web;MAC=${mac}` } })
  assert.is((await found(machine(), container.name, 'eth0')).link.address, mac)
  await talks(container)
})

withContainer(
  'CNI-206 CNI-226 CNI-247 an address that cannot be had is refused, and nothing is left of the try',
  async container => {
    for (const changes of [
      { config: { runtimeConfig: { ips: ['10.99.77.7/32'] } } },
      { env: { CNI_ARGS: 'IP=10.99.77.7' } },
      { config: { args: { cni: { ips: ['10.99.77.7'] } }, runtimeConfig: { ips: [`${far6}/128`] } } },
    ]) {
      const refusal = await container.refused('ADD', changes)
      assert.is(refusal.code, 7)
      assert.match(refusal.msg, /10\.99\.77\.7 cannot be given: it is in no pool/)
    }
    await untilState(rig, NODE, withNetns(), 30_000)
  },
)

const withNetns = (): string => `${clean}\nnetns pod`.split('\n').sort().join('\n')

withContainer(
  'CNI-223 CNI-225 names from CNI_ARGS in any order reach the daemon; without them ADD works',
  async container => {
    const pairs = [
      'IgnoreUnknown=1',
      'K8S_POD_UID=u-1',
      'K8S_POD_NAME=web',
      'K8S_POD_NAMESPACE=shop',
      'X=y',
      '',
    ]
    await container.add({ env: { CNI_ARGS: pairs.reverse().join(';') } })
    const known = (await readStatus(rig, NODE)).pods.find(each => each.containerId === container.id)
    assert.match(JSON.stringify(known), /shop/)
    await container.quietly('DEL')
    await container.add()
  },
)

withContainer('CNI-031 CNI-032 the interface has the very name asked for', async container => {
  const result = await container.add({ env: { CNI_IFNAME: 'net7' } })
  assert.is(result.interfaces?.[1]?.name, 'net7')
  await talks(container, 'net7')
  await container.quietly('DEL', { env: { CNI_IFNAME: 'net7' } })
})

withContainer('CNI-102 CNI-111 an interface of that name is refused and not damaged', async container => {
  await container.inside(['ip', 'link', 'add', 'eth0', 'type', 'bridge'])
  await container.inside(['ip', 'address', 'add', '192.0.2.7/24', 'dev', 'eth0'])
  const before = await container.inside(['ip', '-d', 'address'])
  const refusal = await container.refused('ADD')
  assert.is(refusal.code, 101)
  assert.match(refusal.msg, /eth0/)
  assert.is(await container.inside(['ip', '-d', 'address']), before)
  await untilState(rig, NODE, withNetns(), 30_000)
  await container.quietly('DEL')
  assert.is(await container.inside(['ip', '-d', 'address']), before, 'nor by the DEL that runtimes send')
})

withContainer(
  'CNI-116 a second ADD is refused; the first keeps its interface and addresses',
  async container => {
    const result = await container.add()
    assert.is((await container.refused('ADD')).code, 101)
    await talks(container)
    const real = await found(machine(), container.name, 'eth0')
    assert.equal(result, resultOf(real, { cniVersion: '1.1.0', sandbox: container.netns }))
    await container.quietly('CHECK', { config: { prevResult: result } })
  },
)

withContainer('CNI-190 CNI-191 a second interface and a second network in one container', async container => {
  const second = { env: { CNI_IFNAME: 'eth1' } }
  const third = { env: { CNI_IFNAME: 'net0' }, config: { name: 'other' } }
  const results = [await container.add(), await container.add(second), await container.add(third)]
  const addresses = results.flatMap(({ ips }) => ips?.map(({ address }) => address))
  assert.is(new Set(addresses).size, 6)
  await talks(container)
  for (const [i, changes] of [{ config: {} }, second, third].entries()) {
    const config = { ...('config' in changes ? changes.config : {}), prevResult: results[i] }
    await container.quietly('CHECK', { ...changes, config })
  }
  // CNI-130: only what belongs to this interface, or this network.
  await container.quietly('DEL', second)
  await container.quietly('CHECK', { ...third, config: { ...third.config, prevResult: results[2] } })
  await talks(container)
  await container.quietly('DEL', third)
  await talks(container)
})

withContainer('CNI-190 the same interface name on another network is another attachment', async container => {
  await container.add()
  assert.is((await container.refused('ADD', { config: { name: 'other' } })).code, 101)
  await container.quietly('DEL', { config: { name: 'other' } })
  await talks(container)
})

withContainer('CNI-080 CNI-081 default routes of another network are tolerated', async container => {
  for (const command of [
    'ip link add first type bridge',
    'ip link set first up',
    'ip address add 192.0.2.7/24 dev first',
    'ip address add 2001:db8::7/64 dev first nodad',
    'ip route add default via 192.0.2.1',
    'ip -6 route add default via 2001:db8::1',
  ])
    await container.inside(command.split(' '))
  const result = await container.add()
  await container.quietly('CHECK', { config: { prevResult: result } })
  await talks(container, 'eth0')
  assert.match(await container.inside(['ip', 'route']), /default via 192\.0\.2\.1 dev first/)
  assert.match(await container.inside(['ip', '-6', 'route']), /default via 2001:db8::1 dev first/)
})

withContainer('CNI-001 CNI-033 the sandbox comes back as it was named, by whatever path', async container => {
  await machine().script(
    `ip netns exec ${container.name} sleep 300 >/dev/null 2>&1 & echo $! >/run/holder.pid`,
  )
  const pid = (await machine().must(['cat', '/run/holder.pid'])).trim()
  const netns = `/proc/${pid}/ns/net`
  const result = await container.add({ env: { CNI_NETNS: netns } })
  assert.is(result.interfaces?.[1]?.sandbox, netns)
  await talks(container)
  await machine().must(['kill', pid])
  await container.quietly('DEL', { env: { CNI_NETNS: netns } })
})

withContainer('CNI-028 CNI-190 container ids of any length are told apart', async container => {
  const ids = ['c', 'a'.repeat(300), `${'a'.repeat(300)}b`]
  for (const [i, id] of ids.entries())
    await container.add({ env: { CNI_CONTAINERID: id, CNI_IFNAME: `if${i}` } })
  const known = (await readStatus(rig, NODE)).pods
  for (const [i, id] of ids.entries()) {
    assert.ok(known.some(each => each.id === attachmentId('twill', id, `if${i}`)))
    await container.quietly('DEL', { env: { CNI_CONTAINERID: id, CNI_IFNAME: `if${i}` } })
  }
})

for (const form of ['twill', 'twill-offline'])
  test(`CNI-008 ${form} needs no PATH, no HOME and no particular folder`, async () => {
    const set = ['CNI_COMMAND=STATUS', 'CNI_PATH=/opt/cni/bin']
    const stdin = '{"cniVersion":"1.1.0","name":"twill","type":"twill"}'
    const bare = ['/usr/bin/env', '-i', '-C', '/proc/self', ...set, `/opt/cni/bin/${form}`]
    const outcome = await machine().run(bare, { input: stdin })
    assert.equal([outcome.status, outcome.stdout, outcome.stderr], [0, '', ''])
  })

test.run()
