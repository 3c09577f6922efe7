/** What only a real kernel can show: packets, notifications, damage by others, many pods at once. Needs root. */
import { mkdirSync, writeFileSync } from 'node:fs'
import { suite } from 'uvu'
import * as assert from 'uvu/assert'
import type { KernelEvent } from '../../kernel/kernel.ts'
import { REAP_GROUP, ROUTE_PROTOCOL } from '../../kernel/ownership.ts'
import { isTwillError } from '../../lib/errors.ts'
import { enterOwnNamespaces, podSpec, realWorld, sh, type World } from './kernel-world.ts'

enterOwnNamespaces()

const test = suite('the real kernel, alone')
let world: World

test.before(async () => {
  world = await realWorld()
})
test.after(() => world.kernel.close())

/** Waits for a condition that the kernel or a thread brings about by itself. */
async function eventually(what: string, holds: () => boolean): Promise<void> {
  for (let i = 0; i < 400; i++) {
    if (holds()) return
    await new Promise(resolve => setTimeout(resolve, 10))
  }
  throw new Error(`did not come about: ${what}`)
}

test('two pods and the node reach each other over IPv4 and IPv6, from the first packet on', async () => {
  const { kernel } = world
  const [a, b] = [podSpec(1, world.addNamespace('a')), podSpec(2, world.addNamespace('b'))]
  await kernel.attachPod(a, [])
  await kernel.attachPod(b, [])
  for (const target of ['10.64.0.2', 'fd64::2']) {
    sh(`ip netns exec a ping -c1 -W1 ${target}`)
    sh(`ping -c1 -W1 ${target}`)
  }
  for (const target of ['192.0.2.1', '2001:db8::1']) sh(`ip netns exec a ping -c1 -W1 ${target}`)
  for (const spec of [a, b]) await kernel.detachPod(spec, [])
  assert.throws(() => sh('ping -c1 -W1 10.64.0.2'))
  await kernel.reapLinks([])
  for (const name of ['a', 'b']) world.removeNamespace(name)
})

test('CNI-080: a default route of another network stays, and ours is added beside it', async () => {
  const netns = world.addNamespace('two')
  sh(`ip -n two link add other type bridge; ip -n two link set other up
      ip -n two addr add 198.51.100.2/24 dev other; ip -n two addr add 2001:db8:5::2/64 dev other nodad
      ip -n two route add default via 198.51.100.1; ip -n two -6 route add default via 2001:db8:5::1`)
  const spec = podSpec(3, netns)
  await world.kernel.attachPod(spec, [])
  for (const family of ['-4', '-6']) {
    const routes = sh(`ip -n two ${family} route show default`)
    assert.match(routes, /dev other/)
    assert.match(routes, /dev eth0/)
    assert.not.match(routes, /nexthop/)
    assert.match(
      sh(`ip -n two ${family} route get ${family === '-4' ? '203.0.113.1' : '2001:db8:9::1'}`),
      /dev other/,
    )
  }
  const second = podSpec(4, netns, { podInterface: 'eth1' })
  await world.kernel.attachPod(second, [])
  assert.match(sh('ip -n two route show default'), /dev eth1/)
  for (const each of [spec, second]) await world.kernel.detachPod(each, [])
  await world.kernel.reapLinks([])
  world.removeNamespace('two')
})

test('CNI-082: IPv6 works although a sysctl had disabled it, without detection, and takes no advertisements', async () => {
  const netns = world.addNamespace('six')
  sh(`ip netns exec six sysctl -qw net.ipv6.conf.default.disable_ipv6=1
      sysctl -qw net.ipv6.conf.default.disable_ipv6=1`)
  const spec = podSpec(5, netns)
  await world.kernel.attachPod(spec, [])
  sh('sysctl -qw net.ipv6.conf.default.disable_ipv6=0')
  const { pod } = await world.kernel.inspectPod(netns, 'eth0')
  const address = pod?.addresses.find(({ address }) => address === 'fd64::5')
  assert.equal([address?.tentative, address?.nodad], [false, true])
  assert.is(sh('ip netns exec six cat /proc/sys/net/ipv6/conf/eth0/accept_ra').trim(), '0')
  sh('ip netns exec six ping -c1 -W1 2001:db8::1')
  await world.kernel.detachPod(spec, [])
  await world.kernel.reapLinks([])
  world.removeNamespace('six')
})

