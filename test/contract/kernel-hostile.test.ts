/** What root in a pod may do to its own namespace, and what that must not do to the node or to other pods. Needs root. */
import { setTimeout as sleep } from 'node:timers/promises'
import { test } from 'uvu'
import * as assert from 'uvu/assert'
import type { KernelEvent, NetnsRef } from '../../kernel/kernel.ts'
import { enterOwnNamespaces, podSpec, realWorld, refOf, sh } from './kernel-world.ts'

enterOwnNamespaces()
const world = await realWorld()
const { kernel } = world
test.after(() => kernel.close())

const inside = (pod: string, command: string) => sh(`ip netns exec ${pod} sh -ec '${command}'`)

/** Runs `work`, gives the kernel time to tell, and answers which MACs were heard of. */
async function macsHeard(work: () => void): Promise<{ hostIndex: number; mac: string }[]> {
  const events: KernelEvent[] = []
  const watch = kernel.watch(event => events.push(event))
  work()
  await sleep(500)
  await watch.close()
  return events.flatMap(event =>
    event.type === 'pod-mac' ? [{ hostIndex: event.hostIndex, mac: event.mac }] : [],
  )
}

test('a pod that takes IPv6 away from its interface (MTU under 1280) is detached like any other', async () => {
  const netns = world.addNamespace('twxlow')
  const spec = podSpec(1, netns)
  const { netnsCookie } = await kernel.attachPod(spec, [])
  inside('twxlow', 'ip link set eth0 mtu 1000')
  await kernel.detachPod({ ...spec, netnsCookie }, [])
  await kernel.detachPod({ ...spec, netnsCookie }, [])
  assert.equal((await kernel.reapLinks([])).deleted, [spec.hostInterface])
})

test('a pod cannot pass a veth of its own off as the far end of another pod', async () => {
  const victim = await kernel.attachPod(podSpec(2, world.addNamespace('twxvictim')), [])
  await kernel.attachPod(podSpec(3, world.addNamespace('twxthief')), [])
  const forged = '02:00:00:00:66:66'
  const heard = await macsHeard(() => {
    // IFLA_LINK of a veth is its peer's index, in whatever namespace that is, and indices can be asked for.
    inside(
      'twxthief',
      `ip link add forged address ${forged} type veth peer name other index ${victim.hostIndex}`,
    )
    inside('twxthief', 'ip link set forged address 02:00:00:00:66:67; ip link set forged up')
  })
  assert.equal(
    heard.filter(({ hostIndex, mac }) => hostIndex === victim.hostIndex && mac !== victim.podMac),
    [],
  )
})

test('whoever begins to watch hears of MACs that changed before', async () => {
  const pod = await kernel.attachPod(podSpec(5, world.addNamespace('twxearlier')), [])
  await macsHeard(() => inside('twxearlier', 'ip link set eth0 address 02:00:00:00:77:77'))
  const heard = await macsHeard(() => undefined)
  assert.ok(heard.some(({ hostIndex, mac }) => hostIndex === pod.hostIndex && mac === '02:00:00:00:77:77'))
})

test('a pod that changes its MAC all the time is heard of now and then, and last of what it has last', async () => {
  const pod = await kernel.attachPod(podSpec(4, world.addNamespace('twxflap')), [])
  const heard = await macsHeard(() => {
    const many = Array.from(
      { length: 400 },
      (_, i) => `link set eth0 address 02:00:00:01:${hex(i >> 8)}:${hex(i & 255)}`,
    )
    sh(`ip -n twxflap -b - <<'END'\n${many.join('\n')}\nEND`)
  })
  const ours = heard.filter(({ hostIndex }) => hostIndex === pod.hostIndex)
  assert.is(ours.at(-1)?.mac, '02:00:00:01:01:8f')
  assert.ok(ours.length < 100, `heard ${ours.length} times`)
})

const hex = (octet: number) => octet.toString(16).padStart(2, '0')

test('what a pod claims by ARP the node does not learn, also without rp_filter', async () => {
  sh('sysctl -qw net.ipv4.conf.all.rp_filter=0 net.ipv4.conf.default.rp_filter=0')
  sh('ip addr replace 169.254.1.1/32 dev lo scope link')
  const spec = podSpec(6, world.addNamespace('twxclaim'))
  await kernel.attachPod(spec, [])
  const ask = (source: string) =>
    inside('twxclaim', `busybox arping -c1 -w1 -I eth0 -s ${source} 169.254.1.1 || true`)
  inside('twxclaim', 'ip addr add 10.99.0.1/32 dev eth0')
  assert.match(ask('10.64.0.6'), 'Received 1 response')
  ask('10.99.0.1')
  assert.not.match(sh(`ip neigh show dev ${spec.hostInterface}`), '10.99.0.1')
})

test('a pod full of routes is inspected without harm', async () => {
  const netns = world.addNamespace('twxfull')
  await kernel.attachPod(podSpec(7, netns), [])
  const route = 'printf "route add 10.%d.%d.%d/32 dev eth0\\n", 100 + i / 65536, i / 256 % 256, i % 256'
  sh(`awk 'BEGIN { for (i = 0; i < 600000; i++) ${route} }' | ip -n twxfull -b -`)
  const { pod } = await kernel.inspectPod(netns, 'eth0')
  assert.ok(pod)
  for (const gateway of ['169.254.1.1', 'fe80::1'])
    assert.ok(
      pod.routes.some(each => each.gateway === gateway),
      gateway,
    )
})

test('a path that is a pipe is refused and keeps nobody waiting', async () => {
  sh('mkfifo /run/netns/twxpipe')
  const pipe: NetnsRef = refOf('/run/netns/twxpipe')
  const refused = await Promise.race([
    kernel.netnsCookie(pipe).then(
      () => 'entered',
      () => 'refused',
    ),
    sleep(5000, 'stuck'),
  ])
  if (refused === 'stuck') sh('exec 3<>/run/netns/twxpipe; sleep 0.2')
  assert.is(refused, 'refused')
})

test.run()