test('where arp_ignore is set, the gateway address stands on the host end', async () => {
  const spec = podSpec(6, world.addNamespace('arp'), { gatewayOnHostEnd: true })
  await world.kernel.attachPod(spec, [])
  sh('sysctl -qw net.ipv4.conf.all.arp_ignore=1')
  // The pod's permanent entry is gone, as after a change of its MAC: ordinary ARP must heal it.
  sh('ip -n arp neigh del 169.254.1.1 dev eth0; ip netns exec arp ping -c1 -W2 192.0.2.1')
  sh('sysctl -qw net.ipv4.conf.all.arp_ignore=0')
  await world.kernel.detachPod(spec, [])
  await world.kernel.reapLinks([])
  world.removeNamespace('arp')
})

test('a path that is no namespace, and the own one, are refused', async () => {
  mkdirSync('/run/netns', { recursive: true })
  writeFileSync('/run/netns/stale', '')
  const codeOf = async (path: string) => {
    const spec = podSpec(7, { path, dev: null, ino: null })
    const error = await world.kernel.attachPod(spec, []).then(
      () => null,
      error => error,
    )
    return isTwillError(error) ? error.code : String(error)
  }
  assert.is(await codeOf('/run/netns/stale'), 'kernel.netns-gone')
  assert.is(await codeOf('/proc/thread-self/ns/net'), 'kernel.netns-mismatch')
  assert.is((await world.kernel.readLinks()).length, 1)
})

test('an attach that fails half-way leaves nothing', async () => {
  const netns = world.addNamespace('half')
  const spec = podSpec(8, netns, { mtu: 1000 })
  // IPv6 needs 1280 octets: the kernel takes the link, and refuses the address.
  const error = await world.kernel.attachPod(spec, []).catch(error => error)
  assert.is(isTwillError(error) && error.code, 'kernel.failed', String(error))
  assert.is((await world.kernel.readLinks()).length, 1)
  assert.is((await world.kernel.inspectPod(netns, 'eth0')).pod, null)
  world.removeNamespace('half')
})

test('a pod moved into REAP_GROUP before a restart is finished by the next process', async () => {
  const spec = podSpec(9, world.addNamespace('restart'))
  await world.kernel.attachPod(spec, [])
  sh(`ip link set ${spec.hostInterface} group ${REAP_GROUP}`)
  assert.equal((await world.kernel.reapLinks([])).deleted, [spec.hostInterface])
  world.removeNamespace('restart')
})

test('flows of an address are forgotten with the links, and not while DEL waits', async () => {
  const specs = [podSpec(10, world.addNamespace('flow')), podSpec(11, world.addNamespace('stays'))]
  for (const spec of specs) await world.kernel.attachPod(spec, [])
  sh('conntrack -F 2>&1')
  for (const [from, to] of [
    ['10.64.0.10', '192.0.2.1'],
    ['10.64.0.11', '192.0.2.1'],
    ['fd64::a', '2001:db8::1'],
    ['fd64::b', '2001:db8::1'],
  ])
    sh(`conntrack -I -p udp -s ${from} -d ${to} --sport 7 --dport 9 --timeout 60 2>&1`)
  // Some versions list both families at once.
  const flows = () => [
    ...new Set(sh('(conntrack -L; conntrack -L -f ipv6) 2>/dev/null').match(/src=(10.64|fd64)\S+/g)),
  ]
  const before = flows()
  assert.is(before.length, 4)
  await world.kernel.detachPod(specs[0]!, [])
  assert.equal(flows(), before)
  await world.kernel.reapLinks(['10.64.0.10', 'fd64::a'])
  assert.equal(flows().sort(), ['src=10.64.0.11', 'src=fd64::b'])
  await world.kernel.detachPod(specs[1]!, [])
  await world.kernel.reapLinks(['10.64.0.11', 'fd64::b'])
  for (const name of ['flow', 'stays']) world.removeNamespace(name)
})

test('200 pods attached and detached at once leave nothing', async () => {
  const { kernel } = world
  const count = 200
  const specs = Array.from({ length: count }, (_, i) => podSpec(300 + i, world.addNamespace(`p${i}`)))
  await Promise.all(specs.map(spec => kernel.attachPod(spec, [])))
  assert.is((await kernel.readRoutes({ protocol: ROUTE_PROTOCOL })).length, 2 * count)
  await Promise.all(specs.map(spec => kernel.detachPod(spec, [])))
  assert.is((await kernel.reapLinks([])).deleted.length, count)
  assert.equal(
    (await kernel.readLinks()).map(({ name }) => name),
    ['lo'],
  )
  assert.equal(await kernel.readRoutes({ protocol: ROUTE_PROTOCOL }), [])
  assert.equal(
    (await kernel.readNeighbours()).filter(({ permanent }) => permanent),
    [],
  )
  for (let i = 0; i < count; i++) world.removeNamespace(`p${i}`)
})

test('a VXLAN device gets no link-local address of its own, whatever is switched when', async () => {
  const { kernel } = world
  const vxlan = { vni: 9, port: 4789, local: '192.0.2.1', underlay: null, learning: false }
  const steps = [
    {
      type: 'vxlan.add',
      name: 'twill-vx4',
      mac: '02:00:00:00:aa:01',
      mtu: 1450,
      alias: 'twill:vxlan',
      vxlan,
    },
    { type: 'link.set', device: 'twill-vx4', up: true },
  ] as const
  for (const { error } of await kernel.apply(steps)) assert.is(error, null)
  const own = (await kernel.readAddresses()).filter(({ device }) => device === 'twill-vx4')
  assert.equal(own, [])
  await kernel.apply([{ type: 'link.delete', device: 'twill-vx4' }])
})

test('10,000 routes are applied and read back', async () => {
  const routes = Array.from(
    { length: 10_000 },
    (_, i) => `10.${100 + (i >> 12)}.${(i >> 4) & 255}.${(i & 15) << 4}/28`,
  )
  const step = (type: 'route.replace' | 'route.delete') => (dst: string) =>
    ({ type, route: { family: 4, dst, type: 'blackhole' } }) as const
  const outcomes = await world.kernel.apply(routes.map(step('route.replace')))
  assert.equal(
    outcomes.filter(({ error }) => error !== null),
    [],
  )
  assert.is((await world.kernel.readRoutes({ protocol: ROUTE_PROTOCOL })).length, routes.length)
  await world.kernel.apply(routes.map(step('route.delete')))
  assert.equal(await world.kernel.readRoutes({ protocol: ROUTE_PROTOCOL }), [])
})

test('what others change is heard, domain by domain, and a MAC changed inside a pod too', async () => {
  const { kernel } = world
  const spec = podSpec(10, world.addNamespace('heard'))
  const { hostIndex } = await kernel.attachPod(spec, [])
  const heard: KernelEvent[] = []
  const watch = kernel.watch(event => heard.push(event))
  const changed = (domain: string) => () =>
    heard.some(event => event.type === 'changed' && event.domain === domain && event.own !== true)
  const damage: [string, string][] = [
    ['link', `ip link set ${spec.hostInterface} mtu 1400`],
    ['address', 'ip addr add 192.0.2.7/32 dev lo'],
    ['route', 'ip route add blackhole 10.66.0.0/24'],
    ['neighbour', `ip neigh del 10.64.0.10 dev ${spec.hostInterface}`],
    ['netfilter', 'nft add table inet twill'],
    ['netfilter', 'nft delete table inet twill'],
  ]
  for (const [domain, command] of damage) {
    await new Promise(resolve => setTimeout(resolve, 60))
    heard.length = 0
    sh(command)
    await eventually(`${domain} by ${command}`, changed(domain))
  }
  sh('ip link add twill-vx4 type vxlan id 84 dstport 4789 local 192.0.2.1; ip link set twill-vx4 up')
  heard.length = 0
  sh('bridge fdb append 02:00:00:00:00:09 dev twill-vx4 dst 192.0.2.9')
  await eventually('fdb', changed('fdb'))
  sh('ip -n heard link set eth0 address 02:00:00:00:99:99')
  await eventually('pod-mac', () =>
    heard.some(
      e =>
        e.type === 'pod-mac' &&
        e.hostIndex === hostIndex &&
        e.hostInterface === spec.hostInterface &&
        e.mac === '02:00:00:00:99:99',
    ),
  )
  await watch.close()
  sh('ip link del twill-vx4; ip route del blackhole 10.66.0.0/24; ip addr del 192.0.2.7/32 dev lo')
  await kernel.detachPod(spec, [])
  await kernel.reapLinks([])
  world.removeNamespace('heard')
})

test('our own changes are told from those of others', async () => {
  const heard: KernelEvent[] = []
  await new Promise(resolve => setTimeout(resolve, 60))
  const watch = world.kernel.watch(event => heard.push(event))
  const route = { family: 4, dst: '10.67.0.0/24', type: 'blackhole' } as const
  await world.kernel.apply([{ type: 'route.replace', route }])
  await eventually('own route', () =>
    heard.some(e => e.type === 'changed' && e.domain === 'route' && e.own === true),
  )
  await world.kernel.apply([{ type: 'route.delete', route }])
  await watch.close()
})

test.run()
